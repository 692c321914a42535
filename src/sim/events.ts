import type { Micros } from '../core/machine.ts'

/** What the world calls when an event's time has come. */
export interface Handler<T> {
  fire(now: Micros, what: T): void
}

interface Entry {
  readonly at: Micros
  /** Events of the same time fire in the order they were scheduled: that makes a run repeatable. */
  readonly order: number
  readonly handler: Handler<unknown>
  readonly what: unknown
}

/** A binary heap of future events, stable for equal times. */
export class EventQueue {
  readonly #heap: Entry[] = []
  #order = 0
  /** Events fired so far. */
  fired = 0

  get size(): number {
    return this.#heap.length
  }

  /** The time of the next event; Infinity when there is none. */
  get nextAt(): Micros {
    return this.#heap[0]?.at ?? Infinity
  }

  push<T>(at: Micros, handler: Handler<T>, what: T): void {
    const heap = this.#heap
    const entry: Entry = { at, order: this.#order++, handler: handler, what }
    let i = heap.length
    heap.push(entry)
    while (i > 0) {
      const up = (i - 1) >> 1
      const parent = heap[up]
      if (parent === undefined || !before(entry, parent)) break
      heap[i] = parent
      i = up
    }
    heap[i] = entry
  }

  /** Takes the next event and fires it. */
  fireNext(): void {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined) return
    if (heap.length > 0) sink(heap, last)
    this.fired++
    first.handler.fire(first.at, first.what)
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}

function sink(heap: Entry[], entry: Entry): void {
  let i = 0
  for (;;) {
    let child = 2 * i + 1
    let next = heap[child]
    if (next === undefined) break
    const right = heap[child + 1]
    if (right !== undefined && before(right, next)) {
      child++
      next = right
    }
    if (!before(next, entry)) break
    heap[i] = next
    i = child
  }
  heap[i] = entry
}
