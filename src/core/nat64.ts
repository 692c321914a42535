import { familyOf, type SocketAddress } from './address.ts'
import { readIpv4, readIpv6, writeIp } from './ip.ts'

/** A network's way to IPv4 (RFC 6052 §2): `64:ff9b::/96` is the well-known one. */
export interface Nat64Prefix {
  readonly prefix: string
  /** Of the prefix, in bits. */
  readonly length: 32 | 40 | 48 | 56 | 64 | 96
}

/** How an IPv4 host is reached through NAT64 (RFC 6052 §2.2). */
export function synthesizeIpv6({ prefix, length }: Nat64Prefix, ipv4: string): string {
  const ip = new Uint8Array(16)
  const quad = new Uint8Array(4)
  writeIp(prefix, ip, 0)
  writeIp(ipv4, quad, 0)
  for (const [n, at] of positions(length).entries()) ip[at] = quad[n] ?? 0
  return readIpv6(ip, 0)
}

/** The IPv4 address inside one that {@link synthesizeIpv6} makes with this prefix; undefined for every other address. */
export function embeddedIpv4(by: Nat64Prefix, address: string): string | undefined {
  const ip = new Uint8Array(16)
  if (writeIp(address, ip, 0) !== 16) return undefined
  const quad = Uint8Array.from(positions(by.length), (at) => ip[at] ?? 0)
  const ipv4 = readIpv4(quad, 0)
  return synthesizeIpv6(by, ipv4) === readIpv6(ip, 0) ? ipv4 : undefined
}

/** The address to send to for `to`, where IPv4 is reached by that prefix; `to` itself without one, and for IPv6. */
export function throughNat64(by: Nat64Prefix | undefined, to: SocketAddress): SocketAddress {
  if (by === undefined || familyOf(to.address) === 6) return to
  return { address: synthesizeIpv6(by, to.address), port: to.port }
}

/** The inverse of {@link throughNat64}: the address that others know. */
export function beforeNat64(by: Nat64Prefix | undefined, from: SocketAddress): SocketAddress {
  const address = by && embeddedIpv4(by, from.address)
  return address === undefined ? from : { address, port: from.port }
}

/** Where the four bytes stand: behind the prefix, but for byte 8, which is zero (RFC 6052 §2.2). */
export function positions(length: Nat64Prefix['length']): number[] {
  const all = Array.from({ length: 5 }, (_, n) => length / 8 + n)
  return (length === 96 ? all : all.filter((at) => at !== 8)).slice(0, 4)
}
