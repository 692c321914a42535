import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BLOCK, BlockPool } from '../../src/utp/block-pool.ts'
import { SendBuffer } from '../../src/utp/send-buffer.ts'

/** The byte at this place of the stream. */
const byteAt = (place: number): number => (Math.imul(place, 0x9e3779b1) >>> 24) & 0xff

function written(from: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => byteAt(from + i))
}

function assertPacket(buffer: SendBuffer, place: number, from: number, size: number): void {
  const into = new Uint8Array(size + 20)
  buffer.read(place, size, into, 20)
  assert.deepEqual(into.subarray(20), written(from, size))
}

test('what is written, made into packets and read again and again stays what it was until it is released', () => {
  const size = fc.integer({ min: 1, max: 2 * BLOCK + 10 })
  const step = fc.oneof(
    fc.record({ do: fc.constant('write' as const), size }),
    fc.record({ do: fc.constant('packet' as const), size: fc.integer({ min: 1, max: 9_000 }) }),
    fc.record({ do: fc.constant('again' as const), size: fc.nat() }),
    fc.record({ do: fc.constant('release' as const), size: fc.nat({ max: 40 }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const pool = new BlockPool()
      const buffer = new SendBuffer(pool)
      const other = new SendBuffer(pool)
      const packets: { place: number; from: number; size: number }[] = []
      let end = 0
      let sent = 0
      for (const one of steps) {
        if (one.do === 'write') {
          buffer.push(written(end, one.size))
          end += one.size
          // Blocks that go round between connections must not be shared by two.
          other.push(new Uint8Array(one.size).fill(0xff))
          other.release(one.size)
        } else if (one.do === 'packet') {
          const size = Math.min(one.size, end - sent)
          if (size === 0) continue
          packets.push({ place: buffer.take(size), from: sent, size })
          sent += size
        } else if (one.do === 'again') {
          const packet = packets[one.size % packets.length]
          if (packet !== undefined) assertPacket(buffer, packet.place, packet.from, packet.size)
        } else {
          const gone = packets.splice(0, one.size)
          buffer.release(gone.reduce((sum, packet) => sum + packet.size, 0))
        }
        assert.equal(buffer.waiting, end - sent)
        assert.equal(buffer.length, end - sent + packets.reduce((sum, packet) => sum + packet.size, 0))
      }
      for (const { place, from, size } of packets) assertPacket(buffer, place, from, size)
    }),
  )
})

test('places go on past 4 GiB', () => {
  const buffer = new SendBuffer(new BlockPool())
  const piece = new Uint8Array(4 * 1_048_576)
  let before = 0
  for (let end = 0; end <= 2 ** 32; end += piece.length) {
    buffer.push(piece)
    before = buffer.take(piece.length)
    if (end < 2 ** 32 - piece.length) buffer.release(piece.length)
  }
  buffer.push(written(7, 100))
  const place = buffer.take(100)
  assert.ok(before >>> 0 < place >>> 0 && place >>> 0 < 2 ** 24, 'it has wrapped')
  assertPacket(buffer, place, 7, 100)
  buffer.release(2 * piece.length)
  assertPacket(buffer, place, 7, 100)
})
