import { familyOf, formatAddress, sameAddress, type SocketAddress } from '../core/address.ts'
import type { Logger } from '../core/logger.ts'
import { systemRng } from '../core/ports.ts'
import type { Attachment, UdpEndpoint } from '../socket/index.ts'
import {
  AddressKeeper,
  discoverBehaviour,
  discoverStunServers,
  formatStunUri,
  getMappedAddress,
  natTraits,
  parseStunUri,
  StunResponder,
  StunServer,
  StunUsageError,
  unknownAddress,
  type NatTraits,
  type PublicAddress,
  type StunUri,
} from '../stun/index.ts'
import { asError } from './errors.ts'
import { hasIpv4 } from './interfaces.ts'
import type { TraversalService } from './traversal.ts'

/**
 * STUN on the node's own port, both ways: it keeps the public address known and the NAT's mapping alive with the
 * servers that are given, and answers everybody's Binding requests (rate-limited; never more bytes than a plain
 * server must say).
 *
 * Both machines stand behind uTP on the port, which owns nearly every datagram: bulk data is not looked at as STUN
 * first. No datagram is wanted by two of them: uTP leaves what carries STUN's magic cookie alone, the keeper takes
 * only responses to its own requests, the server only requests.
 */
export class StunTraversal implements TraversalService {
  readonly #uris: readonly StunUri[]
  readonly #logger: Logger
  #publicAddress: PublicAddress = unknownAddress('no-servers')
  #nat: NatTraits = {}
  #session: Session | undefined

  /** @throws {StunUsageError} `ERR_NATWORK_STUN_URI`; `ERR_NATWORK_STUN_CONFIG` for `stuns:`, which is not UDP. */
  constructor(servers: readonly string[], logger: Logger) {
    this.#uris = servers.map(parseUdpUri)
    this.#logger = logger
  }

  get publicAddress(): PublicAddress {
    return this.#publicAddress
  }

  get nat(): NatTraits {
    return this.#nat
  }

  /** Waits for the first word of the servers, but not long: an unreachable one does not keep the node from starting. */
  async start(endpoint: UdpEndpoint, signal: AbortSignal, onChange: () => void): Promise<void> {
    this.#publicAddress = unknownAddress(this.#uris.length > 0 ? 'pending' : 'no-servers')
    const server = new StunServer(new StunResponder({ rng: systemRng }))
    const session: Session = {
      server: endpoint.attach(server, () => undefined),
      keeper: undefined,
      patience: undefined,
      next: undefined,
      recheck: () => undefined,
      networkChanged: () => undefined,
      servers: [],
      looks: 0,
      examined: -Infinity,
      examination: undefined,
      ended: new AbortController(),
    }
    this.#session = session
    if (this.#uris.length === 0) return
    const either = AbortSignal.any([signal, session.ended.signal])
    await new Promise<void>((resolve) => {
      either.addEventListener('abort', () => resolve(), { once: true })
      session.patience = setTimeout(resolve, PATIENCE)
      const changed = (next: PublicAddress): void => {
        this.#publicAddress = next
        const fields = next.known ? { address: formatAddress(next.address) } : { reason: next.message }
        this.#logger.info('public address', fields)
        resolve()
        onChange()
        // Another address may mean another NAT, but not at each turn of a flickering one.
        this.#nat = {}
        clearTimeout(session.examination)
        const due = session.examined + EXAMINE_AGAIN - performance.now()
        session.examination = setTimeout(
          () => void this.#examine(endpoint, session, onChange),
          Math.max(due, 0),
        )
      }
      session.networkChanged = () => void this.#keep(endpoint, session, changed)
      session.networkChanged()
    })
  }

  recheck(): void {
    this.#session?.recheck()
  }

  async newestPort(): Promise<number | undefined> {
    const { ports } = this.#nat
    const [server] = this.#session?.servers ?? []
    if (server === undefined || (ports !== 'sequential' && ports !== 'block')) return undefined
    const signal = AbortSignal.timeout(SAMPLE_PATIENCE)
    const sample = getMappedAddress(`stun:${formatAddress(server)}`, { signal })
    return await sample.then(
      ({ mappedAddress }) => mappedAddress.port,
      () => undefined,
    )
  }

  networkChanged(): void {
    this.#session?.networkChanged()
  }

  stop(): Promise<void> {
    const session = this.#session
    this.#session = undefined
    this.#publicAddress = unknownAddress('no-servers')
    this.#nat = {}
    session?.ended.abort()
    session?.server.detach()
    session?.keeper?.detach()
    clearTimeout(session?.patience)
    clearTimeout(session?.next)
    clearTimeout(session?.examination)
    return Promise.resolve()
  }

  /** Finds the servers, again and again until there is one, and sets the keeper on them; called again, on those that it finds then. */
  async #keep(
    endpoint: UdpEndpoint,
    session: Session,
    changed: (next: PublicAddress) => void,
  ): Promise<void> {
    clearTimeout(session.next)
    const look = ++session.looks
    const servers = await this.#resolve(endpoint)
    if (session.ended.signal.aborted || session.looks !== look) return
    if (servers.length > 0 && sameServers(servers, session.servers)) {
      session.recheck()
      return
    }
    session.keeper?.detach()
    session.recheck = () => undefined
    session.servers = servers
    if (servers.length === 0) {
      if (this.#publicAddress.known || this.#publicAddress.reason !== 'no-servers') {
        changed(unknownAddress('no-servers'))
      }
      session.next = setTimeout(() => void this.#keep(endpoint, session, changed), RESOLVE_AGAIN)
      return
    }
    const keeper = new AddressKeeper(endpoint.now(), { rng: systemRng, servers })
    const attachment = endpoint.attach(keeper, changed)
    session.keeper = attachment
    session.recheck = () => {
      keeper.recheck(endpoint.now())
      attachment.wake()
    }
  }

  /** How the NAT behaves, from this very port. */
  async #examine(endpoint: UdpEndpoint, session: Session, onChange: () => void): Promise<void> {
    if (!speaksIpv4(endpoint)) return
    session.examined = performance.now()
    try {
      const uris = this.#uris.map(formatStunUri)
      const { nat64 } = endpoint
      const seen = await discoverBehaviour(uris, {
        endpoint,
        signal: session.ended.signal,
        ...(nat64 && { nat64 }),
      })
      if (session.ended.signal.aborted) return
      this.#nat = natTraits(seen)
      this.#logger.info('the NAT here', { ...this.#nat })
      onChange()
    } catch (error) {
      this.#logger.debug('the NAT here is not known', { error: asError(error).message })
    }
  }

