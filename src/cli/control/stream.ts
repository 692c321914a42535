import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { PeerError } from '../../core/index.ts'
import { errorSchema, packError, unpackError, type WireError } from './protocol.ts'

const DATA = 0
const END = 1
const ERROR = 2
const HEAD = 5

/** The longest frame we take: a node never reads more than a few hundred KiB at once. */
const MAX_FRAME = 16 * 1_048_576

/**
 * A byte stream over the control socket that keeps what a bare Unix socket would lose: whether the other end finished,
 * or broke, and by which error. Frames: kind (1 byte), length (4, big-endian), payload.
 */
export class ControlStream extends Duplex {
  readonly #socket: Socket
  #pending: Buffer = Buffer.alloc(0)
  #ended = false
  #finished = false

  /** Takes the socket over. Bytes already in it count. */
  constructor(socket: Socket) {
    super({ allowHalfOpen: true })
    this.#socket = socket
    socket.on('readable', () => {
      this.#pump()
    })
    socket.on('error', (error) => this.destroy(error))
    const onGone = (): void => {
      if (!this.#ended)
        this.destroy(new PeerError('ERR_NATWORK_NODE_GONE', 'the node on this machine stopped'))
    }
    socket.on('end', onGone).on('close', onGone)
    this.#pump()
  }

  override _read(): void {
    this.#pump()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.cork()
    this.#socket.write(head(DATA, chunk.length))
    this.#socket.write(chunk, done)
    this.#socket.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#finished = true
    this.#socket.write(head(END, 0), done)
    this.#closeWhenDone()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#ended && this.#finished) {
      this.#socket.end()
    } else if (!this.#socket.destroyed) {
      // Tell why before we go: the other end makes it the end of its connection.
      const reason: WireError =
        error === null
          ? { kind: 'peer', code: 'ERR_NATWORK_RESET', message: 'the connection was reset' }
          : packError(error)
      const payload = Buffer.from(JSON.stringify(reason))
      this.#socket.write(head(ERROR, payload.length))
      this.#socket.end(payload)
    }
    // Whatever else arrives is nobody's; without a reader the socket would never close.
    this.#socket.resume()
    done(error)
  }

  #pump(): void {
    while (!this.destroyed && !this.#ended && this.readableLength < this.readableHighWaterMark) {
      const frame = this.#nextFrame()
      if (frame === undefined) return
      if (frame.kind === DATA) {
        if (!this.push(frame.payload)) return
      } else if (frame.kind === END) {
        this.#ended = true
        this.push(null)
        this.#closeWhenDone()
      } else {
        this.destroy(readError(frame.payload))
      }
    }
  }

  #nextFrame(): { kind: number; payload: Buffer } | undefined {
    for (;;) {
      const have = this.#pending
      if (have.length >= HEAD) {
        const length = have.readUInt32BE(1)
        if (length > MAX_FRAME) {
          this.destroy(unpackError(misframed))
          return undefined
        }
        if (have.length >= HEAD + length) {
          this.#pending = have.subarray(HEAD + length)
          return { kind: have[0] ?? ERROR, payload: have.subarray(HEAD, HEAD + length) }
        }
      }
      const more = this.#socket.read() as Buffer | null
      if (more === null) return undefined
      this.#pending = have.length === 0 ? more : Buffer.concat([have, more])
    }
  }

  #closeWhenDone(): void {
    if (this.#ended && this.#finished) this.#socket.end()
  }
}

const misframed: WireError = {
  kind: 'internal',
  code: 'ERR_NATWORK_CONTROL',
  message: 'the node on this machine sent something that is no frame',
}

function head(kind: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD)
  bytes[0] = kind
  bytes.writeUInt32BE(length, 1)
  return bytes
}

function readError(payload: Buffer): Error {
  try {
    return unpackError(errorSchema.parse(JSON.parse(payload.toString('utf8'))))
  } catch {
    return unpackError(misframed)
  }
}
