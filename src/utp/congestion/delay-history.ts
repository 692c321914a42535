import { SECOND, type Micros } from '../../core/machine.ts'

/** RFC 6817 §2.4.2: BASE_HISTORY, one minimum for each minute. libutp's 13 follow a clock skew of 10 ms in 325 s. */
const BASE_HISTORY = 13
/** RFC 6817 §2.4.2: CURRENT_FILTER, the minimum of the last few samples. */
const CURRENT_FILTER = 3
const MINUTE: Micros = 60 * SECOND

/**
 * One-way delays of 32 bits whose zero is unknown: only their differences mean anything, and they wrap. Keeps the lowest
 * of each of the last minutes (the base: propagation and clock offset) and says how far the newest lie above it.
 */
export class DelayHistory {
  /** The lowest delay of the last minutes. */
  base = 0
  #known = false
  #minute: Micros = 0
  #index = 0
  readonly #bases = new Uint32Array(BASE_HISTORY)
  readonly #current = new Uint32Array(CURRENT_FILTER)
  #samples = 0

  get known(): boolean {
    return this.#known
  }

  add(now: Micros, delay: number): void {
    if (!this.#known) {
      this.#known = true
      this.#minute = now
      this.#bases.fill(delay)
      this.base = delay
    } else if (now - this.#minute >= MINUTE) {
      // After a long silence the skipped minutes are as unknown as the new one: this sample speaks for them.
      const steps = Math.min(BASE_HISTORY, Math.floor((now - this.#minute) / MINUTE))
      this.#minute += Math.floor((now - this.#minute) / MINUTE) * MINUTE
      for (let i = 0; i < steps; i++) {
        this.#index = (this.#index + 1) % BASE_HISTORY
        this.#bases[this.#index] = delay
      }
      this.#findBase()
    }
    if (before(delay, this.#bases[this.#index] as number)) this.#bases[this.#index] = delay
    if (before(delay, this.base)) this.base = delay
    this.#current[this.#samples++ % CURRENT_FILTER] = delay
  }

  /** Microseconds by which the filtered newest delay lies above the base: what the path's queues hold. */
  get queuing(): Micros {
    const kept = Math.min(this.#samples, CURRENT_FILTER)
    let lowest = 0xffffffff
    for (let i = 0; i < kept; i++) {
      const sample = this.#current[i] as number
      // A sample that the base was moved past counts as no queue.
      const above = before(sample, this.base) ? 0 : (sample - this.base) >>> 0
      if (above < lowest) lowest = above
    }
    return kept === 0 ? 0 : lowest
  }

  /** The clocks drifted: every base is `by` µs higher than it was when it was measured. */
  shift(by: number): void {
    for (let i = 0; i < BASE_HISTORY; i++) this.#bases[i] = (this.#bases[i] as number) + by
    this.base = (this.base + by) >>> 0
  }

  #findBase(): void {
    this.base = this.#bases[0] as number
    for (let i = 1; i < BASE_HISTORY; i++) {
      if (before(this.#bases[i] as number, this.base)) this.base = this.#bases[i] as number
    }
  }
}

/** Whether 32-bit `a` lies before `b`, wrapping. */
export function before(a: number, b: number): boolean {
  return ((a - b) | 0) < 0
}
