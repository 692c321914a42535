const SLAB = 65_536
export const BLOCK = 65_536
/** 2 MiB of them. */
const MOST_SPARE = 32

/**
 * Datagrams cut one after the other from large blocks: one view per packet instead of one buffer. A block is never cut
 * twice, because a driver may still hold a datagram that was acknowledged meanwhile (the contract of `Transmit`); it is
 * garbage when its last packet is.
 */
export class Slab {
  #block = Buffer.alloc(0)
  #used = 0
  /** Bounded by {@link MOST_SPARE}. */
  readonly #spare: Uint8Array[] = []

  cut(size: number): Uint8Array {
    if (this.#used + size > this.#block.length) {
      if (size > SLAB / 4) return Buffer.allocUnsafeSlow(size)
      this.#block = Buffer.allocUnsafeSlow(SLAB)
      this.#used = 0
    }
    const start = this.#used
    this.#used += size
    return this.#block.subarray(start, this.#used)
  }

  /** A block of {@link BLOCK} bytes for bytes on their way, used before if possible: fresh memory costs page faults. */
  block(): Uint8Array {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK)
  }

  /** Nobody looks at `block` any more. */
  recycle(block: Uint8Array): void {
    if (block.length === BLOCK && this.#spare.length < MOST_SPARE) this.#spare.push(block)
  }
}
