import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Pair, pattern, writer } from '../unit/utp/harness.ts'
import type { UtpConnection } from '../../src/utp/index.ts'
import { seededRng } from '../unit/utp/harness.ts'

/**
 * Whatever the network does to single datagrams for a while, both sides get exactly the bytes the other wrote, in order,
 * and both connections close without an error. After 200 fates the network is good, so that a run ends.
 */
test('any interleaving of loss, duplication and reordering delivers exactly what was written', () => {
  const fate = fc.oneof(
    { weight: 6, arbitrary: fc.constant<number[]>([10_000]) },
    { weight: 2, arbitrary: fc.constant<number[]>([]) },
    { weight: 1, arbitrary: fc.constant<number[]>([10_000, 10_000]) },
    { weight: 1, arbitrary: fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 3 }) },
  )
  fc.assert(
    fc.property(
      fc.array(fate, { maxLength: 200 }),
      fc.integer({ min: 0, max: 150_000 }),
      fc.integer({ min: 0, max: 150_000 }),
      fc.integer({ min: 1, max: 5_000 }),
      fc.integer({ min: 2_048, max: 60_000 }),
      fc.nat(),
      (fates, forthSize, backSize, pieces, receiveBuffer, seed) => {
        let next = 0
        const connection = { receiveBuffer, connectTimeout: 1e9, idleTimeout: 1e9 }
        const pair = new Pair(
          { delay: 10_000, fate: () => fates[next++] ?? [10_000] },
          { seed, a: { connection }, b: { connection } },
        )
        const forth = pattern(forthSize, 1)
        const back = pattern(backSize, 2)
        const a = pair.a.machine.connect(pair.now, pair.b.path)
        const pump = new Map<UtpConnection, () => void>([[a, sending(pair, a, forth, pieces)]])
        pair.onEvent = (_side, event) => {
          if (event.type === 'incoming')
            pump.set(event.connection, sending(pair, event.connection, back, pieces))
          if (event.type !== 'closed') pump.get(event.connection)?.()
        }
        pump.get(a)?.()
        pair.run(() => pair.a.had('closed') && pair.b.had('closed'), 1e10)
        const b = pair.b.last('closed').connection
        assert.equal(Buffer.compare(pair.b.bytesOf(b), forth), 0, 'a to b')
        assert.equal(Buffer.compare(pair.a.bytesOf(a), back), 0, 'b to a')
        for (const side of [pair.a, pair.b]) {
          assert.equal('error' in side.last('closed'), false)
          assert.deepEqual(
            side.types().filter((type) => !['readable', 'writable', 'stalled'].includes(type)),
            [side === pair.a ? 'connected' : 'incoming', 'ended', 'closed'],
          )
        }
        pair.pass(60_000_000)
        for (const side of [pair.a, pair.b]) {
          assert.equal(side.machine.stats.connections, 0)
          assert.equal(side.machine.stats.receiveBytes, 0)
          assert.equal(side.machine.pollTimeout(), undefined)
        }
      },
    ),
    { numRuns: 150 },
  )
})

/** Writes in pieces until all is written, then ends. */
function sending(pair: Pair, connection: UtpConnection, bytes: Uint8Array, piece: number): () => void {
  let at = 0
  return () => {
    while (at < bytes.length) {
      const taken = connection.write(pair.now, bytes.subarray(at, at + piece))
      at += taken
      if (taken === 0) return
    }
    connection.end(pair.now)
  }
}

test('sequence numbers wrap in the middle of a lossy stream', () => {
  const random = seededRng(3)
  // 70,000 packets of about 150 bytes pass every number once, and then some.
  const pair = new Pair({
    delay: 1_000,
    fate: () => {
      const draw = random.uint32() % 100
      return draw < 2 ? [] : draw < 4 ? [1_000 + (random.uint32() % 3_000)] : [1_000]
    },
  })
  const [a, b] = pair.connected({ maxDatagramSize: 150 })
  const bytes = pattern(9_500_000)
  const write = writer(a, bytes)
  pair.keepSent = false
  pair.onEvent = () => {
    if (write(pair.now)) a.end(pair.now)
  }
  pair.onEvent(pair.a, pair.a.last('connected'))
  pair.run(() => pair.b.had('ended'), 1e10)
  assert.equal(Buffer.compare(pair.b.bytesOf(b), bytes), 0)
  assert.ok(a.stats.packetsSent > 70_000, `${a.stats.packetsSent}`)
  assert.ok(a.stats.retransmissions > 500, `${a.stats.retransmissions}`)
})

test('timestamps wrap without a stir', () => {
  const pair = new Pair({ delay: 20_000 })
  // 100 ms before the 32 bits are used up.
  pair.now = 2 ** 32 - 100_000
  const [a, b] = pair.connected()
  const bytes = pattern(2_000_000)
  const write = writer(a, bytes)
  pair.onEvent = () => {
    if (write(pair.now)) a.end(pair.now)
  }
  pair.onEvent(pair.a, pair.a.last('connected'))
  pair.run(() => pair.b.had('ended'))
  assert.ok(pair.now > 2 ** 32)
  assert.equal(Buffer.compare(pair.b.bytesOf(b), bytes), 0)
  assert.equal(a.stats.retransmissions, 0)
  assert.equal(a.stats.smoothedRtt, 40_000)
})
