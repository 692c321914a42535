import { randomFillSync } from 'node:crypto'
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

const pool = new Uint32Array(256)
let taken = pool.length

/** The operating system's generator, drawn in blocks. */
export const systemRng: Rng = {
  uint32() {
    if (taken === pool.length) {
      randomFillSync(pool)
      taken = 0
    }
    return pool[taken++] ?? 0
  },
  fill(bytes) {
    randomFillSync(bytes)
  },
}
