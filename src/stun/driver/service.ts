import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { formatAddress, type SocketAddress } from '../../core/address.ts'
import { silentLogger, type Logger } from '../../core/logger.ts'
import { systemClock, systemRng } from '../../core/ports.ts'
import { UdpEndpoint, withSharedNumber } from '../../socket/index.ts'
import { StunView } from '../codec/view.ts'
import { StunSystemError, StunUsageError } from '../errors.ts'
import { StunFramer } from '../framing.ts'
import {
  isBindingRequest,
  StunResponder,
  type Origins,
  type StunServerCounters,
  type StunServerOptions,
} from '../server/responder.ts'
import { StunServer } from '../server/server.ts'
import { DEFAULT_PORT, DEFAULT_TLS_PORT } from '../uri.ts'
import { ALPN } from './connection.ts'

export interface StunServiceOptions extends Omit<StunServerOptions, 'rng' | 'origins'> {
  /** An IP literal of this machine; default `0.0.0.0`. */
  readonly host?: string
  /** For UDP and TCP; default 3478, 0 takes a free one. */
  readonly port?: number
  /**
   * The second address and the second port of RFC 5780, for NAT behaviour discovery. Both addresses must then be
   * addresses as clients see them, not `0.0.0.0`, and the ports not 0.
   */
  readonly alternate?: { readonly host: string; readonly port: number }
  /** Default true. */
  readonly udp?: boolean
  /** Default true. */
  readonly tcp?: boolean
  /** Present: TLS too. Certificate chain and key in PEM; the port is 5349 by default. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer; readonly port?: number }
  /** TCP and TLS connections at once, per listening port; default 1000. */
  readonly maxConnections?: number
  /** Milliseconds after which a silent connection is closed; default 60,000. */
  readonly idleTimeout?: number
  readonly logger?: Logger
}

/** A stand-alone STUN server on UDP, TCP and TLS (RFC 8489 §12), with RFC 5780 where it has two addresses. */
export class StunService {
  readonly #responder: StunResponder
  readonly #endpoints: UdpEndpoint[] = []
  readonly #servers: Server[] = []
  readonly #tlsServers: Server[] = []
  // Bounded by maxConnections per listening port.
  readonly #connections = new Set<Socket>()

  /**
   * @throws {StunUsageError} `ERR_NATWORK_STUN_CONFIG`
   * @throws {SystemError} `ERR_NATWORK_SOCKET_…` when a port cannot be bound.
   */
  static listen(options: StunServiceOptions = {}): Promise<StunService> {
    const { port, udp = true, tcp = true } = options
    return withSharedNumber(
      async () => {
        const service = new StunService(options)
        try {
          await service.#listen(options)
        } catch (error) {
          await service.close()
          throw error
        }
        return service
      },
      port === 0 && udp && tcp,
    )
  }

  private constructor(options: StunServiceOptions) {
    const origins = originsOf(options)
    this.#responder = new StunResponder({ ...options, rng: systemRng, ...(origins && { origins }) })
  }

  /** The UDP addresses: one, or RFC 5780's four. */
  get udpAddresses(): readonly SocketAddress[] {
    return this.#endpoints.map(({ address }) => address)
  }

  get tcpAddresses(): readonly SocketAddress[] {
    return this.#servers.map(boundTo)
  }

  get tlsAddresses(): readonly SocketAddress[] {
    return this.#tlsServers.map(boundTo)
  }

  get counters(): StunServerCounters {
    return this.#responder.counters
  }

