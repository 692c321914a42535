// The reference punch gets through exactly where the oracle says that simple punching can.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  directPathPossible,
  kindNames,
  pairScenario,
  PunchPeer,
  runScenario,
  scenarios,
  SIMPLE_PUNCH,
} from '../../src/sim/index.ts'
import type { Ability, KindName, Scenario } from '../../src/sim/index.ts'
import { encode } from '../../src/sim/reference/wire.ts'

describe('the scenarios that simulator and laboratory share', () => {
  for (const scenario of scenarios) {
    test(`${scenario.name}: ${scenario.summary}`, () => {
      for (let seed = 1; seed <= 20; seed++) {
        const { result } = runScenario(scenario, { seed })
        assert.deepEqual(result.failures, [], `seed ${seed}`)
      }
    })
  }
})

const DIAL: readonly Ability[] = SIMPLE_PUNCH.filter((one) => one !== 'punch')

/** Every ordered pair whose run disagrees with the oracle. */
function disagreements(
  abilities: readonly Ability[],
  late: boolean,
  build: (a: KindName, b: KindName, direct: boolean) => Scenario,
  seeds: readonly number[],
): string[] {
  return kindNames.flatMap((a) =>
    kindNames.flatMap((b) => {
      const verdict = directPathPossible(a, b, abilities, { late })
      const scenario = build(a, b, verdict.possible)
      return seeds.flatMap((seed) =>
        runScenario(scenario, { seed }).result.failures.map(
          (failure) => `${a} → ${b}, seed ${seed}: ${failure}; the oracle: ${verdict.reason}`,
        ),
      )
    }),
  )
}

test('both dial: every ordered pair of kinds does what the oracle says', () => {
  const build = (a: KindName, b: KindName, direct: boolean): Scenario =>
    pairScenario(a, b, direct, SIMPLE_PUNCH)
  assert.deepEqual(disagreements(SIMPLE_PUNCH, false, build, [1, 2]), [])
})

test('only A dials: every ordered pair of kinds does what the oracle says', () => {
  const build = (a: KindName, b: KindName, direct: boolean): Scenario => pairScenario(a, b, direct, DIAL)
  assert.deepEqual(disagreements(DIAL, false, build, [1, 2]), [])
})

test('B starts late: every ordered pair of kinds does what the oracle says, with a low TTL and without', () => {
  for (const openingTtl of [undefined, 5]) {
    const abilities: Ability[] = openingTtl === undefined ? [...SIMPLE_PUNCH] : [...SIMPLE_PUNCH, 'low-ttl']
    const build = (a: KindName, b: KindName, direct: boolean): Scenario => ({
      name: `late-${a}-${b}`,
      summary: 'B starts late.',
      kinds: { a, b },
      steps: [
        { do: 'start', who: 'b', dials: true, late: 300 },
        { do: 'start', who: 'a', dials: true, ...(openingTtl !== undefined && { openingTtl }) },
        { do: 'expect', direct, within: 3000 },
      ],
    })
    assert.deepEqual(disagreements(abilities, true, build, [1]), [])
  }
})

test('the same seed gives the same run, packet by packet', () => {
  const scenario = pairScenario('cgn-cone', 'symmetric-literal', false, SIMPLE_PUNCH)
  const run = (seed: number): string => runScenario(scenario, { seed }).world.trace.hash
  assert.equal(run(7), run(7))
  assert.notEqual(run(7), run(8))
})

test('an address that is named later is punched at once, not at the next try', () => {
  const helper = { address: '192.0.2.1', port: 3478 }
  const peer = new PunchPeer({ session: new Uint8Array(8), side: 0, helpers: [helper], dials: true })
  const sentTo = (): string[] => {
    const remotes: string[] = []
    for (let out = peer.pollTransmit(); out; out = peer.pollTransmit()) remotes.push(out.path.remote.address)
    return remotes
  }
  const introduce = (now: number, ...addresses: string[]): string[] => {
    const named = addresses.map((address) => ({ address, port: 1315 }))
    const message = encode({ type: 'introduce', key: new Uint8Array(16), addresses: named })
    peer.handleDatagram(now, { remote: helper }, message)
    return sentTo()
  }
  assert.deepEqual(introduce(0, '2001:db8::7'), ['192.0.2.1', '2001:db8::7'])
  assert.deepEqual(introduce(1000, '2001:db8::7', '198.51.100.7'), ['198.51.100.7'])
  assert.deepEqual(introduce(2000, '2001:db8::7', '198.51.100.7'), [])
})
