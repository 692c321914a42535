import { lookup, resolveSrv } from 'node:dns/promises'
import { isIP } from 'node:net'
import { familyOf, type SocketAddress } from '../../core/address.ts'
import { systemRng, type Rng } from '../../core/ports.ts'
import { StunSystemError } from '../errors.ts'
import { DEFAULT_PORT, DEFAULT_TLS_PORT, type StunUri } from '../uri.ts'

/** What discovery asks the system; `node:dns/promises` has both. */
export interface StunResolver {
  resolveSrv(name: string): Promise<{ name: string; port: number; priority: number; weight: number }[]>
  /** Every address of a name. */
  lookup(name: string): Promise<{ address: string }[]>
}

const systemResolver: StunResolver = {
  resolveSrv,
  lookup: (name) => lookup(name, { all: true }),
}

export interface DiscoverOptions {
  /** How a `stun:` URI will be spoken; `stuns:` is TLS over TCP always. Default `udp`. */
  readonly transport?: 'udp' | 'tcp'
  readonly family?: 4 | 6
  /** Prefer servers with RFC 5780, where DNS names some (`_stun-behavior._udp`). */
  readonly behaviour?: boolean
  readonly resolver?: StunResolver
  readonly rng?: Rng
}

/** One server: try its addresses together; the next server only when they all fail (RFC 8489 §8.1). */
export type StunTarget = readonly SocketAddress[]

/**
 * Finds the servers of a URI: the address or the port in it, else DNS SRV (`_stun._udp`, `_stun._tcp`, `_stuns._tcp`)
 * in the order of RFC 2782, else the name's addresses and the default port. IPv6 and IPv4 alternate, IPv6 first
 * (RFC 8305 §4).
 *
 * @throws {StunSystemError} `ERR_NATWORK_STUN_DNS` when there is no address (of the family asked for).
 */
export async function discoverStunServers(
  uri: StunUri,
  options: DiscoverOptions = {},
): Promise<StunTarget[]> {
  const { transport = 'udp', family, resolver = systemResolver, rng = systemRng } = options
  const defaultPort = uri.scheme === 'stuns' ? DEFAULT_TLS_PORT : DEFAULT_PORT
  if (isIP(uri.host) !== 0) return [[{ address: uri.host, port: uri.port ?? defaultPort }]]

  let causes: unknown
  const servicesAt = (service: string, protocol: string): Promise<{ name: string; port: number }[]> =>
    resolver.resolveSrv(`_${service}._${protocol}.${uri.host}`).then(
      (records) => inSrvOrder(records, rng),
      () => [],
    )
  const hosts = uri.port !== undefined ? [{ name: uri.host, port: uri.port }] : []
  // RFC 5780 §5.1.
  if (hosts.length === 0 && options.behaviour === true) {
    hosts.push(...(await servicesAt('stun-behavior', 'udp')))
  }
  if (hosts.length === 0) {
    hosts.push(...(await servicesAt(uri.scheme, uri.scheme === 'stuns' ? 'tcp' : transport)))
  }
  // "If no SRV records are found, the client performs both an A and AAAA record lookup of the domain name".
  if (hosts.length === 0) hosts.push({ name: uri.host, port: defaultPort })

  const targets: StunTarget[] = []
  for (const { name, port } of hosts) {
    const found = await resolver.lookup(name).catch((cause: unknown) => {
      causes = cause
      return []
    })
    const addresses = found
      .map(({ address }) => ({ address, port }))
      .filter(({ address }) => family === undefined || familyOf(address) === family)
    if (addresses.length > 0) targets.push(alternating(addresses))
  }
  if (targets.length === 0) {
    throw new StunSystemError(
      'ERR_NATWORK_STUN_DNS',
      `the name ${uri.host} has no ${family === undefined ? '' : `IPv${family} `}address: is it right, and does DNS work?`,
      { cause: causes },
    )
  }
  return targets
}

export interface Srv {
  readonly name: string
  readonly port: number
  readonly priority: number
  readonly weight: number
}

/** RFC 2782: the lowest priority first; within one, by chance in proportion to weight. A lone "." is "no service". */
export function inSrvOrder(records: readonly Srv[], rng: Rng): { name: string; port: number }[] {
  const left = records.filter(({ name }) => name !== '' && name !== '.')
  const ordered: Srv[] = []
  while (left.length > 0) {
    const priority = Math.min(...left.map((record) => record.priority))
    const group = left.filter((record) => record.priority === priority)
    const total = group.reduce((sum, { weight }) => sum + weight, 0)
    let pick = (rng.uint32() / 2 ** 32) * total
    const chosen = group.find(({ weight }) => (pick -= weight) < 0) ?? group[0]
    if (chosen === undefined) break
    ordered.push(chosen)
    left.splice(left.indexOf(chosen), 1)
  }
  return ordered
}

/** IPv6 and IPv4 in turn, IPv6 first (RFC 8305 §4). */
export function alternating(addresses: readonly SocketAddress[]): SocketAddress[] {
  const six = addresses.filter(({ address }) => familyOf(address) === 6)
  const four = addresses.filter(({ address }) => familyOf(address) === 4)
  const longest = Math.max(six.length, four.length)
  return Array.from({ length: longest }, (_, n) => [six[n], four[n]])
    .flat()
    .filter((address) => address !== undefined)
}
