import {
  EXTENSION_BITS,
  EXTENSION_FRAGMENT,
  FRAGMENT_SIZE,
  HEADER_SIZE,
  ST_DATA,
  ST_FIN,
  writeFragment,
  writeHeader,
  writePadding,
} from './packet.ts'
import type { Scratch } from './scratch.ts'
import type { SendBuffer } from './send-buffer.ts'
import { SACKED, type SendRing } from './send-ring.ts'

/** Builds the datagrams of a connection's DATA and FIN packets, each as often as it leaves, without timestamp and ack. */
export class Datagrams {
  /** The packet that is the FIN; −1 when it has not left. */
  fin = -1
  /** The packet that probes the path's MTU, −1 when none does, and the padding it has for that. */
  probe = -1
  probePadding = 0
  readonly #ring: SendRing
  readonly #buffer: SendBuffer
  readonly #scratch: Scratch
  #connectionId = 0
  /** The packet that is leaving in pieces, and how much of it has left; −1 when none is. */
  #cut = -1
  #cutAt = 0

  constructor(ring: SendRing, buffer: SendBuffer, scratch: Scratch) {
    this.#ring = ring
    this.#buffer = buffer
    this.#scratch = scratch
  }

  /** The ring's packets are those of another connection from now on. */
  begin(connectionId: number): void {
    this.#connectionId = connectionId
    this.fin = this.probe = this.#cut = -1
  }

  /** The whole packet. */
  build(sequence: number): Uint8Array {
    const data = this.#scratch.cut(this.size(sequence))
    if (sequence === this.fin) {
      writeHeader(data, ST_FIN, 0, this.#connectionId, sequence)
      return data
    }
    const padding = sequence === this.probe ? this.probePadding : 0
    writeHeader(data, ST_DATA, padding > 0 ? EXTENSION_BITS : 0, this.#connectionId, sequence)
    if (padding > 0) writePadding(data, padding)
    this.#buffer.read(this.#ring.place(sequence), this.#ring.size(sequence), data, HEADER_SIZE + padding)
    return data
  }

  /** Bytes of {@link build}'s datagram. */
  size(sequence: number): number {
    return HEADER_SIZE + this.#ring.size(sequence) + (sequence === this.probe ? this.probePadding : 0)
  }

  /** The packet leaves in pieces from now on: {@link nextPiece}. */
  cut(sequence: number): void {
    this.#cut = sequence
    this.#cutAt = 0
  }

  /** Made for a wider path than this one of `mtu` bytes; undefined when nothing is left in pieces, or has come meanwhile. */
  nextPiece(mtu: number): Uint8Array | undefined {
    const ring = this.#ring
    const sequence = this.#cut
    this.#cut = -1
    if (sequence < 0 || !ring.holds(sequence) || ring.state(sequence) === SACKED) return undefined
    const total = ring.size(sequence)
    const from = this.#cutAt
    const size = Math.min(total - from, mtu - HEADER_SIZE - FRAGMENT_SIZE)
    const data = this.#scratch.cut(HEADER_SIZE + FRAGMENT_SIZE + size)
    writeHeader(data, ST_DATA, EXTENSION_FRAGMENT, this.#connectionId, sequence)
    writeFragment(data, from, total)
    this.#buffer.read((ring.place(sequence) + from) | 0, size, data, HEADER_SIZE + FRAGMENT_SIZE)
    this.#cutAt = from + size
    if (this.#cutAt < total) this.#cut = sequence
    return data
  }
}
