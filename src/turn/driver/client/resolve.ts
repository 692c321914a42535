import { promises as dns, type NaptrRecord } from 'node:dns'
import { isIP } from 'node:net'
import { familyOf, type SocketAddress } from '../../../core/address.ts'
import { systemRng, type Rng } from '../../../core/ports.ts'
import { alternating, inSrvOrder, type Srv } from '../../../stun/driver/discover.ts'
import { TurnSystemError, TurnUsageError } from '../../errors.ts'
import { TURN_PORT, TURNS_PORT } from '../../protocol/index.ts'
import { formatTurnUri, type TurnUri } from '../../uri.ts'

/** What the resolution asks the system; `node:dns` has it. Whatever fails counts as "no such record". */
export interface TurnResolver {
  resolveNaptr(name: string): Promise<NaptrRecord[]>
  resolveSrv(name: string): Promise<Srv[]>
  /** Every address of a name. */
  lookup(name: string): Promise<{ address: string }[]>
}

export type TurnTransport = 'udp' | 'tcp' | 'tls'

/** One way to try. */
export interface TurnTarget {
  readonly transport: TurnTransport
  /** What the certificate is checked by, and what an HTTP proxy is asked for: the name in the URI or its SRV record. */
  readonly host: string
  readonly port: number
  /** The host's addresses, to be tried together. Empty when there is none, or when a proxy is to find it. */
  readonly addresses: readonly SocketAddress[]
}

export interface ResolveOptions {
  /** Those that can be used, the preferred one first. */
  readonly transports: readonly TurnTransport[]
  /** Families that our UDP port speaks; default both. */
  readonly udpFamilies?: readonly (4 | 6)[]
  /** Is the host reached through a proxy, which resolves the name itself? Then it is not looked up here. */
  readonly isProxied?: (transport: TurnTransport, host: string, port: number) => boolean
  readonly resolver?: TurnResolver
  readonly rng?: Rng
}

/**
 * RFC 5928: the ways to the server of a URI, in the order to try them. NAPTR records (`RELAY:turn.udp` and the like)
 * where neither port nor transport is given, SRV records (`_turn._udp`) where the port is not, else the name's own
 * addresses and the default port.
 *
 * @throws {TurnUsageError} `ERR_NATWORK_TURN_CONFIG` when none of the transports can be used with this URI.
 * @throws {TurnSystemError} `ERR_NATWORK_TURN_DNS` when no way has an address.
 */
export async function resolveTurn(uri: TurnUri, options: ResolveOptions): Promise<TurnTarget[]> {
  const transports = usable(uri, options.transports)
  if (transports.length === 0) {
    throw new TurnUsageError(
      'ERR_NATWORK_TURN_CONFIG',
      `${formatTurnUri(uri)} cannot be reached over ${options.transports.join(' or ')} alone: allow another transport`,
    )
  }
  const search = new Search(uri, options)
  const targets = await search.run(transports)
  if (targets.length > 0) return targets
  const [family, other] = options.udpFamilies ?? []
  const wanted = family === undefined || other !== undefined ? '' : `IPv${family} `
  throw new TurnSystemError(
    'ERR_NATWORK_TURN_DNS',
    `the relay ${uri.host} has no ${wanted}address: is the name right, and does DNS work?`,
    { cause: search.failure },
  )
}

/** RFC 5928 §3, table 1. */
function usable({ scheme, transport }: TurnUri, supported: readonly TurnTransport[]): TurnTransport[] {
  if (scheme === 'turns') return supported.filter((one) => one === 'tls')
  return supported.filter((one) => one !== 'tls' && (transport === undefined || one === transport))
}

class Search {
  readonly #uri: TurnUri
  readonly #options: ResolveOptions
  readonly #resolver: TurnResolver
  failure: unknown

  constructor(uri: TurnUri, options: ResolveOptions) {
    this.#uri = uri
    this.#options = options
    this.#resolver = options.resolver ?? systemResolver()
  }

