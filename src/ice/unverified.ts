import type { Micros } from '../core/machine.ts'
import { MAX_UNVERIFIED, UNVERIFIED_WINDOW } from './bounds.ts'

/** Counts the checks to addresses from which nothing ever came back: so many per window, whatever the peer names. */
export class UnverifiedBudget {
  #left = MAX_UNVERIFIED
  #windowEnds: Micros = -Infinity

  take(now: Micros): boolean {
    if (now >= this.#windowEnds) {
      this.#windowEnds = now + UNVERIFIED_WINDOW
      this.#left = MAX_UNVERIFIED
    }
    return this.#left-- > 0
  }
}
