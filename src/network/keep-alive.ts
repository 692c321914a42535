/** Milliseconds of the first silence, and of the shortest one. */
export const LEAST_SILENCE = 500
/** Silences in a row that must pass well before a longer one is tried again, after the first that did not and at most. */
const FIRST_TRIAL = 16
const LONGEST_TRIAL = 512

/**
 * For how long nobody need say anything between a node and its helper: the lifetime of the mapping in the NAT between
 * them, found from below, so that the helper gets through to the node all the time. RFC 4787 REQ-5 asks NATs for two
 * minutes, and there are some that forget within seconds.
 *
 * Doubles for each silence after which the helper still got through; halves when it did not, and then waits the longer
 * before it tries more the more often that has happened: a burst of loss looks the same, but does not come back.
 */
export class KeepAlive {
  readonly #most: number
  #silence: number
  #passed = 0
  #needed = 1
  #trial = FIRST_TRIAL

  /** `most` milliseconds, whatever the NAT allows. */
  constructor(most: number) {
    this.#most = most
    this.#silence = Math.min(LEAST_SILENCE, most)
  }

  /** Milliseconds. */
  get silence(): number {
    return this.#silence
  }

  /** What the helper said after that silence came. */
  passed(): void {
    if (++this.#passed < this.#needed || this.#silence === this.#most) return
    this.#passed = 0
    this.#needed = 1
    this.#silence = Math.min(2 * this.#silence, this.#most)
  }

  /** It came only when this node had spoken again. */
  missed(): void {
    this.#passed = 0
    this.#needed = this.#trial
    this.#trial = Math.min(2 * this.#trial, LONGEST_TRIAL)
    this.#silence = Math.max(this.#silence / 2, Math.min(LEAST_SILENCE, this.#most))
  }
}
