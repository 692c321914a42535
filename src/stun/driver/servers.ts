import { isIP } from 'node:net'
import { familyOf, type SocketAddress } from '../../core/address.ts'
import { throughNat64, type Nat64Prefix } from '../../core/nat64.ts'
import { StunUsageError } from '../errors.ts'
import { parseStunUri, type StunUri } from '../uri.ts'
import { discoverStunServers, type StunResolver } from './discover.ts'

export interface FindServersOptions {
  /** Default: 4, which is what NATs translate. */
  readonly family?: 4 | 6
  /** IPv4 servers are reached by IPv6 through it: for a machine without IPv4 of its own. */
  readonly nat64?: Nat64Prefix
  readonly resolver?: StunResolver
}

export interface FoundServers {
  /** One address of each server. */
  readonly servers: readonly SocketAddress[]
  /** Second addresses: they may be the other address of an RFC 5780 server, which must not be asked before its time. */
  readonly spare: readonly SocketAddress[]
}

/**
 * The addresses of `stun:` URIs as a NAT's behaviour is asked for: RFC 5780's own service (`_stun-behavior._udp`) where
 * DNS has it, and two addresses of each name where it has two.
 *
 * @throws {StunUsageError} `ERR_NATWORK_STUN_URI`; `ERR_NATWORK_STUN_CONFIG` without a server, or for `stuns:`, or when
 * none has an address of the family.
 * @throws {StunSystemError} `ERR_NATWORK_STUN_DNS` when no name can be resolved.
 */
export async function findServers(
  servers: readonly string[],
  { family = 4, nat64, resolver }: FindServersOptions = {},
): Promise<FoundServers> {
  const uris = servers.map((text) => ({ text, uri: parseStunUri(text) }))
  const secure = uris.find(({ uri }) => uri.scheme === 'stuns')
  if (secure !== undefined || uris.length === 0) {
    throw new StunUsageError(
      'ERR_NATWORK_STUN_CONFIG',
      secure === undefined
        ? 'NAT behaviour needs a STUN server to ask: give one, such as stun:stun.example.org'
        : `"${secure.text}": only stun: over UDP shows how a NAT treats UDP`,
    )
  }
  const found = await Promise.allSettled(
    uris.map(({ uri }) => addressesOf(uri, { family, ...(resolver && { resolver }) })),
  )
  const addresses = found
    .map((one) => (one.status === 'fulfilled' ? one.value : []))
    .map((each) => each.filter(({ address }) => familyOf(address) === family))
    .filter((each) => each.length > 0)
  const [first] = found
  if (addresses.length === 0 && first?.status === 'rejected') throw first.reason
  if (addresses.length === 0) {
    throw new StunUsageError(
      'ERR_NATWORK_STUN_CONFIG',
      `none of the STUN servers has an IPv${family} address`,
    )
  }
  const reached = (one: SocketAddress): SocketAddress => throughNat64(nat64, one)
  return {
    servers: addresses.flatMap((each) => each.slice(0, 1)).map(reached),
    spare: addresses.flatMap((each) => each.slice(1, 2)).map(reached),
  }
}

async function addressesOf(
  uri: StunUri,
  options: { family: 4 | 6; resolver?: StunResolver },
): Promise<SocketAddress[]> {
  // A literal has no second address, and no service in DNS.
  if (isIP(uri.host) !== 0) return [...((await discoverStunServers(uri, options))[0] ?? [])]
  const targets = await discoverStunServers(uri, { ...options, behaviour: true })
  return targets.flat()
}
