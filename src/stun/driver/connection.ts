import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { SocketAddress } from '../../core/address.ts'
import { formatAddress } from '../../core/address.ts'
import type { Path } from '../../core/machine.ts'
import { systemClock, systemRng } from '../../core/ports.ts'
import { StunClient, type StunClientOptions } from '../client/client.ts'
import { StunPeerError } from '../errors.ts'
import { StunFramer } from '../framing.ts'
import { abortedError, Exchanges, type StunAnswer, type StunAsk } from './exchanges.ts'

export interface StunConnectionOptions extends Omit<StunClientOptions, 'rng'> {
  /** Present: TLS, 1.2 or newer. */
  readonly tls?: {
    /** The DNS name that the server's certificate must carry (RFC 8489 §6.2.3). */
    readonly servername: string
    /** Certificate authorities in PEM, in place of the system's. */
    readonly ca?: string | Buffer
  }
  /** Gives up connecting. */
  readonly signal?: AbortSignal
}

/** STUN requests over one TCP or TLS connection (RFC 8489 §6.2.2). Close it when you have what you want. */
export class StunConnection {
  readonly localAddress: SocketAddress
  readonly remoteAddress: SocketAddress
  readonly #socket: Socket
  readonly #client: StunClient
  readonly #exchanges: Exchanges
  readonly #path: Path
  #timer: NodeJS.Timeout | undefined

  /**
   * @throws {StunPeerError} `ERR_NATWORK_STUN_CONNECTION` when the server does not accept, or its certificate is not
   * the one of `servername`.
   * @throws {StunUsageError} `ERR_NATWORK_STUN_ABORTED`
   */
  static connect(to: SocketAddress, options: StunConnectionOptions = {}): Promise<StunConnection> {
    const { tls, signal } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortedError(signal))
        return
      }
      const target = { host: to.address, port: to.port }
      const socket =
        tls === undefined
          ? connectTcp({ ...target, noDelay: true })
          : connectTls({ ...target, ...tls, minVersion: 'TLSv1.2', ALPNProtocols: [ALPN] })
      const onAbort = (): void => {
        socket.destroy()
        reject(abortedError(signal))
      }
      const onError = (cause: Error): void => {
        signal?.removeEventListener('abort', onAbort)
        reject(
          connectionError(`no connection to the STUN server ${formatAddress(to)}: ${cause.message}`, cause),
        )
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      socket.once('error', onError)
      socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
        signal?.removeEventListener('abort', onAbort)
        socket.removeListener('error', onError)
        resolve(new StunConnection(socket, to, options))
      })
    })
  }

  private constructor(socket: Socket, to: SocketAddress, options: StunConnectionOptions) {
    this.#socket = socket
    this.#path = { remote: to }
    this.remoteAddress = to
    this.localAddress = { address: socket.localAddress ?? '', port: socket.localPort ?? 0 }
    this.#client = new StunClient({ ...options, rng: systemRng })
    this.#exchanges = new Exchanges(this.#client, () => {
      this.#drain()
    })
    const framer = new StunFramer(MAX_RESPONSE, (message) => {
      this.#client.handleDatagram(systemClock.now(), this.#path, message)
    })
    socket.on('data', (chunk: Buffer) => {
      if (!framer.push(chunk)) socket.destroy(new Error('the peer does not speak STUN'))
      this.#drain()
    })
    socket.on('error', (cause) => {
      this.#client.disconnected(this.#path, cause)
    })
    socket.on('close', () => {
      this.#client.disconnected(this.#path)
      this.#drain()
    })
  }

  /** As {@link StunAgent.request}. 300 Try Alternate is never followed: it needs another connection. */
  request(ask: StunAsk = {}): Promise<StunAnswer> {
    if (this.#socket.destroyed) return Promise.reject(connectionError('the STUN connection is closed'))
    return this.#exchanges.start(systemClock.now(), { path: this.#path, reliable: true }, ask)
  }

  /** Open requests reject with `ERR_NATWORK_STUN_CONNECTION`. */
  close(): void {
    clearTimeout(this.#timer)
    this.#socket.destroy()
    this.#exchanges.close(connectionError('the STUN connection was closed'))
  }

  #drain(): void {
    const client = this.#client
    for (let next = client.pollTransmit(); next !== undefined; next = client.pollTransmit()) {
      if (!this.#socket.destroyed) this.#socket.write(next.data)
    }
    for (let event = client.pollEvent(); event !== undefined; event = client.pollEvent()) {
      this.#exchanges.settle(event)
    }
    clearTimeout(this.#timer)
    const deadline = client.pollTimeout()
    if (deadline === undefined) return
    const wait = Math.ceil((deadline.at - systemClock.now()) / 1000)
    this.#timer = setTimeout(
      () => {
        client.handleTimeout(systemClock.now())
        this.#drain()
      },
      Math.max(1, wait),
    )
  }
}

/** RFC 7443 §3. */
export const ALPN = 'stun.nat-discovery'

/** Far beyond any response, and nothing to a client's memory. */
const MAX_RESPONSE = 65_552

function connectionError(message: string, cause?: unknown): StunPeerError {
  return new StunPeerError('ERR_NATWORK_STUN_CONNECTION', message, { cause })
}
