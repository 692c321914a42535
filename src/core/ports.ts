import { randomFillSync } from 'node:crypto'
// The global of that name is a getter, which is asked for each datagram.
import { performance } from 'node:perf_hooks'
import type { Micros } from './machine.ts'

/** Where time comes from. Drivers read it; protocol code is told. */
export interface Clock {
  /** Microseconds, monotonic. */
  now(): Micros
}

/** Where randomness comes from. `uint32` is uniform in 0–4294967295. */
export interface Rng {
  uint32(): number
  fill(bytes: Uint8Array): void
}

export const systemClock: Clock = {
  now: () => Math.floor(performance.now() * 1_000),
}

/** Random bytes that nobody has had yet, from `taken` on: a call of the system for each draw would cost 4 µs. */
const pool = new Uint8Array(4_096)
let taken = pool.length

/** The operating system's generator, drawn in blocks. */
export const systemRng: Rng = {
  uint32() {
    const at = take(4)
    return (
      ((pool[at] ?? 0) |
        ((pool[at + 1] ?? 0) << 8) |
        ((pool[at + 2] ?? 0) << 16) |
        ((pool[at + 3] ?? 0) << 24)) >>>
      0
    )
  },
  fill(bytes) {
    if (bytes.length > MAX_DRAW) {
      randomFillSync(bytes)
      return
    }
    const at = take(bytes.length)
    for (let n = 0; n < bytes.length; n++) bytes[n] = pool[at + n] ?? 0
    // It may be a key: one copy is enough.
    pool.fill(0, at, at + bytes.length)
  },
}

/** The longest draw from the pool: transaction ids have 12 bytes, keys 32. */
const MAX_DRAW = 64

/** Where `length` fresh bytes of the pool begin. */
function take(length: number): number {
  if (taken + length > pool.length) {
    randomFillSync(pool)
    taken = 0
  }
  const at = taken
  taken += length
  return at
}
