import { SECOND, type Micros } from '../core/machine.ts'

/** A token bucket: answers to strangers are rare, whoever they claim to be. */
export class ResetLimiter {
  readonly #perSecond: number
  #tokens: number
  #at: Micros = -1

  constructor(perSecond: number) {
    this.#perSecond = perSecond
    this.#tokens = perSecond
  }

  take(now: Micros): boolean {
    if (this.#at >= 0) {
      this.#tokens = Math.min(this.#perSecond, this.#tokens + ((now - this.#at) * this.#perSecond) / SECOND)
    }
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}
