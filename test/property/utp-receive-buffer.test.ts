import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ReceiveBuffer } from '../../src/utp/receive-buffer.ts'

const pattern = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251)

/** Bytes that say where in the stream they are. */
function piece(from: number, length: number): Uint8Array {
  return pattern.subarray(from % 251, (from % 251) + length)
}

const steps = fc.array(
  fc.oneof(
    fc.record({ op: fc.constant('push' as const), size: fc.integer({ min: 1, max: 9_000 }) }),
    fc.record({ op: fc.constant('push' as const), size: fc.integer({ min: 60_000, max: 140_000 }) }),
    fc.record({
      op: fc.constant('read' as const),
      views: fc.integer({ min: 1, max: 8 }),
      back: fc.boolean(),
    }),
  ),
  { maxLength: 60 },
)

test('bytes come out in order and stay as they are until their reader gives the memory back', () => {
  fc.assert(
    fc.property(steps, steps, (one, other) => {
      // Two buffers that take turns: what one gave back, the other may use.
      const streams = [one, other].map((list) => ({
        ...{ list, buffer: new ReceiveBuffer(), pushed: 0, read: 0 },
        held: [] as { view: Uint8Array; from: number }[],
      }))
      for (let i = 0; i < Math.max(one.length, other.length); i++) {
        for (const stream of streams) {
          const step = stream.list[i]
          if (step === undefined) continue
          if (step.op === 'push') {
            const ahead = Math.min(step.size % 7, stream.pushed)
            stream.buffer.push(piece(stream.pushed - ahead, step.size + ahead), ahead)
            stream.pushed += step.size
            continue
          }
          for (let n = 0; n < step.views; n++) {
            const view = stream.buffer.shift()
            if (view === undefined) break
            stream.held.push({ view, from: stream.read })
            stream.read += view.length
          }
          for (const { view, from } of stream.held) {
            assert.equal(Buffer.compare(view, piece(from, view.length)), 0)
          }
          // The second stream's reader keeps all it ever gets.
          if (!step.back || stream.list === other) continue
          for (const { view } of stream.held) stream.buffer.recycle(view)
          stream.held = []
        }
      }
      for (const { buffer, pushed, read } of streams) assert.equal(buffer.length, pushed - read)
    }),
    { numRuns: 60 },
  )
})
