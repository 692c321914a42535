import type { Micros } from '../core/machine.ts'
import { MAX_PER_TARGET, MAX_TARGETS, MAX_UNVERIFIED, UNVERIFIED_WINDOW } from './bounds.ts'

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

/** The same per IP address, with what searches send there, over all sessions of a machine: many peers may name one victim. */
export class TargetBudget {
  /** Bounded by {@link MAX_TARGETS}. */
  readonly #taken = new Map<string, number>()
  /** Of what this node's owner has agreed to, apart from the rest: checks of a flow that it found must still have room. Bounded alike. */
  readonly #agreed = new Map<string, number>()
  #windowEnds: Micros = -Infinity

  /** `agreed`: so many more, by the word of this node's owner. */
  take(now: Micros, address: string, agreed = 0): boolean {
    if (now >= this.#windowEnds) {
      this.#windowEnds = now + UNVERIFIED_WINDOW
      this.#taken.clear()
      this.#agreed.clear()
    }
    return (
      (agreed > 0 && takeOf(this.#agreed, address, agreed)) || takeOf(this.#taken, address, MAX_PER_TARGET)
    )
  }

  /** So many of them went to the one who answers there. */
  giveBack(address: string, count: number): void {
    let left = count
    for (const counts of [this.#agreed, this.#taken]) {
      const taken = counts.get(address)
      if (taken === undefined) continue
      counts.set(address, Math.max(0, taken - left))
      left = Math.max(0, left - taken)
    }
  }
}

function takeOf(counts: Map<string, number>, address: string, most: number): boolean {
  const taken = counts.get(address)
  // One that made room would be counted from nothing when it is named again.
  if (taken === undefined ? counts.size >= MAX_TARGETS : taken >= most) return false
  counts.set(address, (taken ?? 0) + 1)
  return true
}
