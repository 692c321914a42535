import { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import type { SocketAddress } from '../core/address.ts'
import { PeerError, type NatworkError } from '../core/errors.ts'
import { isNatworkError } from './errors.ts'
import type { NodeId } from './node-id.ts'

/**
 * Bytes to and from another node, whose identity TLS has proved. Both directions end independently
 * (`allowHalfOpen`); an end is authentic (TLS's close_notify), anything less is an error. `destroy()` before both ends
 * is a reset at the other side.
 *
 * Why a layer above TLSSocket: it destroys itself, and what it has buffered, as soon as the stream below closes; it
 * takes a cut connection for an end; and its errors are OpenSSL's words.
 */
export class SecureStream extends Duplex {
  /** The node at the other end. */
  readonly peer: NodeId
  /** The transport below, for its path and counters. */
  readonly raw: Duplex
  /** The byte stream that TLS speaks on: the same, or one that came before it. */
  readonly #carrier: Duplex
  readonly #tls: TLSSocket
  readonly #end: AuthenticEnd
  /** TLS was told to decrypt no more. */
  #stopped = false
  #writing: ((error?: Error | null) => void) | undefined
  #writingBytes = 0
  #endPushed = false
  #received = 0
  #sent = 0
  #receivedBefore = 0
  #sentBefore = 0

  /** @internal Made by handshake.ts once the peer's identity is known. */
  constructor(raw: Duplex, tls: TLSSocket, end: AuthenticEnd, peer: NodeId, carrier: Duplex = raw) {
    super({ allowHalfOpen: true, readableHighWaterMark: HIGH_WATER, writableHighWaterMark: HIGH_WATER })
    this.peer = peer
    this.raw = raw
    this.#carrier = carrier
    this.#tls = tls
    this.#end = end
    for (let early: Buffer | null; (early = tls.read() as Buffer | null) !== null;) this.#take(early)
    end.onData = (chunk) => this.#take(chunk)
    tls.on('error', (error: Error) => this.destroy(translate(error)))
    carrier.on('error', (error: Error) => this.destroy(translate(error)))
    carrier.on('close', () => this.#rawClosed())
    end.onAuthentic = () => this.#pushEnd()
    end.onRawEnd = () => this.#rawEnded()
    if (end.rawEnded) this.#rawEnded()
    else if (end.authentic) this.#pushEnd()
    if (carrier.destroyed) this.#rawClosed()
  }

  /** The peer's transport address, when the transport has one. */
  get remote(): SocketAddress | undefined {
    const { raw } = this
    if (!('remoteAddress' in raw) || !('remotePort' in raw)) return undefined
    return { address: String(raw.remoteAddress), port: Number(raw.remotePort) }
  }

  /** @internal Counts from here on: what was read and written until now was protocol, but the last `spoken` bytes. */
  startCounting(spoken = 0): void {
    this.#receivedBefore = this.#received - this.readableLength
    this.#sentBefore = this.#sent + this.writableLength - spoken
  }

  /** Bytes of the service that came in, without TLS's and the request's. */
  get bytesIn(): number {
    return this.#received - this.#receivedBefore
  }

  /** Bytes of the service that TLS took for sending. */
  get bytesOut(): number {
    return Math.max(0, this.#sent - this.#sentBefore)
  }

  override _read(): void {
    if (!this.#stopped) return
    this.#stopped = false
    // TLSSocket believes that it is reading still, as no push has told it otherwise.
    TLSSocket.prototype.push.call(this.#tls, nothing)
  }

  // Done when TLS has encrypted all of it and the transport has taken that, not when TLS has room: who wrote `chunk` may
  // use its memory again then. One write at a time is what TLSSocket does anyway; the rest gathers here and goes together.
  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#writing = done
    this.#writingBytes = chunk.length
    this.#tls.write(chunk, this.#onWritten)
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#writing = done
    this.#writingBytes = 0
    // Corked: many small writes share TLS records instead of one of 22 bytes more each.
    this.#tls.cork()
    const last = chunks.length - 1
    for (const [i, { chunk }] of chunks.entries()) {
      this.#writingBytes += chunk.length
      if (i < last) this.#tls.write(chunk)
      else this.#tls.write(chunk, this.#onWritten)
    }
    this.#tls.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#tls.end(() => done())
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const writing = this.#writing
    this.#writing = undefined
    const reset = error ?? new PeerError('ERR_NATWORK_RESET', 'the stream was destroyed')
    writing?.(reset)
    if (error !== null || !this.#endPushed || !this.writableFinished) {
      // With an error, since a plain destroy() lets what was written before end() arrive.
      this.#carrier.destroy(reset)
      this.#tls.destroy()
    }
    done(error)
  }

  readonly #onWritten = (error?: Error | null): void => {
    const done = this.#writing
    this.#writing = undefined
    if (error) done?.(translate(error))
    if (error || done === undefined) return
    this.#sent += this.#writingBytes
    done()
  }

  /** @returns false when TLS should decrypt no more until {@link _read}. */
  #take(chunk: Buffer): boolean {
    this.#received += chunk.length
    this.#stopped = !this.push(chunk)
    return !this.#stopped
  }

  #rawEnded(): void {
    if (!this.#end.authentic) {
      this.destroy(
        new PeerError('ERR_NATWORK_TRUNCATED', 'the connection was cut: its end is not by the peer'),
      )
      return
    }
    this.#pushEnd()
    this.#tls.resume()
  }

  #pushEnd(): void {
    if (this.#endPushed || this.destroyed) return
    this.#endPushed = true
    this.push(null)
  }

  #rawClosed(): void {
    const complete = this.#endPushed && (this.writableFinished || this.#tls.writableFinished)
    if (!complete) this.destroy(new PeerError('ERR_NATWORK_RESET', 'the connection closed before both ends'))
  }
}

/** Bytes that wait in each direction before the other side is held back: what a loop turn moves at full speed. */
const HIGH_WATER = 262_144

const nothing = Buffer.alloc(0)

/**
 * Watches for TLS's close_notify, which Node does not tell from a bare end of the transport. Must be made before the
 * TLSSocket: its listener on the raw stream has to run first. Also takes what TLS has decrypted, once somebody wants it,
 * past TLSSocket's own buffer and events, which would cost each small message some microseconds.
 *
 * TLSSocket itself learns of the end only with the raw one. Earlier it would destroy itself, and with it the raw stream,
 * once it has sent its own end, although the peer's last packets are still under way.
 */
export class AuthenticEnd {
  authentic = false
  rawEnded = false
  onAuthentic: () => void = () => undefined
  onData: ((chunk: Buffer) => boolean) | undefined
  onRawEnd: () => void = () => undefined

  constructor(raw: Duplex) {
    raw.once('end', () => {
      this.rawEnded = true
      this.onRawEnd()
    })
  }

  /** TLSSocket pushes null at close_notify, and else only after the raw end, when we have looked already. */
  watch(tls: TLSSocket): void {
    tls.push = (chunk: unknown, encoding?: BufferEncoding) => {
      if (chunk !== null && this.onData !== undefined) return this.onData(chunk as Buffer)
      if (chunk !== null || this.rawEnded) return TLSSocket.prototype.push.call(tls, chunk, encoding)
      this.authentic = true
      this.onAuthentic()
      return false
    }
  }
}

export function translate(error: Error): NatworkError {
  if (isNatworkError(error)) return error
  return new PeerError('ERR_NATWORK_RESET', `the connection broke: ${error.message}`, { cause: error })
}
