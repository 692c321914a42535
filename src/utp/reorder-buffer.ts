import { SEQUENCE_MASK } from './sequence.ts'
import { MAX_SELECTIVE_ACK } from './packet.ts'

const FIRST_CAPACITY = 16

/**
 * Packets that came before one that is missing, by sequence number. Bounded twice: by the number of packets we say we put
 * back in order, and in bytes by the receive buffer, from whose window they are taken.
 */
export class ReorderBuffer {
  /** Packets and payload bytes held. */
  count = 0
  bytes = 0
  #mask = -1
  #packets: (Uint8Array | undefined)[] = []
  /** How far beyond the cumulative ack the furthest packet lies, at least; exact after {@link maskLength}. */
  #furthest = 0

  has(sequence: number): boolean {
    return this.count > 0 && this.#packets[sequence & this.#mask] !== undefined
  }

  /** `distance` is how far `sequence` lies beyond the cumulative ack `ack`. Copies `payload[from…]`. */
  put(ack: number, sequence: number, distance: number, payload: Uint8Array, from: number): void {
    if (distance > this.#mask) this.#grow(ack, distance)
    // A plain copy: this is the path of loss, and what is kept must not pin the driver's receive buffer.
    const copy = new Uint8Array(payload.length - from)
    copy.set(payload.subarray(from))
    this.#packets[sequence & this.#mask] = copy
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
    this.count--
    this.bytes -= packet.length
    if (this.count === 0) this.#furthest = 0
    return packet
  }

  /** The cumulative ack moved on by `n`. */
  advance(n: number): void {
    this.#furthest = this.#furthest > n ? this.#furthest - n : 0
  }

  /** Bytes of the selective-ack mask that tells all of it: a multiple of 4, 0 when nothing is held. */
  maskLength(): number {
    if (this.count === 0) return 0
    // The first bit is ack + 2, so the furthest packet has bit number `furthest − 2`.
    const bits = this.#furthest - 1
    return Math.min(MAX_SELECTIVE_ACK, ((bits + 31) >> 5) << 2)
  }

  /** Writes the mask of {@link maskLength} bytes for the cumulative ack `ack` (BEP 29 "Selective ACK"). */
  writeMask(ack: number, into: Uint8Array, at: number, length: number): void {
    for (let byte = 0; byte < length; byte++) {
      let bits = 0
      for (let bit = 0; bit < 8; bit++) {
        const distance = 2 + byte * 8 + bit
        if (distance > this.#furthest) break
        if (this.#packets[(ack + distance) & SEQUENCE_MASK & this.#mask] !== undefined) bits |= 1 << bit
      }
      into[at + byte] = bits
    }
  }

  clear(): void {
    this.#packets = []
    this.#mask = -1
    this.count = this.bytes = this.#furthest = 0
  }

  #grow(ack: number, distance: number): void {
    let capacity = this.#mask < 0 ? FIRST_CAPACITY : this.#mask + 1
    while (capacity <= distance) capacity *= 2
    const packets = new Array<Uint8Array | undefined>(capacity).fill(undefined)
    for (let i = 1; i <= this.#furthest; i++) {
      const sequence = (ack + i) & SEQUENCE_MASK
      packets[sequence & (capacity - 1)] = this.#packets[sequence & this.#mask]
    }
    this.#packets = packets
    this.#mask = capacity - 1
  }
}
