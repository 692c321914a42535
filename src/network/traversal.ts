import type { UdpEndpoint } from '../socket/index.ts'

/**
 * What finds out where this node can be reached, and helps others to: it speaks on the very socket that uTP speaks on,
 * since a NAT gives every socket its own outer address.
 */
export interface TraversalService {
  /** The socket is bound and open. Rejecting fails the network's start. */
  start(endpoint: UdpEndpoint, signal: AbortSignal): Promise<void>
  /** Must leave nothing running; the socket is still open. Also called after a `start` that failed. */
  stop(): Promise<void>
}

/** A network whose nodes see each other's addresses as they are. */
export const noTraversal: TraversalService = {
  start: () => Promise.resolve(),
  stop: () => Promise.resolve(),
}
