import type { Micros } from '../core/machine.ts'

/** What waits in {@link Deadlines}: it remembers its own place, so that moving it costs no search. */
export interface Waiting {
  /** −1 when not waiting. */
  heapIndex: number
  /** Never later than the true deadline; it may be earlier (see {@link Deadlines.update}). */
  heapAt: Micros
}

/**
 * A binary heap of deadlines, one for each connection. Deadlines mostly move later (every acknowledgement pushes the
 * retransmission timeout away), so a later one is not moved at once: the entry comes up at its old time, is asked for
 * its true deadline, and is put back. That makes the common case free, and an idle connection costs nothing.
 */
export class Deadlines<T extends Waiting> {
  readonly #heap: T[] = []

  get size(): number {
    return this.#heap.length
  }

  first(): T | undefined {
    return this.#heap[0]
  }

  /** `at` may be Infinity: then an entry that waits already stays until it comes up. */
  update(item: T, at: Micros): void {
    if (item.heapIndex < 0) {
      if (at === Infinity) return
      item.heapIndex = this.#heap.length
      item.heapAt = at
      this.#heap.push(item)
      this.#up(item)
    } else if (at < item.heapAt) {
      item.heapAt = at
      this.#up(item)
    }
  }

  remove(item: T): void {
    const index = item.heapIndex
    if (index < 0) return
    item.heapIndex = -1
    const last = this.#heap.pop() as T
    if (last === item) return
    this.#place(last, index)
    this.#up(last)
    this.#down(last)
  }

  #up(item: T): void {
    let index = item.heapIndex
    while (index > 0) {
      const parent = this.#heap[(index - 1) >> 1] as T
      if (parent.heapAt <= item.heapAt) break
      this.#place(parent, index)
      index = (index - 1) >> 1
    }
    this.#place(item, index)
  }

  #down(item: T): void {
    const heap = this.#heap
    let index = item.heapIndex
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && (heap[child + 1] as T).heapAt < (heap[child] as T).heapAt) child++
      const smaller = heap[child] as T
      if (smaller.heapAt >= item.heapAt) break
      this.#place(smaller, index)
      index = child
    }
    this.#place(item, index)
  }

  #place(item: T, index: number): void {
    this.#heap[index] = item
    item.heapIndex = index
  }
}
