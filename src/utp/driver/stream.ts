import { Duplex } from 'node:stream'
import { familyOf } from '../../core/address.ts'
import type { Micros, Path } from '../../core/machine.ts'
import { release } from '../../core/release.ts'
import type { UtpConnection } from '../connection.ts'
import type { UtpError } from '../errors.ts'
import { destroyedError } from './errors.ts'

/** `closing`: this side is done with it, the last bytes are still on their way. */
export type UtpStreamState = 'connecting' | 'open' | 'closing' | 'closed'

/** What a stream needs from the socket it lives on. */
export interface StreamHost {
  now(): Micros
  /** Drains the machine after a mutation. */
  wake(): void
}

/**
 * A uTP connection as a Node stream. What is written in one go leaves together, in packets that fill the path.
 * Back-pressure is the protocol's own: a reader that stops lets at most one receive buffer and
 * `readableHighWaterMark` bytes pile up on its side, and one send buffer on the writer's, whose `write` then returns
 * false.
 *
 * `end()` sends FIN after the last byte; the other direction stays open unless `allowHalfOpen` is false. `destroy()`
 * after `'finish'` lets the written bytes arrive; before it, or with an error, it resets the connection, and the peer
 * gets `ERR_NATWORK_UTP_RESET`.
 *
 * Its `'error'` is a {@link PeerError}: `ERR_NATWORK_UTP_RESET` (the peer gave the connection up), `…_TIMEOUT` (the
 * peer is silent), or before `'connect'` `…_REFUSED` and `…_CONNECT_TIMEOUT`.
 */
export class UtpStream extends Duplex {
  /** Unique among the connections of one server. */
  readonly id: number
  /** Bytes taken from the connection by this stream. */
  bytesRead = 0
  /** Bytes of this stream that the connection took. */
  bytesWritten = 0

  readonly #connection: UtpConnection
  readonly #host: StreamHost
  #state: UtpStreamState
  #wantsData = false
  #peerEnded = false
  #passing = false
  readonly #since = Date.now()
  /** Chunks to recycle once they were seen. Bounded by `readableHighWaterMark` and one chunk more. */
  #lent = NONE
  /** What the send buffer had no room for yet, and whom to tell when it is all in. */
  #unsent = NONE
  /** Bytes of the first of them that are in already. */
  #sentOfFirst = 0
  #whenSent: ((error?: Error | null) => void) | undefined
  #orphan: NodeJS.Timeout | undefined

  /** @internal Streams are made by {@link UtpServer}. */
  constructor(
    id: number,
    connection: UtpConnection,
    host: StreamHost,
    state: 'connecting' | 'open',
    allowHalfOpen: boolean,
  ) {
    super({ allowHalfOpen, readableHighWaterMark: HIGH_WATER, writableHighWaterMark: HIGH_WATER })
    this.id = id
    this.#connection = connection
    this.#host = host
    this.#state = state
  }

