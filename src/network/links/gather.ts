import { familyOf, sameAddress, type SocketAddress } from '../../core/address.ts'
import { hostCandidates, type LocalCandidate, type NatHints } from '../../ice/index.ts'
import type { PublicAddress } from '../../stun/index.ts'
import type { OutsidePort } from '../one-to-one.ts'

/** What this node can offer at once: the addresses of its port, where else others come to it, and what the world sees. */
export function localCandidates(
  seen: PublicAddress,
  bound: SocketAddress,
  outside: readonly OutsidePort[],
): LocalCandidate[] {
  const hosts = hostCandidates(bound)
  const own = hosts.map(({ address }) => address)
  const world = seen.known ? [seen.address] : seen.seen.slice(0, 1)
  const reflexive = world
    .filter((address) => !own.some((one) => sameAddress(one, address)))
    .map((address): LocalCandidate => {
      // Behind NAT64 the port is an IPv6 one, and seen by IPv4.
      const base = own.find((one) => familyOf(one.address) === familyOf(address.address)) ?? own[0]
      return { type: 'srflx', address, ...(base && { base }) }
    })
  const mapped = outside
    .filter(({ external }) => !own.some((one) => sameAddress(one, external)))
    .map(({ external, internal }): LocalCandidate => ({ type: 'mapped', address: external, base: internal }))
  return [...hosts, ...mapped, ...reflexive]
}

/**
 * The next port of such a NAT follows from the newest one alone: the one that was seen some time ago is left out, until
 * {@link withNewestPort} has another.
 */
export function withoutPort(hints: NatHints): NatHints {
  if (hints.ports !== 'sequential' && hints.ports !== 'block') return hints
  const { mapping, filtering, ports, step } = hints
  return {
    ...(mapping && { mapping }),
    ...(filtering && { filtering }),
    ports,
    ...(step !== undefined && { step }),
  }
}

export async function withNewestPort(
  hints: NatHints,
  newestPort: () => Promise<number | undefined>,
): Promise<NatHints> {
  if (withoutPort(hints) === hints) return hints
  const lastPort = (await newestPort()) ?? hints.lastPort
  return { ...hints, ...(lastPort !== undefined && { lastPort }) }
}

/** What is known of the NAT in front of this node, for the peer's hole punching. */
export function natHints(seen: PublicAddress, bound: SocketAddress): NatHints {
  if (!seen.known) {
    const last = seen.seen.at(-1)
    if (seen.reason !== 'per-destination' || last === undefined) return {}
    return { mapping: 'address-and-port-dependent', lastPort: last.port }
  }
  // One server's word does not tell a mapping for all from one for that server.
  const isOwn = (): boolean => hostCandidates(bound).some(({ address }) => sameAddress(address, seen.address))
  return seen.observers.length >= 2 || isOwn() ? { mapping: 'endpoint-independent' } : {}
}
