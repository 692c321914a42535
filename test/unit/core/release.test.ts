import assert from 'node:assert/strict'
import { test } from 'node:test'
import { release } from '../../../src/core/release.ts'

test('a buffer gives its memory back', () => {
  const bytes = Buffer.alloc(65_536, 'x')
  const before = process.memoryUsage().arrayBuffers
  release(bytes)
  assert.deepEqual([bytes.length, bytes.buffer.byteLength], [0, 0])
  assert.ok(process.memoryUsage().arrayBuffers <= before - 60_000)
  release(bytes)
})

test('what is small, or a part of its memory, or shared, stays as it is', () => {
  const small = Buffer.alloc(1_024, 'x')
  const whole = Buffer.alloc(65_536, 'x')
  const part = whole.subarray(0, 32_768)
  const shared = new Uint8Array(new SharedArrayBuffer(65_536))
  const pooled = Buffer.from('x'.repeat(1_000))
  for (const bytes of [small, part, shared, pooled]) release(bytes)
  assert.deepEqual([small.length, part.length, shared.length, pooled.length], [1_024, 32_768, 65_536, 1_000])
})
