import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { PeerError } from '../core/errors.ts'
import { UtpStream } from '../utp/driver/index.ts'
import { secured, startTls, peerOf, type HandshakeOptions } from './handshake.ts'
import type { Identity } from './identity.ts'
import { LateTransport } from './late-transport.ts'
import { AuthenticEnd, SecureStream } from './secure-stream.ts'

/**
 * Mutual TLS 1.3 whose first flights, the client's and then the server's (RFC 8446 §2), travel with the signals that find a
 * path: what the client says last, and its request, go by the path with the first datagram. A round trip less than a
 * {@link handshake} that begins there.
 *
 * Nobody between gains anything: the signals are sealed and signed, and TLS proves both keys as it always does.
 */
export class EarlyHandshake {
  readonly role: 'client' | 'server'
  readonly #transport = new LateTransport()
  readonly #end: AuthenticEnd
  readonly #tls: TLSSocket
  readonly #secured: Promise<void>
  #hasHeard = false
  #isOver = false

  /** Once the time of `options` is over, it is as if it had never been. */
  constructor(role: 'client' | 'server', identity: Identity, options: HandshakeOptions) {
    this.role = role
    this.#end = new AuthenticEnd(this.#transport)
    this.#tls = startTls(this.#transport, role, identity)
    this.#end.watch(this.#tls)
    this.#secured = secured(this.#tls, this.#transport, role, options)
    this.#secured.catch(() => this.destroy())
  }

  /** The peer's first flight is here: the rest can go by a path. False once it has gone, or failed. */
  get isReady(): boolean {
    return this.#hasHeard && !this.#isOver
  }

  /**
   * This side's first flight; a server's when it has the client's.
   *
   * @throws {PeerError} as {@link handshake}.
   */
  async flight(): Promise<Buffer> {
    const flight = this.#transport.takeSaid()
    if (flight.length > 0) return flight
    const said = new Promise<Buffer>((resolve) => {
      this.#transport.onSaid = () => setImmediate(() => resolve(this.#transport.takeSaid()))
    })
    // Fails with the handshake; that it succeeds comes later.
    return await Promise.race([said, this.#secured.then(() => said)])
  }

  /** The peer's first flight. A client looks into it a little later: what else came with it is quicker to see to. */
  receive(flight: Buffer): void {
    if (this.#hasHeard || this.#isOver) return
    this.#hasHeard = true
    if (this.role === 'server') this.#transport.give(flight)
    else setImmediate(() => this.#transport.give(flight))
  }

  /**
   * Goes on by `raw`, which belongs to the handshake from here on. A client's `head` goes before everything, and leaves together
   * with what is first written to the stream.
   *
   * @throws {PeerError} as {@link handshake}.
   */
  async complete(raw: Duplex, head: Buffer = Buffer.alloc(0)): Promise<SecureStream> {
    if (this.#isOver) throw new PeerError('ERR_NATWORK_HANDSHAKE', 'the handshake that began is over')
    this.#isOver = true
    if (raw instanceof UtpStream) raw.passBuffers()
    const isClient = this.role === 'client'
    try {
      // The client's last flight is said then, and what comes next is the request.
      if (isClient) await this.#secured
      this.#transport.attach(raw, head, isClient)
      await this.#secured
      return new SecureStream(raw, this.#tls, this.#end, peerOf(this.#tls), this.#transport)
    } catch (error) {
      raw.on('error', ignore)
      raw.destroy()
      this.#destroy()
      throw error
    }
  }

  /** Gives it up, unless it has gone on by a path. Idempotent. */
  destroy(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#destroy()
  }

  #destroy(): void {
    this.#transport.on('error', ignore)
    this.#tls.on('error', ignore)
    this.#transport.destroy()
    this.#tls.destroy()
  }
}

function ignore(): void {
  // An error after the first one tells nothing more.
}
