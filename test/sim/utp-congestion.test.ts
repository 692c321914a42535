// The three congestion controllers on simulated paths: how fast, with how much queue, and how they share.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { MILLISECOND, SECOND } from '../../src/core/index.ts'
import type { CongestionName } from '../../src/utp/index.ts'
import { throughputTable } from './utp-congestion-table.ts'
import { bottleneck, RenoFlow } from './utp-model.ts'

/** bit/s of the bottleneck, and its 40 ms of path in bytes. */
const RATE = 8e6
const PRODUCT = (RATE * 0.04) / 8
/** Part of the rate that is payload: headers of uTP, UDP and IP. */
const PAYLOAD = 1_432 / 1_480

test('throughput by loss and round trip is as recorded', () => {
  const file = fileURLToPath(new URL('utp-congestion-table.txt', import.meta.url))
  assert.equal(
    throughputTable(),
    readFileSync(file, 'utf8'),
    'a change of loss recovery or congestion control: look at the difference, then record it with ' +
      '`node --import tsx test/sim/utp-congestion-table.ts`',
  )
})

test('bbr fills the path without filling its queue; cubic fills both', () => {
  const bbr = share(1, PRODUCT, ['bbr'], 20)
  assert.ok(bbr.used > 0.96, `bbr: ${bbr.used}`)
  assert.ok(bbr.queue95 < 20, `bbr: ${bbr.queue95} ms`)
  assert.equal(bbr.lost, 0)
  const cubic = share(1, PRODUCT, ['cubic'], 20)
  assert.ok(cubic.used > 0.94, `cubic: ${cubic.used}`)
  assert.ok(cubic.queue95 > bbr.queue95 && cubic.queue95 < 42, `cubic: ${cubic.queue95} ms`)
  // Eight products of queue, as home routers have: bbr leaves them empty.
  const deep = share(1, 8 * PRODUCT, ['bbr'], 20)
  assert.ok(deep.used > 0.96 && deep.queue95 < 20, `bbr: ${deep.used}, ${deep.queue95} ms`)
  // A tenth of a product, three packets: little to work with, and little is wasted.
  const shallow = share(1, PRODUCT / 10, ['bbr'], 20)
  assert.ok(shallow.used > 0.93 && shallow.lost < 0.08, `bbr: ${shallow.used}, lost ${shallow.lost}`)
})

test('random loss costs bbr what is sent again, and little more', () => {
  for (const [loss, least] of [
    [0.01, 0.95],
    [0.05, 0.9],
    [0.1, 0.83],
  ] as const) {
    const { used } = share(2, PRODUCT, ['bbr'], 20, loss)
    assert.ok(used > least, `${loss}: ${used}`)
  }
})

test('flows of one kind share fairly, and three bbr flows overflow a short queue rarely', () => {
  for (const name of ['bbr', 'cubic'] as const) {
    for (const products of [1, 4]) {
      const { jain, used, lost } = share(3, products * PRODUCT, [name, name, name], 40)
      assert.ok(jain > 0.9, `${name}, ${products}: ${jain}`)
      assert.ok(used > 0.95, `${name}, ${products}: ${used}`)
      assert.ok(lost < 0.08, `${name}, ${products}: ${lost}`)
    }
  }
})

test('with a home router’s queue bbr and cubic leave each other a fair part', () => {
  const { shares } = share(4, 4 * PRODUCT, ['bbr', 'cubic'], 60)
  for (const part of shares) assert.ok(part > 0.25, shares.join(' '))
})

test('a bbr flow leaves Reno alive where the queue is deep', () => {
  const { world, left, right, flows } = bottleneck(5, RATE, 4 * PRODUCT, ['bbr'])
  const reno = new RenoFlow(world, left, right, 4000)
  reno.start(SECOND)
  world.run(10 * SECOND)
  const before = [flows[0]!.sink.bytes, reno.delivered]
  world.runFor(60 * SECOND)
  const shares = [flows[0]!.sink.bytes - before[0]!, reno.delivered - before[1]!]
  assert.ok(Math.min(...shares) > 0.15 * (shares[0]! + shares[1]!), shares.join(' '))
})

test('ledbat gives way to bbr and cubic', () => {
  for (const name of ['bbr', 'cubic'] as const) {
    const [main, background] = share(6, 8 * PRODUCT, [name, 'ledbat'], 60).shares
    assert.ok(main! > 0.85, `${name}: ${main} beside ${background}`)
  }
})

interface Share {
  /** Part of the path's payload rate that each flow got, and all together. */
  readonly shares: readonly number[]
  readonly used: number
  readonly jain: number
  /** Part of the packets that were found lost. */
  readonly lost: number
  /** Milliseconds that the first flow waited in queues, 95th percentile. */
  readonly queue95: number
}

/** Flows of these kinds through one bottleneck; counts `seconds` after the first ten. */
function share(
  seed: number,
  queueBytes: number,
  names: readonly CongestionName[],
  seconds: number,
  loss = 0,
): Share {
  const { world, flows } = bottleneck(seed, RATE, queueBytes, names, 0, loss)
  world.run(10 * SECOND)
  const stats = () => flows.map((flow) => ({ bytes: flow.sink.bytes, ...flow.connection!.stats }))
  const before = stats()
  const queues: number[] = []
  for (let i = 0; i < seconds * 20; i++) {
    world.runFor(50 * MILLISECOND)
    queues.push((flows[0]!.connection!.stats.smoothedRtt - 40 * MILLISECOND) / MILLISECOND)
  }
  const after = stats()
  const shares = after.map((one, i) => ((one.bytes - before[i]!.bytes) * 8) / seconds / RATE / PAYLOAD)
  const used = sum(shares)
  const grown = (key: 'lostPackets' | 'packetsSent'): number =>
    sum(after.map((one, i) => one[key] - before[i]![key]))
  return {
    shares,
    used,
    jain: used ** 2 / (shares.length * sum(shares.map((one) => one * one))),
    lost: grown('lostPackets') / grown('packetsSent'),
    queue95: queues.toSorted((a, b) => a - b)[Math.floor(queues.length * 0.95)]!,
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0)
}
