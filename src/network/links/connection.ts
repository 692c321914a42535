import type { SocketAddress } from '../../core/address.ts'
import type { PairReport, PathKind, TraceEntry } from '../../ice/index.ts'
import type { NodeId } from '../node-id.ts'

/** One way that the data to a node went, and for how long. */
export interface PathUse {
  /** `direct`: from machine to machine; `relayed`: through somebody's relay. */
  readonly kind: PathKind
  /** This node's end, as the peer sees it where that is known. */
  readonly local: SocketAddress
  readonly remote: SocketAddress
  readonly since: Date
  /** Undefined while it is in use. */
  readonly until: Date | undefined
}

/**
 * - `connecting`: no path yet.
 * - `connected`: there is one.
 * - `interrupted`: there was one, and another is being looked for.
 * - `idle`: there is none, and nothing here wants one: what used it has ended, or could not be had.
 */
export type ConnectionState = 'connecting' | 'connected' | 'interrupted' | 'idle'

/** How this node is connected with another one: a snapshot. */
export interface NodeConnection {
  readonly peer: NodeId
  readonly state: ConnectionState
  /** The path in use, with its addresses. */
  readonly path: PathUse | undefined
  /** The round trip, milliseconds. */
  readonly rtt: number | undefined
  /** What share of the packets that were sent over all pipes was lost, 0–1. */
  readonly loss: number
  /**
   * Bytes of all open and past pipes and control streams, both directions, without UDP's and IP's headers. What is sent counts
   * when it is acknowledged.
   */
  readonly bytesIn: number
  readonly bytesOut: number
  /** When this node first wanted, or was asked, to connect. */
  readonly since: Date
  /** The last 16 ways, the oldest first, the present one included. */
  readonly history: readonly PathUse[]
  /** What was tried, by candidate pairs; empty when the node was reached at a known address. */
  readonly pairs: readonly PairReport[]
  /** What happened, oldest first. */
  readonly trace: readonly TraceEntry[]
}