  /** One address of each server, all of one family: IPv4 where the socket has a way to it, since that is what is translated. */
  async #resolve(endpoint: UdpEndpoint): Promise<SocketAddress[]> {
    const bound = endpoint.address.address
    const reaches4 = hasIpv4() || endpoint.nat64 !== undefined
    const families =
      familyOf(bound) === 4
        ? [4 as const]
        : reaches4 && speaksIpv4(endpoint)
          ? ([4, 6] as const)
          : [6 as const]
    for (const family of families) {
      const found = await Promise.all(
        this.#uris.map(async (uri) => {
          try {
            const [target] = await discoverStunServers(uri, { family })
            return (target ?? []).filter(({ address }) => familyOf(address) === family).slice(0, 1)
          } catch (error) {
            this.#logger.debug('no address of a STUN server', {
              server: formatStunUri(uri),
              error: asError(error).message,
            })
            return []
          }
        }),
      )
      const servers = found.flat().map((server) => endpoint.path(server).remote)
      if (servers.length > 0) return servers
    }
    return []
  }
}

interface Session {
  readonly server: Attachment
  keeper: Attachment | undefined
  /** Those that the keeper asks. */
  servers: readonly SocketAddress[]
  /** Look-ups of the servers so far: the last one counts. */
  looks: number
  patience: NodeJS.Timeout | undefined
  /** The next look-up of the servers. */
  next: NodeJS.Timeout | undefined
  recheck: () => void
  networkChanged: () => void
  /** When the NAT was last looked at, by performance.now(). */
  examined: number
  examination: NodeJS.Timeout | undefined
  readonly ended: AbortController
}

/** Milliseconds: for the first answer to delay the start, between look-ups that fail. */
const PATIENCE = 2_000
const RESOLVE_AGAIN = 30_000
/** Milliseconds for the word on a new flow. */
const SAMPLE_PATIENCE = 2_000
/** Milliseconds between looks at the NAT. */
const EXAMINE_AGAIN = 60_000

function speaksIpv4({ address: { address }, nat64 }: UdpEndpoint): boolean {
  return address === '::' || familyOf(address) === 4 || nat64 !== undefined
}

function parseUdpUri(text: string): StunUri {
  const uri = parseStunUri(text)
  if (uri.scheme === 'stun') return uri
  throw new StunUsageError(
    'ERR_NATWORK_STUN_CONFIG',
    `"${text}": only stun: over UDP sees the address of the node’s UDP port; stuns: is TLS over TCP`,
  )
}

function sameServers(some: readonly SocketAddress[], others: readonly SocketAddress[]): boolean {
  return (
    some.length === others.length &&
    some.every((one, i) => sameAddress(one, others[i] ?? { address: '', port: 0 }))
  )
}
