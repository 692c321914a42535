import { familyOf, type SocketAddress } from '../../../core/address.ts'
import type { Logger } from '../../../core/logger.ts'
import type { Path } from '../../../core/machine.ts'
import { UdpEndpoint } from '../../../socket/index.ts'
import { LongTermAuth } from '../../../stun/index.ts'
import type { AllocationRequest } from '../../client/index.ts'
import { TurnUsageError } from '../../errors.ts'
import { parseTurnUri, type TurnUri } from '../../uri.ts'
import type { DialTarget } from './dial.ts'
import { openRelayOverStream, openRelayOverUdp, openTcpRelay, type OpenRelayOptions } from './open.ts'
import { parseProxy, proxyFor, type HttpProxy } from './proxy.ts'
import { race, type Attempt } from './race.ts'
import type { RelayAllocation } from './relay.ts'
import { resolveTurn, type TurnResolver, type TurnTarget, type TurnTransport } from './resolve.ts'
import type { TcpRelayAllocation } from './tcp.ts'

export interface ConnectTcpRelayOptions extends Omit<AllocationRequest, 'protocol'> {
  /** Long-term credentials; both, or none where the relay asks for none. */
  readonly username?: string
  readonly password?: string
  /** How to reach the relay, the preferred way first; default: `udp`, `tcp`, `tls`, as far as the URI allows. */
  readonly transports?: readonly TurnTransport[]
  /** Certificate authorities in PEM for `turns:`, in place of the system's. */
  readonly ca?: string | Buffer
  /**
   * The HTTP proxy for TCP and TLS: a URL, or false for none. Default: what the environment says in `HTTPS_PROXY`,
   * `ALL_PROXY` or `HTTP_PROXY`, and in `NO_PROXY`.
   */
  readonly proxy?: string | false
  readonly resolver?: TurnResolver
  /** Gives up: `AbortSignal.timeout(10_000)`. Without it an unreachable relay takes 39.5 s (RFC 8489 §6.2.1). */
  readonly signal?: AbortSignal
  readonly logger?: Logger
}

export interface ConnectRelayOptions extends ConnectTcpRelayOptions {
  /**
   * The UDP port to speak from, which gets what peers send to the relayed address, and whose machines send along the
   * relay's paths. Default: a port of the moment, and datagrams come as `message` events.
   */
  readonly endpoint?: UdpEndpoint
}

/**
 * Gets a relayed address from a TURN server, by whatever works: over UDP, else over TCP or TLS, through an HTTP proxy
 * where the environment names one.
 *
 *     const relay = await connectRelay('turn:relay.example.org', { username, password })
 *     relay.on('message', (data, from) => …)
 *     relay.permit(['198.51.100.7'])
 *     tellPeers(relay.relayed)
 *
 * @throws {TurnUsageError} `ERR_NATWORK_TURN_URI`, `…_CONFIG`, `…_ABORTED`
 * @throws {TurnSystemError} `ERR_NATWORK_TURN_DNS`
 * @throws {TurnPeerError} `ERR_NATWORK_TURN_CONNECTION`, `…_PROXY`
 * @throws {StunPeerError} what the last server tried answered, or that it did not.
 */
export async function connectRelay(uri: string, options: ConnectRelayOptions = {}): Promise<RelayAllocation> {
  const { endpoint, signal, transports = DEFAULT_TRANSPORTS } = options
  const way = new Way(parseTurnUri(uri), options)
  const targets = await way.targets(transports, endpoint)
  const attempts = targets.flatMap((target) =>
    addressesOf(target).map((address, n) => ({
      delay: n === 0 ? NEXT_TRANSPORT : NEXT_ADDRESS,
      start: (either: AbortSignal) => open(way, target, address, { ...options, signal: either }),
    })),
  )
  return race(attempts, signal, (late) => void late.close())
}

/**
 * Gets a relayed TCP port (RFC 6062) from a TURN server, over TCP or TLS.
 *
 *     const relay = await connectTcpRelay('turns:relay.example.org', { username, password })
 *     const stream = await relay.connect({ address: '198.51.100.7', port: 22 })
 *
 * @throws as {@link connectRelay}.
 */
export async function connectTcpRelay(
  uri: string,
  options: ConnectTcpRelayOptions = {},
): Promise<TcpRelayAllocation> {
  const { signal, transports = DEFAULT_TRANSPORTS } = options
  const way = new Way(parseTurnUri(uri), { ...options, protocol: 'tcp' })
  const targets = await way.targets(
    transports.filter((one) => one !== 'udp'),
    undefined,
  )
  const attempts: Attempt<TcpRelayAllocation>[] = targets.flatMap((target) =>
    addressesOf(target).map((address, n) => ({
      delay: n === 0 ? NEXT_TRANSPORT : NEXT_ADDRESS,
      start: (either) => openTcpRelay(way.dialTarget(target, address), way.open(either)),
    })),
  )
  return race(attempts, signal, (late) => void late.close())
}

