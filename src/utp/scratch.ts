/** No UDP datagram is longer. */
const LONGEST = 65_535
/** Views that are kept; sizes that share a place replace each other. Mostly there are two: full packets and bare acks. */
const VIEWS = 64

/**
 * The datagram that leaves next is built here, and belongs to whoever sends it until the next one is built (the contract
 * of `Transmit`): one memory for all packets of all connections, and no new view for a size that was just used.
 */
export class Scratch {
  #bytes: Uint8Array | undefined
  readonly #views: (Uint8Array | undefined)[] = []

  /** `size` bytes; what is in them is of the last datagram. */
  cut(size: number): Uint8Array {
    const place = size % VIEWS
    const known = this.#views[place]
    if (known?.length === size) return known
    const bytes = (this.#bytes ??= new Uint8Array(LONGEST))
    const view = bytes.subarray(0, size)
    this.#views[place] = view
    return view
  }
}