  // The numbers are RFC 5928 §3's.
  async run(transports: readonly TurnTransport[]): Promise<TurnTarget[]> {
    const { scheme, host, port, transport } = this.#uri
    // 1 and 2: where to is said.
    if (isIP(host) !== 0 || port !== undefined) {
      return this.#all(transports.map((one) => this.#target(one, host, port ?? defaultPort(one))))
    }
    // 4: who has NAPTR records has said everything.
    if (transport === undefined) {
      const found = await this.#naptr(host, transports, 0)
      if (found !== undefined) return found
    }
    // 3 and 5.
    return this.#all(
      transports.map((one) => this.#srv(`_${scheme}._${one === 'udp' ? 'udp' : 'tcp'}.${host}`, one, host)),
    )
  }

  async #all(lists: readonly Promise<TurnTarget[]>[]): Promise<TurnTarget[]> {
    return (await Promise.all(lists)).flat()
  }

  /** Undefined when there are no records. S-NAPTR: no regular expressions, `s` to SRV, `a` to addresses, else on. */
  async #naptr(
    name: string,
    transports: readonly TurnTransport[],
    depth: number,
  ): Promise<TurnTarget[] | undefined> {
    const records = await this.#ask(this.#resolver.resolveNaptr(name))
    const ranked = records
      .map((record) => ({ record, transport: naptrTransport(record, transports) }))
      .filter((one): one is { record: NaptrRecord; transport: TurnTransport } => one.transport !== undefined)
      .sort(
        (a, b) =>
          a.record.order - b.record.order ||
          a.record.preference - b.record.preference ||
          transports.indexOf(a.transport) - transports.indexOf(b.transport),
      )
      .slice(0, MAX_RECORDS)
    if (ranked.length === 0) return undefined
    return this.#all(
      ranked.map(async ({ record, transport }) => {
        const { flags, replacement } = record
        if (/^s$/i.test(flags)) return this.#srv(replacement, transport, undefined)
        if (/^a$/i.test(flags)) return this.#target(transport, replacement, defaultPort(transport))
        if (flags !== '' || depth >= MAX_DEPTH) return []
        return (await this.#naptr(replacement, [transport], depth + 1)) ?? []
      }),
    )
  }

  async #srv(name: string, transport: TurnTransport, fallback: string | undefined): Promise<TurnTarget[]> {
    const records = await this.#ask(this.#resolver.resolveSrv(name))
    const servers = inSrvOrder(records, this.#options.rng ?? systemRng).slice(0, MAX_RECORDS)
    if (servers.length === 0) {
      return fallback === undefined ? [] : this.#target(transport, fallback, defaultPort(transport))
    }
    return this.#all(servers.map(({ name: host, port }) => this.#target(transport, host, port)))
  }

  async #target(transport: TurnTransport, host: string, port: number): Promise<TurnTarget[]> {
    const { udpFamilies = [4, 6], isProxied } = this.#options
    if (isProxied?.(transport, host, port) === true) return [{ transport, host, port, addresses: [] }]
    const found = isIP(host) !== 0 ? [{ address: host }] : await this.#ask(this.#resolver.lookup(host))
    const addresses = alternating(
      found
        .filter(({ address }) => transport !== 'udp' || udpFamilies.includes(familyOf(address)))
        .slice(0, MAX_RECORDS)
        .map(({ address }) => ({ address, port })),
    )
    return addresses.length === 0 ? [] : [{ transport, host, port, addresses }]
  }

  async #ask<T>(records: Promise<T[]>): Promise<T[]> {
    try {
      return await records
    } catch (error) {
      this.failure = error
      return []
    }
  }
}

/** Of what a name server answers, so much is followed. */
const MAX_RECORDS = 8
const MAX_DEPTH = 3

function naptrTransport(
  { service }: NaptrRecord,
  transports: readonly TurnTransport[],
): TurnTransport | undefined {
  const [application, ...protocols] = service.toLowerCase().split(':')
  return application === 'relay' ? transports.find((one) => protocols.includes(`turn.${one}`)) : undefined
}

function defaultPort(transport: TurnTransport): number {
  return transport === 'tls' ? TURNS_PORT : TURN_PORT
}

/** NAPTR and SRV are asked of the name servers directly: where only the system's own resolver works, not for long. */
function systemResolver(): TurnResolver {
  const direct = new dns.Resolver({ timeout: 1_000, tries: 2 })
  return {
    resolveNaptr: (name) => direct.resolveNaptr(name),
    resolveSrv: (name) => direct.resolveSrv(name),
    lookup: (name) => dns.lookup(name, { all: true }),
  }
}
