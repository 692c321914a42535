import { MILLISECOND, SECOND, type Micros } from '../core/machine.ts'

/** A burst that may leave at once, so that timers of a millisecond's grain can keep up with any rate. */
const BURST_TIME: Micros = 4 * MILLISECOND
const BURST_PACKETS = 4

/** A token bucket in bytes that the congestion controller's pacing rate fills. */
export class Pacer {
  #tokens = 0
  #filledAt: Micros = 0
  #started = false

  /** Microseconds until a packet of `bytes` may leave; 0 now. */
  delay(now: Micros, rate: number, bytes: number): Micros {
    if (rate === Infinity) return 0
    const burst = Math.max(BURST_PACKETS * bytes, (rate * BURST_TIME) / SECOND)
    if (!this.#started) {
      this.#started = true
      this.#tokens = burst
    } else {
      this.#tokens = Math.min(burst, this.#tokens + (rate * (now - this.#filledAt)) / SECOND)
    }
    this.#filledAt = now
    if (this.#tokens > 0) return 0
    return Math.max(1, Math.ceil(((bytes - this.#tokens) * SECOND) / rate))
  }

  sent(bytes: number): void {
    this.#tokens -= bytes
  }
}
