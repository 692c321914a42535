import assert from 'node:assert/strict'
import test from 'node:test'
import { systemRng } from '../../../src/core/ports.ts'

test('random bytes are drawn once: across the ends of blocks none comes again, and none is missing', () => {
  const seen = new Set<string>()
  const sums = new Float64Array(80)
  const DRAWS = 3_000
  for (const length of [12, 64, 65, 80]) {
    for (let draw = 0; draw < DRAWS; draw++) {
      const bytes = new Uint8Array(length)
      systemRng.fill(bytes)
      systemRng.uint32()
      seen.add(Buffer.from(bytes).toString('hex'))
      for (const [n, byte] of bytes.entries()) sums[n] = (sums[n] ?? 0) + byte
    }
  }
  assert.equal(seen.size, 4 * DRAWS)
  // The mean of a byte is 127.5 with a deviation of 74 / √draws: ten of them away is no chance.
  const means = [...sums.subarray(0, 12)].map((sum) => sum / (4 * DRAWS))
  assert.ok(means.every((mean) => Math.abs(mean - 127.5) < 10 * (74 / Math.sqrt(4 * DRAWS))))
})

test('random numbers have 32 bits, all of them', () => {
  const numbers = Array.from({ length: 2_000 }, () => systemRng.uint32())
  assert.ok(numbers.every((one) => Number.isInteger(one) && one >= 0 && one <= 0xffffffff))
  for (let bit = 0; bit < 32; bit++) {
    const set = numbers.filter((one) => ((one >>> bit) & 1) === 1).length
    assert.ok(set > 700 && set < 1_300, `bit ${bit} was set in ${set} of 2,000`)
  }
})
