import { isIP, SocketAddress as NodeSocketAddress } from 'node:net'
import { familyOf, formatAddress } from '../core/address.ts'
import type { SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'

/** An IP packet on a simulated wire: a UDP datagram, or the ICMP error about one. */
export type Packet = UdpPacket | IcmpPacket

export interface UdpPacket {
  readonly protocol: 'udp'
  /** Counts datagrams as they leave their host; copies, translations and duplicates keep it. */
  readonly id: number
  readonly source: SocketAddress
  readonly destination: SocketAddress
  readonly ttl: number
  readonly data: Uint8Array
}

export interface IcmpPacket {
  readonly protocol: 'icmp'
  readonly id: number
  readonly source: SocketAddress
  readonly destination: SocketAddress
  readonly ttl: number
  readonly error: IcmpError
  /** Ends of the datagram that caused it, as it looked where the error was made. */
  readonly about: { readonly source: SocketAddress; readonly destination: SocketAddress }
}

/** RFC 792 and RFC 4443: what the network can say about a datagram. `mtu` in bytes, IP header included. */
export type IcmpError =
  { readonly type: 'port-unreachable' } | { readonly type: 'too-big'; readonly mtu: number }

/** Why a datagram ended anywhere but in a socket. */
export type DropReason =
  | 'loss'
  | 'queue-full'
  | 'link-down'
  | 'mtu'
  | 'ttl'
  | 'blocked'
  | 'no-route'
  | 'no-source-address'
  | 'no-socket'
  | 'unclaimed'
  | 'isolated'
  | 'egress'
  | 'filtered'
  | 'no-mapping'
  | 'no-hairpin'
  | 'no-port'
  | 'clash'
  | 'table-full'

export const DEFAULT_TTL = 64

const UDP_HEADER = 8
const ICMP_SIZE = 36

/** Bytes on the wire, from the IP header on. */
export function sizeOf(packet: Packet): number {
  const header = familyOf(packet.destination.address) === 4 ? 20 : 40
  return header + (packet.protocol === 'udp' ? UDP_HEADER + packet.data.length : ICMP_SIZE)
}

export function withTtl(packet: Packet, ttl: number): Packet {
  return { ...packet, ttl }
}

/** The ICMP error that `from` sends back about `packet`; none about another error (RFC 1122 §3.2.2). */
export function icmpAbout(packet: Packet, from: string, error: IcmpError): IcmpPacket | undefined {
  if (packet.protocol === 'icmp') return undefined
  return {
    protocol: 'icmp',
    id: packet.id,
    source: { address: from, port: 0 },
    destination: { address: packet.source.address, port: 0 },
    ttl: DEFAULT_TTL,
    error,
    about: { source: packet.source, destination: packet.destination },
  }
}

export function describe(packet: Packet): string {
  const ends = `${formatAddress(packet.source)} > ${formatAddress(packet.destination)}`
  return packet.protocol === 'udp' ? `${ends} udp ${packet.data.length}` : `${ends} icmp ${packet.error.type}`
}

/**
 * An IP literal as the operating system prints it, so that equal addresses are equal strings.
 *
 * @throws {UsageError} `ERR_NATWORK_SIM_ADDRESS` when it is none.
 */
export function canonicalAddress(address: string): string {
  const version = isIP(address)
  if (version === 4) return address
  if (version === 6) return new NodeSocketAddress({ address, family: 'ipv6' }).address
  throw new UsageError(
    'ERR_NATWORK_SIM_ADDRESS',
    `"${address}" is not an IP address: write 192.0.2.1 or 2001:db8::1`,
  )
}
