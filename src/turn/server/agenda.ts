import { SECOND, type Micros } from '../../core/machine.ts'

/** Something that ends by itself. */
export interface Expiring {
  /** When it ends unless that moves. */
  expiresAt: Micros
  /** The agenda's: the second it is entered under. */
  slot: number
  /** It has ended. */
  expire(now: Micros): void
}

/**
 * What ends when, in slots of a second: entering, moving and leaving cost the same however much there is. Bounded by
 * what is entered: one slot for each thing at most.
 */
export class Agenda {
  readonly #slots = new Map<number, Set<Expiring>>()
  #swept = -1

  /** Enters it, or moves it to its new `expiresAt`. */
  enter(entry: Expiring): void {
    const slot = Math.max(Math.ceil(entry.expiresAt / SECOND), this.#swept + 1)
    if (slot === entry.slot) return
    this.leave(entry)
    entry.slot = slot
    const there = this.#slots.get(slot)
    if (there === undefined) this.#slots.set(slot, new Set([entry]))
    else there.add(entry)
  }

  leave(entry: Expiring): void {
    const there = this.#slots.get(entry.slot)
    if (there?.delete(entry) === true && there.size === 0) this.#slots.delete(entry.slot)
    entry.slot = -1
  }

  /** Ends what is due. */
  sweep(now: Micros): void {
    const until = Math.floor(now / SECOND)
    // After a long sleep there are fewer slots than seconds.
    const due =
      until - this.#swept > this.#slots.size
        ? [...this.#slots.keys()].filter((slot) => slot <= until).sort((a, b) => a - b)
        : Array.from({ length: Math.max(0, until - this.#swept) }, (_, n) => this.#swept + 1 + n)
    this.#swept = Math.max(this.#swept, until)
    for (const slot of due) {
      const there = this.#slots.get(slot)
      if (there === undefined) continue
      this.#slots.delete(slot)
      for (const entry of there) {
        entry.slot = -1
        entry.expire(now)
      }
    }
  }

  /** When to sweep next; undefined while nothing is entered. */
  get next(): Micros | undefined {
    return this.#slots.size === 0 ? undefined : (this.#swept + 1) * SECOND
  }
}
