/** Counts what is in use, in total and per holder, and says no at either limit. Bounded by the total. */
export class Quota<K> {
  readonly #total: number
  readonly #each: number
  readonly #held = new Map<K, number>()
  #used = 0

  constructor(total: number, each: number) {
    this.#total = total
    this.#each = each
  }

  /** @returns what gives the place back (once), or undefined when there is none. */
  take(holder: K): (() => void) | undefined {
    const held = this.#held.get(holder) ?? 0
    if (this.#used >= this.#total || held >= this.#each) return undefined
    this.#used++
    this.#held.set(holder, held + 1)
    let given = false
    return () => {
      if (given) return
      given = true
      this.#used--
      const left = (this.#held.get(holder) ?? 1) - 1
      if (left === 0) this.#held.delete(holder)
      else this.#held.set(holder, left)
    }
  }
}
