import { familyOf, type SocketAddress } from '../../core/address.ts'
import { readIpv4, readIpv6, writeIp } from '../../core/ip.ts'

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
