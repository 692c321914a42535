import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Carrier } from '../../../src/core/machine.ts'
import { planSearch, type Plan } from '../../../src/ice/hard/plan.ts'
import { Search } from '../../../src/ice/hard/search.ts'
import { defaultExhaustive, type NatHints } from '../../../src/ice/types.ts'
import { SimRng } from '../../../src/sim/rng.ts'

const REMEMBERED = 30e6

const planOf = (local: NatHints, remote: NatHints): Plan | undefined =>
  planSearch({
    local,
    remote,
    named: [{ type: 'srflx', address: '198.51.100.11', port: 40_000, foundation: '1', priority: 1 } as never],
    controlling: true,
    exhaustive: defaultExhaustive,
    rng: new SimRng(7),
  })

/** All that a search sends when nothing is ever hit: when, from which socket, to which port. */
function play(local: NatHints, remote: NatHints): { at: number; flow: string }[] {
  const plan = planOf(local, remote)
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

test('while nobody knows the peer’s NAT, the ports that follow its last one come first, none twice, and not those of its checks', () => {
  const mapping = 'address-and-port-dependent'
  const ports = play({ mapping: 'endpoint-independent' }, { mapping, lastPort: 5_000 }).map(portOf)
  assert.deepEqual(
    ports.slice(0, 256),
    Array.from({ length: 256 }, (_, n) => 5_033 + n),
  )
  const block = ports.slice(256, 256 + 800)
  assert.ok(block.every((port) => port >= 4_096 && port < 5_120) && block.includes(5_000))
  assert.ok(ports.every((port) => port <= 5_000 || port > 5_032))
  assert.equal(new Set(ports).size, ports.length)
})

test('a rule that the peer learns meanwhile is followed at once', () => {
  const known: NatHints = { mapping: 'endpoint-independent' }
  const unknown: NatHints = { mapping: 'address-and-port-dependent', lastPort: 5_000 }
  const sequential: NatHints = { ...unknown, ports: 'sequential', step: 1, lastPort: 5_300 }
  const [before, after] = [planOf(known, unknown), planOf(known, sequential)]
  const sent: number[] = []
  const search = new Search(0, before!, {
    wantSockets: () => undefined,
    probe: (_at, _via, { port }) => sent.push(port) > 0,
    report: () => undefined,
  })
  while (sent.length < 1_200) search.handleTimeout(search.deadline)
  search.learn(after)
  const from = sent.length
  while (sent.length < from + 4) search.handleTimeout(search.deadline)
  // The same again is no news.
  search.learn(planOf(known, sequential))
  while (sent.length < from + 100) search.handleTimeout(search.deadline)
  assert.deepEqual(sent.slice(from, from + 6), [5_301, 5_299, 5_302, 5_298, 5_303, 5_297])
  while (search.active) search.handleTimeout(search.deadline)
  assert.equal(sent.length, before!.budget)
})

const portOf = ({ flow }: { flow: string }): number => Number(flow.split(' ')[1])
