// The global of that name is a getter.
import { Buffer } from 'node:buffer'
import { copy } from './copy.ts'

const LARGEST_CHUNK = 65_536
const SMALLEST_CHUNK = 2_048
/** What comes alone to a quiet connection, at most so much, is cut from Node's own pool of memory. */
const ALONE = 2_048

/** Large chunks that were given back, for whichever connection is busy next. */
const spare: Uint8Array[] = []
/** 2 MiB of them: about what one turn of the event loop brings. */
const MOST_SPARE = 32

/** Without any memory, for connections that get a little now and then. */
const quiet: ReceiveBuffer[] = []
const MOST_QUIET = 64

/**
 * In-order bytes that wait for the application, gathered into large chunks: what `shift` hands out belongs to the reader,
 * who may give it back. Bounded by the connection's receive buffer.
 */
export class ReceiveBuffer {
  /** What every connection has of which all was read: nothing is ever put into this one. */
  static readonly none = new ReceiveBuffer()

  static take(): ReceiveBuffer {
    return quiet.pop() ?? new ReceiveBuffer()
  }

  /** Nobody looks at `buffer` any more, which {@link isQuiet}. */
  static giveBack(buffer: ReceiveBuffer): void {
    if (buffer !== ReceiveBuffer.none && quiet.length < MOST_QUIET) quiet.push(buffer)
  }

  /** Bytes waiting. */
  length = 0
  /** The whole chunk to be handed out next, and those after it: an array while there are such, and a while longer. */
  #full: Uint8Array | undefined
  #fullAfter: Uint8Array[] | undefined
  /** The chunk being filled: bytes `#from`–`#to` of it wait. */
  #chunk: Uint8Array | undefined
  #from = 0
  #to = 0
  #chunkSize = SMALLEST_CHUNK

  /** Copies `bytes[from…]` in. */
  push(bytes: Uint8Array, from: number): void {
    const total = bytes.length - from
    if (
      total <= ALONE &&
      this.length === 0 &&
      this.#chunk === undefined &&
      this.#chunkSize === SMALLEST_CHUNK
    ) {
      const alone = Buffer.allocUnsafe(total)
      copy(bytes, from, total, alone, 0)
      this.#full = alone
      this.length = total
      return
    }
    this.length += total
    let at = from
    while (at < bytes.length) {
      if (this.#chunk === undefined) {
        this.#chunk =
          (this.#chunkSize === LARGEST_CHUNK ? spare.pop() : undefined) ??
          Buffer.allocUnsafeSlow(this.#chunkSize)
        this.#from = this.#to = 0
      }
      const size = Math.min(bytes.length - at, this.#chunk.length - this.#to)
      copy(bytes, at, size, this.#chunk, this.#to)
      this.#to += size
      at += size
      if (this.#to === this.#chunk.length) {
        const whole = this.#chunk.subarray(this.#from)
        this.#chunk = undefined
        if (this.#full === undefined) this.#full = whole
        else (this.#fullAfter ??= []).push(whole)
        // A chunk filled before the next read: this connection is busy, use larger ones.
        if (this.#chunkSize < LARGEST_CHUNK) this.#chunkSize *= 2
      }
    }
  }

  /** The next bytes in order, as many as lie together; undefined when there are none. */
  shift(): Uint8Array | undefined {
    const full = this.#full
    if (full !== undefined) {
      this.#full = this.#fullAfter?.shift()
      this.length -= full.length
      return full
    }
    if (this.#chunk === undefined || this.#from === this.#to) return undefined
    const part = this.#chunk.subarray(this.#from, this.#to)
    this.length -= part.length
    this.#from = this.#to
    if (part.length * 4 < this.#chunk.length) {
      // Little came since the last read: a quiet connection should not hold a chunk.
      if (this.#chunkSize > SMALLEST_CHUNK) this.#chunkSize /= 2
      this.#chunk = undefined
    }
    return part
  }

  /** The reader is done with `view`, which it got from `shift`, and with everything that it got before. */
  recycle(view: Uint8Array): void {
    const { buffer, byteOffset, byteLength } = view
    if (this.#chunk?.buffer === buffer) {
      if (this.#from === this.#to) this.#from = this.#to = 0
    } else if (buffer.byteLength === LARGEST_CHUNK && byteOffset + byteLength === LARGEST_CHUNK) {
      // The end of a chunk is handed out once.
      if (spare.length < MOST_SPARE) spare.push(Buffer.from(buffer))
    }
  }

  /** There is nothing in it, and nothing that a busy connection would want to keep. */
  get isQuiet(): boolean {
    return this.length === 0 && this.#chunkSize === SMALLEST_CHUNK && this.#chunk === undefined
  }

  /** A quiet connection holds no memory. */
  rest(): void {
    if (this.length > 0) return
    this.#fullAfter = this.#chunk = undefined
    this.#chunkSize = SMALLEST_CHUNK
  }

  clear(): void {
    this.#full = undefined
    this.length = 0
    this.rest()
  }
}
