import { SECOND, type Micros } from '../../core/machine.ts'

/** The mean of each slot is one point of the slope. */
const SLOT: Micros = 5 * SECOND
/** libutp's empirical bound, µs per slot (4 %): no honest clock drifts like that. */
const TOLERATED = 200_000

/**
 * Watches the slope of the mean one-way delay. A peer whose clock runs slow (by fault, or to get more than its share)
 * makes queues look ever shorter: what goes beyond the tolerated slope is charged as delay, as libutp does.
 */
export class DriftMeter {
  #origin = 0
  #slotEnd: Micros = 0
  #sum = 0
  #samples = 0
  #lastMean: number | undefined
  /** µs per slot, smoothed by 1/8. */
  #drift = 0

  add(now: Micros, delay: number): void {
    if (this.#slotEnd === 0) {
      this.#origin = delay
      this.#slotEnd = now + SLOT
    }
    this.#sum += (delay - this.#origin) | 0
    this.#samples++
    if (now < this.#slotEnd) return
    const mean = this.#sum / this.#samples
    if (this.#lastMean !== undefined) this.#drift = (this.#drift * 7 + (mean - this.#lastMean)) / 8
    // Measured from the newest mean, so that years of drift never wrap the 32-bit difference.
    this.#origin = (this.#origin + Math.round(mean)) >>> 0
    this.#lastMean = 0
    this.#sum = this.#samples = 0
    this.#slotEnd = now + SLOT
  }

  /** Microseconds to add to the queuing delay. */
  get penalty(): Micros {
    return this.#drift < -TOLERATED ? (-this.#drift - TOLERATED) / 7 : 0
  }
}