  /** Ends at once. Idempotent. */
  async close(): Promise<void> {
    for (const socket of this.#connections) socket.destroy()
    const closed = [...this.#servers, ...this.#tlsServers].map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    )
    await Promise.all([...this.#endpoints.map((endpoint) => endpoint.close()), ...closed])
  }

  async #listen(options: StunServiceOptions): Promise<void> {
    const { udp = true, tcp = true, tls, logger = silentLogger } = options
    const places = placesOf(options)
    if (udp) await this.#listenUdp(places, logger)
    if (tcp) {
      for (const [origin, { address, port }] of places.entries()) {
        // With port 0 TCP takes the port that UDP got: one number for clients.
        const shared = port === 0 ? (this.#endpoints[0]?.address.port ?? 0) : port
        const server = createServer((socket) => this.#serve(socket, origin, options))
        this.#servers.push(await bound(server, { address, port: shared }))
      }
    }
    if (tls !== undefined) {
      const server = createTlsServer({ ...tls, minVersion: 'TLSv1.2', ALPNProtocols: [ALPN] }, (socket) =>
        this.#serve(socket, 0, options),
      )
      // A handshake that never ends must not hold its place.
      server.on('tlsClientError', (_error, socket) => socket.destroy())
      const port = tls.port ?? DEFAULT_TLS_PORT
      this.#tlsServers.push(await bound(server, { address: places[0]?.address ?? '0.0.0.0', port }))
    }
    for (const server of [...this.#servers, ...this.#tlsServers]) {
      server.maxConnections = options.maxConnections ?? 1000
    }
    logger.info('stun server listening', {
      udp: this.udpAddresses.map(formatAddress),
      tcp: this.tcpAddresses.map(formatAddress),
      tls: this.tlsAddresses.map(formatAddress),
    })
  }

  async #listenUdp(places: readonly SocketAddress[], logger: Logger): Promise<void> {
    const attachments: { server: StunServer; wake: () => void }[] = []
    for (const [origin, { address, port }] of places.entries()) {
      const endpoint = await UdpEndpoint.bind({ host: address, port, logger })
      this.#endpoints.push(endpoint)
      const server = new StunServer(this.#responder, {
        origin,
        // RFC 3489's clients SHOULD be served by a stand-alone server (§12).
        classic: true,
        forward: (to, transmit) => {
          attachments[to]?.server.send(transmit)
          attachments[to]?.wake()
        },
      })
      const attachment = endpoint.attach(server, () => undefined)
      attachments.push({ server, wake: () => attachment.wake() })
    }
  }

  #serve(socket: Socket, origin: number, options: StunServiceOptions): void {
    this.#connections.add(socket)
    socket.on('close', () => this.#connections.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.setTimeout(options.idleTimeout ?? 60_000, () => socket.destroy())
    socket.setNoDelay(true)
    const source = { address: unmapped(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 }
    if (source.address === '') {
      socket.destroy()
      return
    }
    const view = new StunView()
    const framer = new StunFramer(MAX_REQUEST, (message) => {
      if (!view.open(message) || !isBindingRequest(view)) return
      const reply = this.#responder.respond(systemClock.now(), view, { source, origin, reliable: true })
      if (reply !== undefined) socket.write(reply.data)
    })
    socket.on('data', (chunk: Buffer) => {
      // Who sends without reading the answers, or no STUN at all, has no business here.
      if (!framer.push(chunk) || socket.writableLength > MAX_UNREAD) socket.destroy()
    })
  }
}

/** A Binding request with every attribute there is stays far below it. */
const MAX_REQUEST = 4096
const MAX_UNREAD = 65_536

function originsOf({
  host = '0.0.0.0',
  port = DEFAULT_PORT,
  alternate,
}: StunServiceOptions): Origins | undefined {
  if (alternate === undefined) return undefined
  const unspecified = [host, alternate.host].some((at) => at === '0.0.0.0' || at === '::')
  if (
    unspecified ||
    host === alternate.host ||
    port === alternate.port ||
    port === 0 ||
    alternate.port === 0
  ) {
    throw new StunUsageError(
      'ERR_NATWORK_STUN_CONFIG',
      'RFC 5780 needs two different addresses, as clients see them, and two different ports: give host, port and ' +
        'alternate in full',
    )
  }
  return { addresses: [host, alternate.host], ports: [port, alternate.port] }
}

/** Indexed by origin: 2 × (which address) + (which port). */
function placesOf(options: StunServiceOptions): SocketAddress[] {
  const { host = '0.0.0.0', port = DEFAULT_PORT } = options
  const origins = originsOf(options)
  if (origins === undefined) return [{ address: host, port }]
  return origins.addresses.flatMap((address) => origins.ports.map((each) => ({ address, port: each })))
}

function bound(server: Server, at: SocketAddress): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new StunSystemError(
          'ERR_NATWORK_STUN_LISTEN',
          `cannot listen on ${formatAddress(at)}: ${cause.message}`,
          {
            cause,
          },
        ),
      )
    })
    server.listen(at.port, at.address, () => resolve(server))
  })
}

function boundTo(server: Server): SocketAddress {
  const at = server.address()
  return at !== null && typeof at === 'object'
    ? { address: at.address, port: at.port }
    : { address: '', port: 0 }
}

/** A dual-stack socket shows IPv4 clients as `::ffff:192.0.2.1`. */
function unmapped(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '')
}
