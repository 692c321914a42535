import type { SocketAddress } from '../../core/address.ts'
import type { Micros, Path } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import type { ClientAuth, StunPeerError } from '../../stun/index.ts'
import type { IcmpError } from '../protocol/index.ts'

/** What to ask a relay for. */
export interface AllocationRequest {
  /** Of the relayed address; `both`: one of each, or what the server can (RFC 8656 §7.1). Default 4. */
  readonly family?: 4 | 6 | 'both'
  /** `tcp`: a relayed TCP port (RFC 6062), over TCP or TLS to the server only. Default `udp`. */
  readonly protocol?: 'udp' | 'tcp'
  /** An even relayed port; `reserve`: and the next higher one kept for 30 s, by {@link Allocation.reservationToken}. */
  readonly evenPort?: boolean | 'reserve'
  /** Takes the port that another allocation reserved; 8 bytes. Only with `family` left out, and without `evenPort`. */
  readonly reservationToken?: Uint8Array
  /** Ask for datagrams to peers that routers must not fragment; {@link Allocation.dontFragment} says if it is done. */
  readonly dontFragment?: boolean
  /** Keep the allocation when our own address changes (RFC 8016), where the server can. */
  readonly mobility?: boolean
  /** Seconds between refreshes at most; the server's default is 600, and it grants no less. */
  readonly lifetime?: number
}

export interface TurnClientOptions {
  readonly rng: Rng
  /** The way to the server. */
  readonly server: Path
  /** `new LongTermAuth(username, password)`; absent: the server asks for none. */
  readonly auth?: ClientAuth
  /** The way is a TCP or TLS connection, and what is sent and received whole messages on it; default false. */
  readonly reliable?: boolean
  readonly request?: AllocationRequest
  /**
   * A datagram with data for the server, to be sent at once: it is not in {@link TurnClient.pollTransmit}, so that the
   * data path neither queues nor allocates. Its bytes are overwritten after 300 more. False from it: it was dropped.
   */
  readonly output: (now: Micros, bytes: Uint8Array) => boolean
  /** A datagram from a peer, during `handleDatagram`. `bytes` is the client's again when this returns. */
  readonly input: (path: Path, bytes: Uint8Array) => void
}

/** What the server gave. */
export interface Allocation {
  /** Where peers reach us: one address, or an IPv4 and an IPv6 one. */
  readonly relayed: readonly SocketAddress[]
  /** Our own address and port as the server sees them: server-reflexive, over UDP (RFC 8445). */
  readonly mapped: SocketAddress | undefined
  /** The server that has it: after a 300 not the one that was asked. */
  readonly server: SocketAddress
  /** Seconds. */
  readonly lifetime: number
  /** For another allocation's {@link AllocationRequest.reservationToken}. */
  readonly reservationToken: Uint8Array | undefined
  /** False when the server cannot send datagrams that routers must not fragment, though asked to. */
  readonly dontFragment: boolean
  /** The server keeps the allocation when our address changes. */
  readonly mobility: boolean
  /** With `both`: the family there is no address of, and why (RFC 8656 §18.12): 440 or 508. */
  readonly missing: { readonly family: 4 | 6; readonly status: number } | undefined
}

export type TurnEvent =
  /** The first answer to {@link TurnClient.allocate}. */
  | { readonly type: 'allocated'; readonly allocation: Allocation }
  /**
   * The first answer to {@link TurnClient.allocate}, and the end: ask another server. RFC 8656 §7.4 wants this one left
   * alone for `retryAfter` µs, Infinity: until something is changed.
   */
  | { readonly type: 'failed'; readonly error: StunPeerError; readonly retryAfter: Micros }
  /**
   * The server has the allocation no more, or has been silent until it expired: the relayed address is gone, and with
   * it all paths through it. A new one is asked for, again and again: `renewed` follows, or `closed` on a call.
   */
  | { readonly type: 'lost'; readonly error: StunPeerError | undefined }
  /** There is an allocation again, with other relayed addresses. */
  | { readonly type: 'renewed'; readonly allocation: Allocation }
  /**
   * 300 over a stream, with proof (RFC 8489 §10): make a stream to the alternate, whose certificate carries `domain`
   * where given, and call {@link TurnClient.connected}.
   */
  | { readonly type: 'redirected'; readonly alternate: SocketAddress; readonly domain: string | undefined }
  /** The server does not answer. Over a stream: make a new one, and call {@link TurnClient.connected}. */
  | { readonly type: 'silent'; readonly error: StunPeerError }
  /** No permission for this address: 403 by the relay's policy, 443 the wrong family, 508 too many. */
  | { readonly type: 'refused'; readonly address: string; readonly error: StunPeerError }
  /** The relay heard of an ICMP error about a datagram of ours (RFC 8656 §11.5). */
  | { readonly type: 'icmp'; readonly peer: SocketAddress; readonly icmp: IcmpError }
  /** RFC 6062: a peer connected to the relayed port; bind `id` within 30 s on a connection of its own. */
  | { readonly type: 'attempt'; readonly peer: SocketAddress; readonly id: number }
  /** RFC 6062: the connection that {@link TurnClient.connect} asked for; bind `id` within 30 s. */
  | { readonly type: 'connected'; readonly peer: SocketAddress; readonly id: number }
  | { readonly type: 'unconnected'; readonly peer: SocketAddress; readonly error: StunPeerError }
  /** The answer to {@link TurnClient.close}. */
  | { readonly type: 'closed' }
