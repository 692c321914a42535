import { HEADER_LENGTH, MAGIC_COOKIE } from './codec/view.ts'

/**
 * Cuts a TCP or TLS byte stream into STUN messages (RFC 8489 §6.2.2: nothing stands between them). It holds at most one
 * incomplete message.
 */
export class StunFramer {
  readonly #maxMessage: number
  readonly #onMessage: (message: Uint8Array) => void
  #pending: Buffer = Buffer.alloc(0)

  /** @param maxMessage bytes, header included; a longer one ends the stream. */
  constructor(maxMessage: number, onMessage: (message: Uint8Array) => void) {
    this.#maxMessage = maxMessage
    this.#onMessage = onMessage
  }

  /**
   * Takes the next bytes. The messages belong to the framer again when `onMessage` returns.
   *
   * @returns false when the stream is no STUN, or has too long a message: nothing behind that point means anything.
   */
  push(chunk: Uint8Array): boolean {
    this.#pending = this.#pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk])
    let at = 0
    while (this.#pending.length - at >= HEADER_LENGTH) {
      const length = HEADER_LENGTH + this.#pending.readUInt16BE(at + 2)
      const isStun =
        this.#pending.readUInt16BE(at) <= 0x3fff &&
        length % 4 === 0 &&
        this.#pending.readUInt32BE(at + 4) === MAGIC_COOKIE
      if (!isStun || length > this.#maxMessage) return false
      if (this.#pending.length - at < length) break
      this.#onMessage(this.#pending.subarray(at, at + length))
      at += length
    }
    this.#pending = this.#pending.subarray(at)
    return true
  }
}
