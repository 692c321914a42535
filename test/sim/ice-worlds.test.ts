// 20 s. Random worlds by seed against the oracle: kinds, distances, loss, clocks and signalling as they come.
// The long run: ICE_WORLDS=10000 node --import tsx --test test/sim/ice-worlds.test.ts; in parts: ICE_WORLDS=301-1000; one world: ICE_SEED=17.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MILLISECOND, SECOND } from '../../src/core/machine.ts'
import { directPathPossible, kindNames, kinds } from '../../src/sim/index.ts'
import type { Ability, KindName } from '../../src/sim/index.ts'
import { SimRng } from '../../src/sim/rng.ts'
import { Meeting } from './ice-world.ts'

const ABILITIES: readonly Ability[] = [
  'punch',
  'ipv6',
  'nat64',
  'host-candidates',
  'port-mapping',
  'low-ttl',
  'prediction',
  'birthday',
]

/** What it came to: undefined where the oracle is right. */
function play(seed: number): string | undefined {
  const rng = new SimRng(seed).split('world')
  const kind = (): KindName => kindNames[rng.between(0, kindNames.length - 1)]!
  const [a, b] = [kind(), kind()]
  const loss = rng.chance(0.3) ? 0.05 * rng.float() : undefined
  const link = {
    delay: rng.between(1, 60) * MILLISECOND,
    jitter: rng.between(0, 3) * MILLISECOND,
    hops: rng.between(4, 8),
    ...(loss !== undefined && { loss }),
    ...(rng.chance(0.1) && { duplicate: 0.05 }),
    ...(rng.chance(0.1) && { reorder: { probability: 0.05, delay: 5 * MILLISECOND } }),
  }
  const signalling = rng.between(2, 200) * MILLISECOND
  const relayAfter = rng.chance(0.5) ? rng.between(5, 600) * MILLISECOND : undefined
  const knowsFiltering = rng.chance(0.5)
  const late = relayAfter === undefined ? {} : { relayAfter }
  const meeting = new Meeting({ a, b, seed, link, signalling, knowsFiltering, ...late })
  const verdict = directPathPossible(a, b, ABILITIES)
  meeting.connect()
  const where = `seed ${seed}, ${a} → ${b}`
  if (!meeting.world.run(() => meeting.isConnected, 5 * SECOND)) return `${where}: not even relayed`
  if (!verdict.possible) {
    // Beyond the oracle: see ice-pairs.test.ts.
    if (isNarrow(a) && isNarrow(b)) return undefined
    meeting.world.runFor(2 * SECOND)
    return meeting.isDirect ? `${where}: direct, where the oracle says: ${verdict.reason}` : undefined
  }
  // A search misses once in some thousand; what a node then does is to search again.
  if (meeting.world.run(() => meeting.isDirect, 12 * SECOND)) return undefined
  meeting.world.runFor(50 * SECOND)
  meeting.restart()
  if (verdict.by === 'birthday' && meeting.world.run(() => meeting.isDirect, 12 * SECOND)) return undefined
  return `${where}: relayed, where the oracle says: ${verdict.reason}`
}

function isNarrow(name: KindName): boolean {
  const { mapping, ports } = kinds[name].behaviour ?? {}
  return mapping !== 'endpoint-independent' && (ports === 'block' || ports === 'sequential')
}

const only = process.env['ICE_SEED']
const [first = 1, last = 300] = rangeOf(process.env['ICE_WORLDS'])

/** `300`: the first so many; `301-1000`: those seeds. */
function rangeOf(text = '300'): number[] {
  const numbers = text.split('-').map(Number)
  return numbers.length === 1 ? [1, ...numbers] : numbers
}

test(`random worlds ${only ?? `${first} to ${last}`}: direct where the oracle says so, relayed elsewhere`, () => {
  const seeds =
    only === undefined ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : [Number(only)]
  assert.deepEqual(
    seeds.map(play).filter((one) => one !== undefined),
    [],
  )
})
