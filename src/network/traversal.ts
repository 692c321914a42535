import type { NatTraits, PublicAddress } from '../stun/index.ts'
import type { UdpEndpoint } from '../socket/index.ts'

/**
 * What finds out where this node can be reached, and helps others to: it speaks on the very socket that uTP speaks on,
 * since a NAT gives every socket its own outer address.
 */
export interface TraversalService {
  /** What is known now; it changes only between `start` and `stop`. */
  readonly publicAddress: PublicAddress
  /** How the NAT in front of the port treats IPv4, as far as it is known by now: peers with hard NATs plan by it. */
  readonly nat?: NatTraits
  /**
   * The socket is bound and open. Rejecting fails the network's start.
   *
   * @param onChange to be called when {@link publicAddress} or {@link nat} has changed.
   */
  start(endpoint: UdpEndpoint, signal: AbortSignal, onChange: () => void): Promise<void>
  /** The outer port of a flow that is opened just now, where the NAT's next ports follow from it. */
  newestPort?(): Promise<number | undefined>
  /** A peer fell silent, or the network says otherwise that addresses may have changed: look again, soon. */
  recheck?(): void
  /** This machine's own addresses have changed: servers may have to be reached in another way. */
  networkChanged?(): void
  /** Must leave nothing running; the socket is still open. Also called after a `start` that failed. */
  stop(): Promise<void>
}
