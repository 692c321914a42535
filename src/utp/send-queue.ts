import { BLOCK, type Slab } from './slab.ts'

/** Blocks are no larger than what is written needs; the smallest is kept while nothing waits. */
const SMALLEST_BLOCK = 512

/**
 * Bytes written and not yet made into packets. A packet keeps its size for ever (BEP 29: "uTP cannot repackage"), so
 * bytes become packets only when they are sent: then the path's MTU and the window are known.
 *
 * Bounded by the connection's send buffer.
 */
export class SendQueue {
  length = 0
  /** Whole blocks in order; the first is used from `#from`, the last up to `#to`. */
  #blocks: Uint8Array[] = []
  #from = 0
  #to = 0
  readonly #slab: Slab

  constructor(slab: Slab) {
    this.#slab = slab
  }

  /** Copies `bytes` in: the caller may use its buffer again. */
  push(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length) {
      let last = this.#blocks[this.#blocks.length - 1]
      if (last === undefined || this.#to === last.length) {
        const left = bytes.length - at
        last = left > BLOCK / 2 ? this.#slab.block() : Buffer.allocUnsafeSlow(Math.max(SMALLEST_BLOCK, left))
        this.#blocks.push(last)
        this.#to = 0
      }
      const size = Math.min(bytes.length - at, last.length - this.#to)
      last.set(size === bytes.length ? bytes : bytes.subarray(at, at + size), this.#to)
      this.#to += size
      at += size
    }
    this.length += bytes.length
  }

  /** Moves the first `size` bytes to `into` at `at`; there must be that many. */
  take(size: number, into: Uint8Array, at: number): void {
    this.length -= size
    let to = at
    let left = size
    while (left > 0) {
      const block = this.#blocks[0] as Uint8Array
      const end = this.#blocks.length === 1 ? this.#to : block.length
      const part = Math.min(left, end - this.#from)
      into.set(block.subarray(this.#from, this.#from + part), to)
      this.#from += part
      to += part
      left -= part
      if (this.#from === end) {
        this.#from = 0
        if (this.#blocks.length === 1) this.#to = 0
        if (this.#blocks.length > 1 || block.length > SMALLEST_BLOCK) {
          this.#blocks.shift()
          this.#slab.recycle(block)
        }
      }
    }
  }

  clear(): void {
    this.#blocks = []
    this.#from = this.#to = this.length = 0
  }
}
