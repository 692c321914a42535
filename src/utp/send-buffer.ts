import { BLOCK, type BlockPool } from './block-pool.ts'
import { copy } from './copy.ts'

/**
 * Bytes written and not yet acknowledged in order: those before `sent` are in packets, the others wait. A packet is a
 * place in here, its bytes are copied when it leaves, each time. It keeps its size for ever (BEP 29: "uTP cannot
 * repackage"), so bytes become packets only when they are sent: then the path's MTU and the window are known.
 *
 * Places are counted from the first byte of the connection, modulo 2³². Bounded by the connection's send buffer.
 */
export class SendBuffer {
  /** Bytes that are in no packet yet. */
  waiting = 0
  /** All bytes here. */
  length = 0
  /** The place of the first byte here; that of the next byte to be put into a packet is `#start + length - waiting`. */
  #start = 0
  /** In order; the first byte here is at `#from` of the first. None while there is nothing: an idle connection costs none. */
  readonly #blocks: Uint8Array[] = []
  #from = 0
  readonly #pool: BlockPool
  /** The pool counts this one among those that hold blocks. */
  #holding = false

  constructor(pool: BlockPool) {
    this.#pool = pool
  }

  /** Copies `bytes` in: the caller may use its buffer again. */
  push(bytes: Uint8Array): void {
    const total = bytes.length
    if (!this.#holding) this.#pool.begin()
    this.#holding = true
    let end = this.#from + this.length
    for (let at = 0; at < total;) {
      if (end === this.#blocks.length * BLOCK) this.#blocks.push(this.#pool.take())
      const to = end & (BLOCK - 1)
      const size = Math.min(total - at, BLOCK - to)
      const part = size === total ? bytes : bytes.subarray(at, at + size)
      ;(this.#blocks[this.#blocks.length - 1] as Uint8Array).set(part, to)
      at += size
      end += size
    }
    this.length += total
    this.waiting += total
  }

  /** The next `size` waiting bytes are a packet from now on; there must be that many. @returns their place. */
  take(size: number): number {
    const place = (this.#start + this.length - this.waiting) | 0
    this.waiting -= size
    return place
  }

  /** Copies the bytes that wait, but the first `skip`, to the end of `into`, from `at` on: there must be as many. */
  peek(into: Uint8Array, at: number, skip: number): void {
    this.read((this.#start + this.length - this.waiting + skip) | 0, into.length - at, into, at)
  }

  /** Copies `size` bytes from `place` on. */
  read(place: number, size: number, into: Uint8Array, at: number): void {
    let from = this.#from + ((place - this.#start) >>> 0)
    let to = at
    for (let left = size; left > 0;) {
      const block = this.#blocks[Math.floor(from / BLOCK)] as Uint8Array
      const offset = from & (BLOCK - 1)
      const part = Math.min(left, BLOCK - offset)
      copy(block, offset, part, into, to)
      from += part
      to += part
      left -= part
    }
  }

  /** The first `size` bytes have arrived. */
  release(size: number): void {
    this.#start = (this.#start + size) | 0
    this.length -= size
    this.#from += size
    while (this.#from >= BLOCK) {
      this.#pool.recycle(this.#blocks.shift() as Uint8Array)
      this.#from -= BLOCK
    }
    if (this.length > 0) return
    this.clear()
  }

  clear(): void {
    if (this.#holding) this.#pool.end()
    this.#holding = false
    for (let block = this.#blocks.pop(); block !== undefined; block = this.#blocks.pop())
      this.#pool.recycle(block)
    this.#pool.rest()
    this.#from = this.length = this.waiting = 0
  }
}
