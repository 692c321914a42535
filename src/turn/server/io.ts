import type { SocketAddress } from '../../core/address.ts'
import type { Path } from '../../core/machine.ts'
import type { AddressFamily, TransportProtocol } from '../protocol/constants.ts'
import type { Allocation } from './allocation.ts'

/** What the relay needs of the world, and the driver gives: sockets, as few methods as will do. */

/**
 * The way to a client: its 5-tuple. For UDP it is made for each request of a stranger and kept once it has an
 * allocation; for TCP and TLS it is the connection.
 */
export interface ClientLink {
  readonly remote: SocketAddress
  /** `stream`: TCP or TLS, where ChannelData is padded and the source address is proven. */
  readonly kind: 'udp' | 'stream'
  /** TLS. */
  readonly secure?: boolean
  /** Which channel numbers: RFC 5766's too, RFC 8656's, or those of them that are no uTP SYN. */
  readonly channels: 'old' | 'rfc8656' | 'no-utp'
  /** The relay's: undefined when this 5-tuple has none. */
  allocation: Allocation | undefined
  /** The transaction of an Allocate that waits for its socket; see {@link Relay}. */
  opening: boolean
  /** Sends at once, or drops when there is no room. `data` is the relay's again when this returns. */
  send(data: Uint8Array): void
  /** The allocation is no more this link's: a stream that has no further purpose may end. */
  released(): void
  /** Streams only (RFC 6062 §5.4): from now on the connection carries the bytes of `peer`. */
  joinTo?(peer: PeerConnection, allocation: Allocation): void
}

/** A socket at a relayed transport address. */
export interface RelayedSocket {
  /** As peers see it: behind a 1:1 NAT the external one. */
  readonly address: SocketAddress
  /** Begins to hand datagrams (or connections, for TCP) to the allocation. */
  start(allocation: Allocation): void
  /** UDP only: sends at once, or drops. `data` is the relay's again when this returns. */
  send(peer: Path, data: Uint8Array): void
  close(): void
}

/** What the relay asks for: answer with {@link Relay.opened} or {@link Relay.openFailed}. */
export interface OpenRequest {
  readonly transport: TransportProtocol
  /** One, or two of different families: the second may fail alone. */
  readonly families: readonly AddressFamily[]
  /** An even port. */
  readonly even: boolean
  /** The next higher port too, as `reserved`. */
  readonly reserve: boolean
}

/**
 * Other relays that are one with this one to their clients, each in a process of its own. What one allocation takes is
 * counted over all of them. A client that comes by another 5-tuple may meet another of them: so there are no port
 * reservations (EVEN-PORT's R bit), no mobility and no TCP allocations, which all need the same one again.
 */
export interface Siblings {
  /**
   * Counts one allocation more, of an account and from a source; as soon as the answer is asked for, whatever it is.
   *
   * @returns why there must not be one: an error code.
   */
  admit(account: string, source: string): Promise<NotAdmitted | undefined>
  /** Counts one less. */
  release(account: string, source: string): void
  /** Is this a relayed transport address of another one? */
  isRelayed(address: string, port: number): boolean
  /** A relayed transport address is ours from now on; or no more. */
  relays(at: SocketAddress, ours: boolean): void
}

export interface NotAdmitted {
  readonly code: number
  /** For the log. */
  readonly reason: string
}

/** What the driver opened. Absent where it could not. */
export interface Opened {
  /** Why nothing was opened, where it was no lack of ports. */
  readonly refusal?: NotAdmitted
  readonly sockets: readonly (RelayedSocket | undefined)[]
  readonly reserved?: RelayedSocket
}

/** RFC 6062: a TCP connection between a relayed transport address and a peer. Nothing is read until it is joined. */
export interface PeerConnection {
  readonly remote: SocketAddress
  /** Closes it, and what it is joined to. */
  destroy(): void
  /** Called once, when it has ended by itself. */
  onClose(listener: () => void): void
}

/** What {@link Relay.pollEvent} gives. */
export type RelayEvent =
  | {
      readonly type: 'open'
      readonly request: OpenRequest
      readonly ticket: number
      /** Whose allocation it will be: see {@link Siblings.admit}. */
      readonly account: string
      readonly source: string
    }
  | {
      /** Connect from the relayed address; answer with {@link Relay.connected} or {@link Relay.connectFailed}. */
      readonly type: 'connect'
      readonly from: RelayedSocket
      readonly peer: SocketAddress
      readonly ticket: number
    }
  | { readonly type: 'created'; readonly allocation: Allocation }
  | { readonly type: 'ended'; readonly allocation: Allocation; readonly reason: EndReason }
  | {
      readonly type: 'refused'
      readonly client: SocketAddress
      readonly method: number
      readonly code: number
      readonly reason: string
      readonly username?: string | undefined
      readonly allocation?: number | undefined
      readonly peer?: string | undefined
    }

export type EndReason = 'expired' | 'closed by client' | 'connection lost' | 'shut down'
