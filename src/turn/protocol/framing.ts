import { HEADER_LENGTH, MAGIC_COOKIE } from '../../stun/codec/view.ts'
import { CHANNEL_DATA_HEADER, FIRST_CHANNEL, LAST_CHANNEL, LAST_OLD_CHANNEL } from './channel-data.ts'

export interface TurnFramerOptions {
  /** Bytes of a STUN message or of ChannelData's header and payload; a longer one ends the stream. Default 65,556. */
  readonly maxMessage?: number
  /** Take the channel numbers of RFC 5766 too, 0x5000–0x7FFF; default false. */
  readonly oldChannels?: boolean
  /** Whole messages, ChannelData without its padding. They are the framer's again when this returns. */
  readonly onMessage: (message: Uint8Array) => void
}

/**
 * Cuts a TCP or TLS byte stream into STUN messages and ChannelData, which is padded to 4 bytes there (RFC 8656 §12.5).
 * It holds at most one incomplete message.
 */
export class TurnFramer {
  readonly #maxMessage: number
  readonly #lastChannel: number
  readonly #onMessage: (message: Uint8Array) => void
  /** Read from, before `#end`; grown on demand up to the longest message, taken only while one is incomplete. */
  #pending: Buffer = EMPTY
  #end = 0
  #stopped = false

  constructor({ maxMessage = MAX_MESSAGE, oldChannels = false, onMessage }: TurnFramerOptions) {
    this.#maxMessage = maxMessage
    this.#lastChannel = oldChannels ? LAST_OLD_CHANNEL : LAST_CHANNEL
    this.#onMessage = onMessage
  }

  /** Bytes of an incomplete message: 0 between messages. */
  get buffered(): number {
    return this.#end
  }

  /** From inside `onMessage`: what follows the message belongs to somebody else (RFC 6062 §4.3): see {@link push}. */
  stop(): void {
    this.#stopped = true
  }

  /**
   * Takes the next bytes.
   *
   * @returns how many of `chunk` are understood: all of them, or fewer after {@link stop}; -1 when the stream is no
   * TURN, or has too long a message: nothing behind that point means anything.
   */
  push(chunk: Uint8Array): number {
    let at = 0
    while (at < chunk.length) {
      if (this.#end > 0) {
        const taken = this.#complete(chunk, at)
        if (taken === -1) return -1
        at += taken
      } else {
        const length = this.#frameLength(chunk, at, chunk.length)
        if (length === -1) return -1
        if (length === 0 || at + streamed(length) > chunk.length) {
          this.#keep(chunk, at, chunk.length)
          at = chunk.length
        } else {
          this.#onMessage(chunk.subarray(at, at + length))
          at += streamed(length)
        }
      }
      if (this.#stopped) return at
    }
    return at
  }

  /** Adds to the incomplete message what it lacks, and says how much that was. */
  #complete(chunk: Uint8Array, from: number): number {
    let at = from
    let length = this.#frameLength(this.#pending, 0, this.#end)
    if (length === 0) {
      const more = Math.min(HEADER_LENGTH - this.#end, chunk.length - at)
      // The header first, byte by byte where need be: ChannelData's is shorter than STUN's, and may be a whole message.
      const wanted = this.#end < CHANNEL_DATA_HEADER ? Math.min(CHANNEL_DATA_HEADER - this.#end, more) : more
      this.#keep(chunk, at, at + wanted)
      at += wanted
      length = this.#frameLength(this.#pending, 0, this.#end)
    }
    if (length === -1) return -1
    if (length === 0) return at - from
    const lacking = Math.min(streamed(length) - this.#end, chunk.length - at)
    this.#keep(chunk, at, at + lacking)
    at += lacking
    if (this.#end === streamed(length)) {
      const message = this.#pending.subarray(0, length)
      this.#end = 0
      this.#onMessage(message)
      // One long message must not hold its memory for the life of the connection.
      if (this.#pending.length > KEPT) this.#pending = EMPTY
    }
    return at - from
  }

  /** 0: not yet known; -1: no TURN, or too long. Without padding. */
  #frameLength(bytes: Uint8Array, at: number, end: number): number {
    if (end - at < CHANNEL_DATA_HEADER) {
      return (bytes[at] ?? 0) >>> 6 > 1 ? -1 : 0
    }
    const first = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
    const size = ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)
    let length: number
    if (first >= FIRST_CHANNEL) {
      if (first > this.#lastChannel) return -1
      length = CHANNEL_DATA_HEADER + size
    } else {
      if (size % 4 !== 0) return -1
      length = HEADER_LENGTH + size
      if (length > this.#maxMessage) return -1
      if (end - at < 8) return 0
      for (let n = 0; n < 4; n++) {
        if (bytes[at + 4 + n] !== ((MAGIC_COOKIE >>> (24 - 8 * n)) & 255)) return -1
      }
    }
    return length > this.#maxMessage ? -1 : length
  }

  #keep(chunk: Uint8Array, from: number, to: number): void {
    const end = this.#end + to - from
    if (end > this.#pending.length) {
      const grown = Buffer.allocUnsafe(Math.max(KEPT, 2 * end))
      grown.set(this.#pending.subarray(0, this.#end))
      this.#pending = grown
    }
    this.#pending.set(chunk.subarray(from, to), this.#end)
    this.#end = end
  }
}

/** The longest STUN message there is, with room for ChannelData's longest. */
const MAX_MESSAGE = 65_556
/** Bytes that a framer holds on to between messages. */
const KEPT = 2_048
const EMPTY = Buffer.alloc(0)

const streamed = (length: number): number => (length + 3) & ~3
