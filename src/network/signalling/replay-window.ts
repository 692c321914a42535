/** How far the two nodes' clocks may be apart, together with the time a signal travels. Milliseconds. */
export const clockTolerance = 5 * 60_000

/** Nonces remembered: more than a node takes in (50 a second) within the tolerance, both ways. */
const defaultCapacity = 32_768

export type Freshness = 'fresh' | 'replayed' | 'clock'

/**
 * Lets every signal in once: its nonce must be new, and its time within {@link clockTolerance} of ours, so that nonces need
 * not be remembered longer than that. Bounded by `capacity`: were it ever full, the oldest nonce would be forgotten and
 * everything as old as that refused from then on.
 */
export class ReplayWindow {
  readonly #capacity: number
  /** Nonce to time sealed, in the order of arrival. */
  readonly #seen = new Map<string, number>()
  /** Signals up to this time may have been forgotten. */
  #floor = 0

  constructor(capacity = defaultCapacity) {
    this.#capacity = capacity
  }

  /** `now` and `sentAt`: Unix time, milliseconds. */
  admit(nonce: string, sentAt: number, now: number): Freshness {
    if (Math.abs(now - sentAt) > clockTolerance) return 'clock'
    if (sentAt <= this.#floor || this.#seen.has(nonce)) return 'replayed'
    this.#sweep(now)
    this.#seen.set(nonce, sentAt)
    return 'fresh'
  }

  #sweep(now: number): void {
    for (const [nonce, sentAt] of this.#seen) {
      const expired = now - sentAt > clockTolerance
      if (!expired && this.#seen.size < this.#capacity) return
      this.#seen.delete(nonce)
      // What is expired is refused by its time alone.
      if (!expired) this.#floor = Math.max(this.#floor, sentAt)
    }
  }
}