  /** When either side asked for the connection. */
  get since(): Date {
    return new Date(this.#since)
  }

  get state(): UtpStreamState {
    return this.#state
  }

  get connecting(): boolean {
    return this.#state === 'connecting'
  }

  get remoteAddress(): string {
    return this.#connection.path.remote.address
  }

  get remotePort(): number {
    return this.#connection.path.remote.port
  }

  get remoteFamily(): 'IPv4' | 'IPv6' {
    return familyOf(this.remoteAddress) === 6 ? 'IPv6' : 'IPv4'
  }

  /** The connection below: its path, its statistics, and the way to move it to another path. */
  get connection(): UtpConnection {
    return this.#connection
  }

  /** Sends everything by another path from now on; no byte is lost. See `UtpConnection.setPath`. */
  setPath(path: Path): void {
    this.#connection.setPath(this.#host.now(), path)
    this.#host.wake()
  }

  /**
   * @internal For a user that copies: from here on a chunk read is valid until the `'data'` listeners return, and memory
   * that was written is given back once its bytes are taken. Spares the garbage collector one buffer per chunk each way.
   */
  passBuffers(): void {
    this.#passing = true
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const size = this.#connection.write(this.#host.now(), chunk)
    this.bytesWritten += size
    this.#host.wake()
    if (size === chunk.byteLength) {
      if (this.#passing) release(chunk)
      done()
    } else {
      this.#unsent = [chunk]
      this.#sentOfFirst = size
      this.#whenSent = done
    }
  }

  override _writev(
    chunks: { chunk: Uint8Array; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#unsent = chunks.map(({ chunk }) => chunk)
    this.#whenSent = done
    this.#send()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#connection.end(this.#host.now())
    this.#host.wake()
    done()
  }

  override _read(): void {
    // When more was wanted already, nothing was left to read: the connection says when there is.
    if (this.#wantsData) return
    this.#wantsData = true
    this.#receive()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#state !== 'closed') {
      this.#state = 'closing'
      if (error !== null || !this.writableFinished || this.#connection.readable > 0) {
        // As TCP does: also when bytes are thrown away unread (RFC 2525 §2.17).
        this.#reset()
      } else if (!this.#peerEnded) {
        // Nobody will read what the peer still says. TCP waits a while for the peer's FIN too (tcp_fin_timeout).
        this.#orphan = setTimeout(() => {
          this.#reset()
        }, ORPHAN_TIMEOUT)
      }
    }
    const whenSent = this.#whenSent
    this.#whenSent = undefined
    this.#unsent = NONE
    whenSent?.(error ?? destroyedError())
    done(error)
  }

  /** @internal The server stops: end in order what is open. */
  finish(reason: Error): void {
    if (this.connecting) this.destroy(reason)
    else if (!this.destroyed) this.end()
  }

  /** @internal The server has stopped waiting: nothing of this connection may stay. */
  abandon(): void {
    this.#reset()
    this.destroy()
  }

  /** @internal */
  onConnected(): void {
    if (this.#state !== 'connecting') return
    this.#state = 'open'
    this.emit('connect')
  }

  /** @internal */
  onReadable(): void {
    if (this.destroyed) this.#reset()
    else this.#receive()
  }

  /** @internal */
  onWritable(): void {
    if (this.#whenSent !== undefined) this.#send()
  }

  /** @internal */
  onEnded(): void {
    this.#peerEnded = true
    clearTimeout(this.#orphan)
    if (!this.destroyed) this.#receive()
  }

  /** @internal The connection is over; `error` when not both sides ended it. */
  onClosed(error: UtpError | undefined): void {
    this.#state = 'closed'
    clearTimeout(this.#orphan)
    if (error !== undefined) this.destroy(error)
  }

  #send(): void {
    const now = this.#host.now()
    let full = false
    let taken = 0
    for (const chunk of this.#unsent) {
      const rest = this.#sentOfFirst === 0 ? chunk : chunk.subarray(this.#sentOfFirst)
      const size = this.#connection.write(now, rest)
      this.bytesWritten += size
      full = size < rest.byteLength
      if (full) {
        this.#sentOfFirst += size
        break
      }
      this.#sentOfFirst = 0
      if (this.#passing) release(chunk)
      taken++
    }
    this.#unsent = full ? this.#unsent.slice(taken) : NONE
    this.#host.wake()
    if (full) return
    const done = this.#whenSent
    this.#whenSent = undefined
    done?.()
  }

  #receive(): void {
    const now = this.#host.now()
    let took = false
    this.#takeBack()
    while (this.#wantsData) {
      const bytes = this.#connection.read(now)
      if (bytes === undefined) break
      took = true
      this.bytesRead += bytes.byteLength
      if (this.#passing && this.readableFlowing === true && this.readableLength === 0) {
        // As `push` would, without its look for more in a tick of its own.
        this.emit('data', bytes)
      } else {
        this.#wantsData = this.push(bytes)
      }
      if (!this.#passing) continue
      if (this.readableLength === 0 && this.#lent.length === 0) this.#connection.recycle(bytes)
      else if (this.#lent === NONE) this.#lent = [bytes]
      else this.#lent.push(bytes)
    }
    // Reading opened the window: the peer may have to be told.
    if (took) this.#host.wake()
    if (this.#wantsData && this.#peerEnded) {
      this.#wantsData = false
      this.push(null)
    }
  }

  #takeBack(): void {
    // Nothing waits in the stream: the listeners have seen all of it.
    if (this.#lent.length === 0 || this.readableLength > 0) return
    for (const bytes of this.#lent) this.#connection.recycle(bytes)
    this.#lent = NONE
  }

  #reset(): void {
    this.#connection.reset(this.#host.now())
    this.#host.wake()
  }
}

const HIGH_WATER = 64 * 1024
/** Of every idle stream: nothing is put in here. */
const NONE: Uint8Array[] = []
/** How long a connection that was ended and destroyed waits for its peer to end too, in ms. */
const ORPHAN_TIMEOUT = 10_000
