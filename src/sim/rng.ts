import type { Rng } from '../core/ports.ts'

/**
 * A seeded generator: xoshiro128** 1.1 (Blackman and Vigna, 2018), its state filled by SplitMix32. Not for secrets.
 *
 * `split(name)` gives an independent stream that depends on this one's seed and the name alone, not on how much was
 * drawn: a host added to a world shifts nobody else's draws.
 */
export class SimRng implements Rng {
  readonly seed: number
  #a = 0
  #b = 0
  #c = 0
  #d = 0

  constructor(seed: number) {
    this.seed = seed >>> 0
    let x = this.seed
    const next = (): number => {
      x = (x + 0x9e3779b9) | 0
      let z = x ^ (x >>> 16)
      z = Math.imul(z, 0x21f0aaad)
      z ^= z >>> 15
      z = Math.imul(z, 0x735a2d97)
      return z ^ (z >>> 15)
    }
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next() | 1 // never the all-zero state
  }

  split(name: string): SimRng {
    return new SimRng(hashText(name, this.seed))
  }

  /** Uniform in 0–4294967295. */
  uint32(): number {
    const result = Math.imul(rotate(Math.imul(this.#b, 5), 7), 9)
    const t = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= t
    this.#d = rotate(this.#d, 11)
    return result >>> 0
  }

  /** Uniform in [0, 1). */
  float(): number {
    return this.uint32() / 0x1_0000_0000
  }

  /** True with probability `p`. Draws nothing for 0 and 1, so that a perfect link costs nothing. */
  chance(p: number): boolean {
    return p > 0 && (p >= 1 || this.float() < p)
  }

  /** An integer, uniform in `low`–`high`, both included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.float() * (high - low + 1))
  }

  fill(bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i += 4) {
      const word = this.uint32()
      for (let j = i; j < i + 4 && j < bytes.length; j++) bytes[j] = word >>> (8 * (j - i))
    }
  }
}

function rotate(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k))
}

/** FNV-1a over UTF-16 code units, begun from `seed`, then mixed (murmur3's finalizer). */
export function hashText(text: string, seed: number): number {
  let h = (seed ^ 0x811c9dc5) | 0
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
