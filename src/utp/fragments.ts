import type { Packet } from './packet.ts'

/** Packets put together at a time; the oldest makes room. The peer sends all of a packet again when a piece is lost. */
const MOST_PACKETS = 8

interface Partial {
  readonly bytes: Uint8Array
  readonly covered: Uint8Array
  missing: number
}

/**
 * Puts packets together that came in pieces. A packet keeps its payload for ever (BEP 29: "uTP cannot repackage"), so one
 * that was made for a wider path can cross a narrower one only in pieces. Bounded by {@link MOST_PACKETS} of 64 KiB.
 */
export class Fragments {
  readonly #partials = new Map<number, Partial>()

  /** @returns the whole payload when this was the last missing piece. */
  add(packet: Packet, datagram: Uint8Array): Uint8Array | undefined {
    const { sequence, fragmentTotal: total, fragmentOffset: offset } = packet
    const size = datagram.length - packet.payloadAt
    if (offset + size > total) return undefined
    let partial = this.#partials.get(sequence)
    if (partial?.bytes.length !== total) {
      this.#makeRoom()
      partial = { bytes: new Uint8Array(total), covered: new Uint8Array(total), missing: total }
      this.#partials.set(sequence, partial)
    }
    partial.bytes.set(datagram.subarray(packet.payloadAt), offset)
    // Byte by byte: pieces of two transmissions may have been cut for two sizes of the path.
    for (let i = offset; i < offset + size; i++) {
      if (partial.covered[i] !== 0) continue
      partial.covered[i] = 1
      partial.missing--
    }
    if (partial.missing > 0) return undefined
    this.#partials.delete(sequence)
    return partial.bytes
  }

  get isEmpty(): boolean {
    return this.#partials.size === 0
  }

  #makeRoom(): void {
    if (this.#partials.size < MOST_PACKETS) return
    for (const oldest of this.#partials.keys()) {
      this.#partials.delete(oldest)
      return
    }
  }
}
