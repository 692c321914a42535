import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Carrier } from '../../../src/core/machine.ts'
import { planSearch } from '../../../src/ice/hard/plan.ts'
import { Search } from '../../../src/ice/hard/search.ts'
import { defaultExhaustive, type NatHints } from '../../../src/ice/types.ts'
import { SimRng } from '../../../src/sim/rng.ts'

const REMEMBERED = 30e6

/** All that a search sends when nothing is ever hit: when, from which socket, to which port. */
function play(local: NatHints, remote: NatHints): { at: number; flow: string }[] {
  const plan = planSearch({
    local,
    remote,
    named: [{ type: 'srflx', address: '198.51.100.11', port: 40_000, foundation: '1', priority: 1 } as never],
    controlling: true,
    exhaustive: defaultExhaustive,
    rng: new SimRng(7),
  })
  assert.ok(plan !== undefined)
  const sent: { at: number; flow: string }[] = []
  const wanted: number[] = []
  const names = new Map<Carrier | undefined, number>([[undefined, 0]])
  const search = new Search(0, plan, {
    wantSockets: (count) => wanted.push(count),
    probe: (at, via, { port }) => sent.push({ at, flow: `${names.get(via)} ${port}` }) > 0,
    report: () => undefined,
  })
  for (let left = wanted[0] ?? 0; left > 0; left--) {
    const socket = {} as Carrier
    names.set(socket, names.size)
    assert.ok(search.addSocket(0, socket))
  }
  while (search.active) search.handleTimeout(search.deadline)
  assert.equal(search.report.state, 'exhausted')
  assert.equal(sent.length, search.report.budget)
  return sent
}

/** Where a NAT remembers the flow, the same one again is no new guess. */
function assertNoFlowTwice(sent: readonly { at: number; flow: string }[]): void {
  const last = new Map<string, number>()
  for (const { at, flow } of sent) {
    const before = last.get(flow)
    assert.ok(before === undefined || at - before > REMEMBERED, `${flow} at ${before} and ${at}`)
    last.set(flow, at)
  }
}

test('an exhaustive search opens a new flow with every packet', () => {
  const random: NatHints = { mapping: 'address-and-port-dependent', ports: 'random' }
  assertNoFlowTwice(play(random, random))
})

test('so does a search among few ports', () => {
  const mapping = 'address-and-port-dependent'
  const block: NatHints = { mapping, ports: 'block', lastPort: 5_000 }
  const sequential: NatHints = { mapping, ports: 'sequential', step: 1, lastPort: 5_000 }
  assertNoFlowTwice(play(block, block))
  assertNoFlowTwice(play(block, sequential))
  assertNoFlowTwice(play(sequential, block))
})

test('a peer that opens late is met all the same: what its NAT gives next is tried again half a second later', () => {
  const known: NatHints = { mapping: 'endpoint-independent' }
  const sequential: NatHints = {
    mapping: 'address-and-port-dependent',
    ports: 'sequential',
    step: 1,
    lastPort: 5_000,
  }
  const sent = play(known, sequential)
  for (let port = 5_001; port <= 5_256; port++) {
    const times = sent.filter(({ flow }) => flow === `0 ${port}`).map(({ at }) => at)
    assert.ok(
      times.length >= 2 && (times[1] ?? 0) - (times[0] ?? 0) > 500_000,
      `${port} at ${times.join(', ')}`,
    )
  }
})
