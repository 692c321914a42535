import { MAX_SELECTIVE_ACK, NEAR_DISTANCE } from './packet.ts'
import { SEQUENCE_MASK } from './sequence.ts'

/** A mask is read in whole words: so many slots beyond the furthest packet must be empty. */
const MARGIN = 64
const FIRST_CAPACITY = 128
/** The packets that the longest mask tells of. */
const MASK_BITS = MAX_SELECTIVE_ACK * 8
/** A second far mask tells also of what came a little earlier, should that acknowledgement have been lost. */
const LOOK_BACK = 512

/** Empty ones that were given back: they have grown. 256 KiB each at most. */
const spare: ReorderBuffer[] = []
const MOST_SPARE = 4

/**
 * Packets that came before one that is missing, by sequence number. Bounded twice: by the number of packets we say we put
 * back in order, and in bytes by the receive buffer, from whose window they are taken.
 */
export class ReorderBuffer {
  /** What every connection has that holds nothing out of order: nothing is ever put into this one. */
  static readonly none = new ReorderBuffer()

  static take(): ReorderBuffer {
    return spare.pop() ?? new ReorderBuffer()
  }

  /** Nobody looks at `empty` any more. */
  static giveBack(empty: ReorderBuffer): void {
    if (empty === ReorderBuffer.none || spare.length === MOST_SPARE) return
    empty.told()
    spare.push(empty)
  }

  /** Packets and payload bytes held. */
  count = 0
  bytes = 0
  #mask = -1
  #packets: (Uint8Array | undefined)[] = []
  /** How far beyond the cumulative ack the furthest packet lies, at least; exact after {@link maskLength}. */
  #furthest = 0
  /** One bit for each slot that holds a packet. */
  #bits = new Uint8Array(0)
  /** The nearest packet that came since the last acknowledgement; Infinity when none did. */
  #fresh = Infinity

  /** `distance` is how far `sequence` lies beyond the cumulative ack: far ones would share a slot with near ones. */
  has(sequence: number, distance: number): boolean {
    return distance <= this.#furthest && this.#packets[sequence & this.#mask] !== undefined
  }

  /** `distance` is how far `sequence` lies beyond the cumulative ack `ack`. Copies `payload[from…]`. */
  put(ack: number, sequence: number, distance: number, payload: Uint8Array, from: number): void {
    if (distance + MARGIN > this.#mask) this.#grow(ack, distance)
    // A plain copy: this is the path of loss, and what is kept must not pin the driver's receive buffer.
    const copy = new Uint8Array(payload.length - from)
    copy.set(payload.subarray(from))
    const slot = sequence & this.#mask
    this.#packets[slot] = copy
    this.#bits[slot >> 3] = (this.#bits[slot >> 3] as number) | (1 << (slot & 7))
    if (distance < this.#fresh) this.#fresh = distance
    this.count++
    this.bytes += copy.length
    if (distance > this.#furthest) this.#furthest = distance
  }

  /** Takes the packet out, if it is there. */
  take(sequence: number): Uint8Array | undefined {
    if (this.count === 0) return undefined
    const slot = sequence & this.#mask
    const packet = this.#packets[slot]
    if (packet === undefined) return undefined
    this.#packets[slot] = undefined
    this.#bits[slot >> 3] = (this.#bits[slot >> 3] as number) & ~(1 << (slot & 7))
    this.count--
    this.bytes -= packet.length
    if (this.count === 0) this.#furthest = 0
    return packet
  }

  /** How far beyond the cumulative ack the furthest packet lies; 0 when there is none. */
  get furthest(): number {
    return this.#furthest
  }

  /** The cumulative ack moved on by `n`. */
  advance(n: number): void {
    this.#furthest = this.#furthest > n ? this.#furthest - n : 0
    this.#fresh = this.#fresh > n ? this.#fresh - n : 0
  }

  /** Bytes of the selective-ack mask: a multiple of 4 that tells all it can, 0 when nothing is held. */
  maskLength(): number {
    if (this.count === 0) return 0
    return bytesFor(this.#furthest - NEAR_DISTANCE + 1)
  }

  /**
   * Where a mask begins that tells of the furthest packets, beyond the reach of the selective ack; 0 when that reaches
   * all. A packet is told again and again this way while newer ones come.
   */
  farthestMask(): number {
    const last = this.#furthest - MASK_BITS + 1
    const first = NEAR_DISTANCE + MASK_BITS
    return this.count === 0 || this.#furthest < first ? 0 : Math.max(first, last)
  }

  /** Where a mask begins that tells of what came last between the two others; 0 when nothing did. */
  middleMask(): number {
    const first = NEAR_DISTANCE + MASK_BITS
    if (this.#fresh < first || this.#fresh >= this.farthestMask()) return 0
    return Math.max(first, this.#fresh - LOOK_BACK)
  }

  /** Bytes of the mask that begins at `distance`. */
  lengthFrom(distance: number): number {
    return distance === 0 ? 0 : bytesFor(this.#furthest - distance + 1)
  }

  /** Writes `length` bytes of mask whose first bit lies `distance` beyond the cumulative ack. */
  writeMask(ack: number, distance: number, into: Uint8Array, at: number, length: number): void {
    const bits = this.#bits
    const wrap = this.#mask >> 3
    let slot = (ack + distance) & this.#mask
    for (let i = 0; i < length; i++) {
      const byte = slot >> 3
      const two = (bits[byte] as number) | ((bits[(byte + 1) & wrap] as number) << 8)
      into[at + i] = (two >> (slot & 7)) & 0xff
      slot = (slot + 8) & this.#mask
    }
  }

  /** An acknowledgement has left. */
  told(): void {
    this.#fresh = Infinity
  }

  #grow(ack: number, distance: number): void {
    let capacity = this.#mask < 0 ? FIRST_CAPACITY : this.#mask + 1
    while (capacity <= distance + MARGIN) capacity *= 2
    const packets = new Array<Uint8Array | undefined>(capacity).fill(undefined)
    const bits = new Uint8Array(capacity >> 3)
    for (let i = 1; i <= this.#furthest; i++) {
      const sequence = (ack + i) & SEQUENCE_MASK
      const packet = this.#packets[sequence & this.#mask]
      if (packet === undefined) continue
      const slot = sequence & (capacity - 1)
      packets[slot] = packet
      bits[slot >> 3] = (bits[slot >> 3] as number) | (1 << (slot & 7))
    }
    this.#packets = packets
    this.#bits = bits
    this.#mask = capacity - 1
  }
}

function bytesFor(bits: number): number {
  return Math.min(MAX_SELECTIVE_ACK, ((bits + 31) >> 5) << 2)
}
