import { formatAddress, type SocketAddress } from '../../../core/address.ts'
import { silentLogger } from '../../../core/logger.ts'
import { systemClock, systemRng } from '../../../core/ports.ts'
import { UdpEndpoint, withSharedNumber } from '../../../socket/index.ts'
import { StunResponder } from '../../../stun/server/responder.ts'
import { StunServer } from '../../../stun/server/server.ts'
import { TURN_PORT } from '../../protocol/constants.ts'
import { RelayHost, type RelayHostOptions, type RelayHostSettings } from './host.ts'
import { Streams } from './streams.ts'

/** Where clients come to. */
export interface TurnListen {
  /** An IP literal of this machine; `0.0.0.0` all IPv4, `::` all. */
  readonly host: string
  /** Default 3478 (TLS: 5349); 0 takes a free one. */
  readonly port: number
  readonly transport: 'udp' | 'tcp' | 'tls'
}

export interface TurnServiceOptions extends RelayHostOptions {
  /** Default: UDP and TCP at 0.0.0.0:3478. */
  readonly listen?: readonly TurnListen[]
  /** Certificate chain and key in PEM, for the `tls` ports. */
  readonly tls?: TlsFiles
  /** Take RFC 5766's channel numbers too (0x5000–0x7FFF), for old clients; default false. */
  readonly oldChannels?: boolean
  /** Milliseconds that a TCP or TLS connection may last without an allocation; default 30,000. */
  readonly idleTimeout?: number
  /** TCP and TLS connections at once; default 4,096. */
  readonly maxConnections?: number
  /** TCP and TLS connections at once from one address (IPv6: one /64); default 256. */
  readonly maxConnectionsPerSource?: number
  /** For each `udp` port of `listen`, in this order: sockets that the parent process has bound ({@link HeldPort}). */
  readonly inherited?: readonly (readonly number[])[]
}

export interface TlsFiles {
  readonly cert: string | Buffer
  readonly key: string | Buffer
}

/** A stand-alone TURN server on UDP, TCP and TLS (RFC 8656), which answers STUN's Binding requests too. */
export class TurnService {
  readonly host: RelayHost
  readonly #endpoints: UdpEndpoint[] = []
  readonly #streams: Streams
  readonly #responder: StunResponder
  readonly #options: TurnServiceOptions
  readonly #startedAt = systemClock.now()
  #closed: Promise<void> | undefined

  /**
   * @throws {TurnUsageError} `ERR_NATWORK_TURN_CONFIG`
   * @throws {SystemError} `ERR_NATWORK_SOCKET_…`, `ERR_NATWORK_TURN_LISTEN` when a port cannot be bound.
   */
  static listen(options: TurnServiceOptions): Promise<TurnService> {
    return withSharedNumber(async () => {
      const service = new TurnService(options)
      try {
        await service.#listen()
      } catch (error) {
        await service.close()
        throw error
      }
      return service
    }, sharesNumber(options))
  }

  private constructor(options: TurnServiceOptions) {
    this.#options = options
    this.host = new RelayHost(options)
    const { software, rateLimit } = options
    this.#responder = new StunResponder({
      rng: systemRng,
      ...(software !== undefined && { software }),
      ...(rateLimit !== undefined && { rateLimit }),
    })
    this.#streams = new Streams(this.host, this.#responder, {
      channels: this.#channels,
      idleTimeout: options.idleTimeout ?? 30_000,
      maxConnections: options.maxConnections ?? 4_096,
      maxConnectionsPerSource: options.maxConnectionsPerSource ?? 256,
    })
  }

  /** In the order of `listen`, UDP first. */
  get udpAddresses(): readonly SocketAddress[] {
    return this.#endpoints.map(({ address }) => address)
  }

  /** TCP's and TLS's. */
  get streamAddresses(): readonly SocketAddress[] {
    return this.#streams.addresses
  }

  /** Seconds since the start. */
  get uptime(): number {
    return (systemClock.now() - this.#startedAt) / 1e6
  }

  /** Takes other settings, and another certificate; allocations stay. Ports and addresses stay as they are. */
  configure(settings: RelayHostSettings & { readonly tls?: TlsFiles }): void {
    this.host.configure(settings)
    if (settings.tls !== undefined) this.#streams.setSecureContext(settings.tls)
  }

  /**
   * Takes no new allocations (300 with an alternate, else 508) and resolves when the last one has ended or the time is
   * up; then {@link close}.
   *
   * @param milliseconds to wait at most.
   */
  async drain(milliseconds: number, alternate?: SocketAddress): Promise<void> {
    const { relay } = this.host
    relay.draining = { alternate }
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (relay.allocations.size > 0 && left() > 0) return
        clearInterval(timer)
        resolve()
      }
      const until = systemClock.now() + milliseconds * 1_000
      const left = (): number => until - systemClock.now()
      const timer = setInterval(look, 100)
      look()
    })
  }

  /** Ends at once. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.host.close()
    this.#streams.close()
    await Promise.all(this.#endpoints.map((endpoint) => endpoint.close()))
  }

  get #channels(): 'old' | 'rfc8656' {
    return this.#options.oldChannels === true ? 'old' : 'rfc8656'
  }

  async #listen(): Promise<void> {
    const { listen = defaultListen, tls, logger = silentLogger, inherited = [] } = this.#options
    for (const { host, port, transport } of listen) {
      if (transport === 'udp') {
        const held = inherited[this.#endpoints.length]
        const endpoint = await UdpEndpoint.bind({
          host,
          port,
          logger,
          ...(held !== undefined && { inherited: held }),
        })
        this.#endpoints.push(endpoint)
        this.host.attach(endpoint, this.#channels)
        endpoint.attach(new StunServer(this.#responder, { classic: true }), () => undefined)
      } else {
        // With port 0 TCP takes the port that UDP got: one number for clients.
        const shared = port === 0 && transport === 'tcp' ? (this.#endpoints[0]?.address.port ?? 0) : port
        await this.#streams.listen(
          { address: host, port: shared },
          transport === 'tls' ? { ...tls } : undefined,
        )
      }
    }
    logger.info('relay listening', {
      udp: this.udpAddresses.map(formatAddress),
      streams: this.streamAddresses.map(formatAddress),
    })
  }
}

/** Whether TCP is to have whatever number UDP gets. */
function sharesNumber({ listen = defaultListen, inherited }: TurnServiceOptions): boolean {
  const isFree = (transport: TurnListen['transport']): boolean =>
    listen.some((one) => one.transport === transport && one.port === 0)
  return inherited === undefined && isFree('udp') && isFree('tcp')
}

const defaultListen: readonly TurnListen[] = [
  { host: '0.0.0.0', port: TURN_PORT, transport: 'udp' },
  { host: '0.0.0.0', port: TURN_PORT, transport: 'tcp' },
]
