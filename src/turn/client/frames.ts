/**
 * Where datagrams for the server are put together: SLOTS buffers in turn, so that none is made per packet. A driver may
 * hold a datagram until SLOTS − 1 more have been framed: more than an endpoint sends in one go, or the kernel's queue
 * takes.
 */
export class FrameRing {
  /** Made with the first datagram: an allocation that nothing is sent through takes no memory. */
  #block: Uint8Array | undefined
  readonly #views = new Array<Uint8Array | undefined>(SLOTS)
  #next = 0

  /** `size` bytes with anything in them. */
  take(size: number): Uint8Array {
    if (size > SLOT) return Buffer.allocUnsafeSlow(size)
    const slot = this.#next
    this.#next = (slot + 1) % SLOTS
    const view = this.#views[slot]
    if (view?.length === size) return view
    this.#block ??= Buffer.allocUnsafeSlow(SLOTS * SLOT)
    return (this.#views[slot] = this.#block.subarray(slot * SLOT, slot * SLOT + size))
  }
}

const SLOTS = 320
/** An Ethernet's worth; what is longer is rare enough for a buffer of its own. */
const SLOT = 1_500