const DEFAULT_TRANSPORTS: readonly TurnTransport[] = ['udp', 'tcp', 'tls']
/** ms: RFC 8305 §5 for addresses of one server. */
const NEXT_ADDRESS = 250
/** UDP is the better carrier wherever it works: three requests' time, before another transport is begun. */
const NEXT_TRANSPORT = 1_500

async function open(
  way: Way,
  target: TurnTarget,
  address: SocketAddress | undefined,
  options: ConnectRelayOptions & { signal: AbortSignal },
): Promise<RelayAllocation> {
  const { endpoint, signal } = options
  let relay: RelayAllocation | undefined
  const toUser = ({ remote }: Path, bytes: Uint8Array): void => {
    relay?.emit('message', Uint8Array.from(bytes), remote)
  }
  if (target.transport !== 'udp' || address === undefined) {
    const onData =
      endpoint === undefined ? toUser : (path: Path, bytes: Uint8Array) => endpoint.deliver(path, bytes)
    relay = await openRelayOverStream(way.dialTarget(target, address), way.open(signal), onData)
    return relay
  }
  if (endpoint !== undefined) return openRelayOverUdp(endpoint, address, way.open(signal))
  const own = await UdpEndpoint.bind({ host: familyOf(address.address) === 6 ? '::' : '0.0.0.0', port: 0 })
  try {
    relay = await openRelayOverUdp(own, address, way.open(signal), toUser)
    relay.once('close', () => void own.close())
    return relay
  } catch (error) {
    await own.close()
    throw error
  }
}

/** What all attempts at one URI share. */
class Way {
  readonly #uri: TurnUri
  readonly #options: ConnectTcpRelayOptions & AllocationRequest

  constructor(uri: TurnUri, options: ConnectTcpRelayOptions & AllocationRequest) {
    this.#uri = uri
    this.#options = options
    const { username, password, evenPort, reservationToken, family } = options
    if ((username === undefined) !== (password === undefined)) {
      throw configError('give username and password, or neither')
    }
    if (reservationToken !== undefined && (evenPort !== undefined || family !== undefined)) {
      throw configError('a reserved port has its own parity and family: leave evenPort and family out')
    }
    if (evenPort === 'reserve' && family === 'both') {
      throw configError('a port can be reserved for one family only (RFC 8656 §7.1)')
    }
  }

  targets(transports: readonly TurnTransport[], endpoint: UdpEndpoint | undefined): Promise<TurnTarget[]> {
    const { resolver } = this.#options
    return resolveTurn(this.#uri, {
      transports,
      isProxied: (transport, host, port) => transport !== 'udp' && this.#proxy(host, port) !== undefined,
      ...(resolver && { resolver }),
      ...(endpoint && { udpFamilies: familiesOf(endpoint) }),
    })
  }

  dialTarget({ transport, host, port }: TurnTarget, address: SocketAddress | undefined): DialTarget {
    return {
      host,
      port,
      address,
      proxy: address === undefined ? this.#proxy(host, port) : undefined,
      tls: transport === 'tls' ? { ca: this.#options.ca } : undefined,
    }
  }

  /** Each server has its own challenge, so each attempt its own credentials. */
  open(signal: AbortSignal): OpenRelayOptions {
    const { username, password, logger, ...request } = this.#options
    return {
      request,
      signal,
      ...(username !== undefined && password !== undefined && { auth: new LongTermAuth(username, password) }),
      ...(logger && { logger }),
    }
  }

  #proxy(host: string, port: number): HttpProxy | undefined {
    const { proxy } = this.#options
    if (proxy === false) return undefined
    if (proxy === undefined) return proxyFor(process.env, host, port)
    const parsed = parseProxy(proxy)
    if (parsed === undefined) throw configError(`"${proxy}" is not a proxy URL: write http://proxy:3128`)
    return parsed
  }
}

/** One per attempt; a proxied server has none. */
function addressesOf({ addresses }: TurnTarget): readonly (SocketAddress | undefined)[] {
  return addresses.length === 0 ? [undefined] : addresses
}

function familiesOf({ address }: UdpEndpoint): (4 | 6)[] {
  return address.address === '::' ? [4, 6] : [familyOf(address.address)]
}

function configError(message: string): TurnUsageError {
  return new TurnUsageError('ERR_NATWORK_TURN_CONFIG', message)
}
