import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MILLISECOND, SECOND } from '../../src/core/index.ts'
import { World, type LinkOptions } from '../../src/sim/index.ts'
import { bottleneck, RenoFlow, Source, startFlow, transfer, UtpHost } from './utp-model.ts'

test('0–20 % loss and 1–500 ms round trips: everything arrives, and the same seed is the same run', () => {
  for (const loss of [0, 0.01, 0.05, 0.2]) {
    for (const rtt of [1, 50, 500]) {
      const link = { delay: (rtt * MILLISECOND) / 2, loss }
      const first = transfer(17, 200_000, link)
      assert.ok(first.intact, `${loss} ${rtt}`)
      const again = transfer(17, 200_000, link)
      assert.deepEqual(again, first, `${loss} ${rtt}`)
      if (loss > 0) assert.notEqual(transfer(18, 200_000, link).trace, first.trace)
      else assert.equal(first.retransmissions, 0, `${rtt}`)
    }
  }
})

test('bursts of loss, reordering, duplicates, jitter and a short queue together: everything arrives', () => {
  const links: LinkOptions[] = [
    { delay: 20_000, loss: { goodToBad: 0.01, badToGood: 0.2 } },
    { delay: 20_000, reorder: { probability: 0.1, delay: 15_000 }, duplicate: 0.05, jitter: 5_000 },
    { delay: 5_000, rate: 2e6, queue: { packets: 5 } },
    { delay: 40_000, rate: 1e7, queue: { packets: 20 }, loss: 0.02, jitter: 20_000, duplicate: 0.01 },
    { delay: 10_000, mtu: 1_400, tooBig: 'drop', loss: 0.02 },
  ]
  links.forEach((link, i) => {
    const result = transfer(i, 500_000, link)
    assert.ok(result.intact, JSON.stringify(link))
  })
})

test('reordering alone costs few retransmissions', () => {
  const result = transfer(3, 2_000_000, { delay: 20_000, reorder: { probability: 0.05, delay: 8_000 } })
  assert.ok(result.intact)
  assert.ok(result.retransmissions < result.packets * 0.02, `${result.retransmissions} of ${result.packets}`)
})

test('an idle path carries a bulk transfer at its rate, and LEDBAT keeps the queue near its target', () => {
  const rate = 10e6
  const { world, flows } = bottleneck(1, rate, 2_000_000, ['ledbat'])
  let largest = 0
  world.run(10 * SECOND)
  const before = flows[0]!.sink.bytes
  for (let second = 0; second < 40; second++) {
    world.runFor(SECOND)
    largest = Math.max(largest, flows[0]!.connection!.stats.smoothedRtt)
  }
  const share = ((flows[0]!.sink.bytes - before) * 8) / 40 / rate
  assert.ok(share > 0.8, `${share}`)
  // 40 ms of path and at most the target of 25 ms, with some room for the filter.
  assert.ok(largest < 90 * MILLISECOND, `${largest}`)
})

test('LEDBAT gives way: a Reno flow beside it keeps nine tenths of what it has alone', () => {
  const rate = 10e6
  // A queue of 300 ms, as home routers have: more than LEDBAT's target.
  const alone = bottleneck(2, rate, 375_000, [])
  const lone = new RenoFlow(alone.world, alone.left, alone.right, 4000)
  lone.start(0)
  alone.world.run(60 * SECOND)
  const shared = bottleneck(2, rate, 375_000, ['ledbat'])
  const reno = new RenoFlow(shared.world, shared.left, shared.right, 4000)
  shared.world.run(20 * SECOND)
  const ledbatAlone = shared.flows[0]!.sink.bytes
  reno.start(shared.world.now)
  shared.world.runFor(60 * SECOND)
  assert.ok(ledbatAlone * 8 > 20 * rate * 0.6, `LEDBAT was at work: ${ledbatAlone}`)
  assert.ok(reno.delivered > 0.9 * lone.delivered, `${reno.delivered} beside it, ${lone.delivered} alone`)
})

test('two LEDBAT flows share a bottleneck', () => {
  const { world, flows } = bottleneck(4, 4e6, 150_000, ['ledbat', 'ledbat'])
  world.run(20 * SECOND)
  const before = flows.map((flow) => flow.sink.bytes)
  world.runFor(60 * SECOND)
  const shares = flows.map((flow, i) => flow.sink.bytes - before[i]!)
  const sum = shares.reduce((a, b) => a + b)
  const jain = sum ** 2 / (shares.length * shares.reduce((a, b) => a + b * b, 0))
  assert.ok(jain > 0.9, shares.join(' '))
  assert.ok((sum * 8) / 60 > 0.8 * 4e6, `${sum}`)
})

test('clocks that drift apart do not starve LEDBAT', () => {
  for (const ppm of [-200, 200]) {
    const { world, flows } = bottleneck(5, 4e6, 150_000, ['ledbat'], ppm)
    world.run(30 * SECOND)
    const before = flows[0]!.sink.bytes
    world.runFor(30 * SECOND)
    const share = ((flows[0]!.sink.bytes - before) * 8) / 30 / 4e6
    assert.ok(share > 0.8, `${ppm} ppm: ${share}`)
  }
})

test('a connection lives through an outage of 12 seconds', () => {
  const world = new World({ seed: 6 })
  const a = new UtpHost(world.host('a', { addresses: ['192.0.2.1'] }))
  const b = new UtpHost(world.host('b', { addresses: ['192.0.2.2'] }))
  const link = world.link(a.host, b.host, { delay: 20_000, rate: 10e6 })
  const flow = startFlow(world, a, b, new Source(10_000_000))
  world.run(2 * SECOND)
  link.down()
  world.runFor(12 * SECOND)
  const stalled = flow.sink.bytes
  link.up()
  assert.ok(world.run(() => flow.sink.ended, 60 * SECOND))
  assert.ok(stalled < 10_000_000)
  assert.equal(flow.sink.bytes, 10_000_000)
  assert.equal(flow.sink.hash, flow.source.hash)
})
