import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import type { DropReason, UdpPacket } from '../packet.ts'

/** What a router does with a datagram: pass this one on, or drop it and say why. */
export type Verdict = UdpPacket | DropReason

/** Two ends as written in one datagram. */
export interface Ends {
  readonly source: SocketAddress
  readonly destination: SocketAddress
}

/** The part of a router that decides about, and rewrites, datagrams which cross it. */
export interface Translator {
  /** From inside. What comes back may lead inside again (hairpin). `no-socket`: it was for the router itself. */
  outbound(now: Micros, packet: UdpPacket): Verdict
  inbound(now: Micros, packet: UdpPacket): Verdict
  /** The ends of a datagram that this translated on its way out, as they were inside: for ICMP errors about it. */
  sentFromInside(outside: Ends): Ends | undefined
  /** The ends of a datagram that this translated on its way in, as they were outside. */
  sentFromOutside(inside: Ends): Ends | undefined
  /** Everybody outside reaches `inside` at the external `port`; undefined takes that away again. */
  forwardPort(port: number, inside: SocketAddress | undefined): void
  /** Forgets every mapping that traffic made, as a reboot does. */
  flush(): void
}

export function key(at: SocketAddress): string {
  return `${at.address} ${at.port}`
}
