import { familyOf, type SocketAddress } from '../../core/address.ts'
import { readIpv4, readIpv6, writeIp } from '../../core/ip.ts'
import { positions, type Nat64Prefix } from '../../core/nat64.ts'

/**
 * The prefixes that DNS64 has made the IPv6 forms of `ipv4only.arpa` with, whose IPv4 addresses are known (RFC 7050
 * §3): each once.
 */
export function nat64Prefixes(addresses: readonly string[]): Nat64Prefix[] {
  const found = new Map<string, Nat64Prefix>()
  const ip = new Uint8Array(16)
  for (const address of addresses) {
    if (writeIp(address, ip, 0) !== 16) continue
    const length = LENGTHS.find((bits) => WELL_KNOWN.includes(embedded(ip, bits)))
    if (length === undefined) continue
    ip.fill(0, length / 8)
    const prefix = readIpv6(ip, 0)
    found.set(`${prefix}/${length}`, { prefix, length })
  }
  return [...found.values()]
}

/** The longest first: zeros behind a short one must not look like a suffix. */
const LENGTHS = [96, 64, 56, 48, 40, 32] as const
/** RFC 7050 §8.2. */
const WELL_KNOWN = ['192.0.0.170', '192.0.0.171']

function embedded(ip: Uint8Array, length: Nat64Prefix['length']): string {
  return positions(length)
    .map((at) => ip[at])
    .join('.')
}

/**
 * How to reach `other` (an address that a server says it has) for who reaches the server at `server`. Behind NAT64
 * (RFC 6146) the server calls itself by IPv4 while we send to its IPv6 form: the same /96 prefix then leads to `other`
 * (RFC 6052 §2.2), and `origin`, the server's word for its own address, proves the prefix.
 *
 * @returns undefined when there is no way.
 */
export function reachedLike(
  server: SocketAddress,
  origin: SocketAddress | undefined,
  other: SocketAddress,
): SocketAddress | undefined {
  if (familyOf(other.address) === familyOf(server.address)) return other
  if (familyOf(server.address) !== 6 || origin === undefined) return undefined
  const ip = new Uint8Array(16)
  writeIp(server.address, ip, 0)
  if (familyOf(origin.address) !== 4 || readIpv4(ip, 12) !== origin.address) return undefined
  writeIp(other.address, ip, 12)
  return { address: readIpv6(ip, 0), port: other.port }
}
