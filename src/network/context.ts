import type { KeyObject } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { Logger } from '../core/logger.ts'
import type { NodeId } from './node-id.ts'
import type { NodeInfo } from './node-info.ts'

/**
 * The seven things that a {@link Network} needs from its caller: where nodes are kept, who this node is, and where to
 * log. `createContext` has a ready implementation of all of them.
 *
 * Any of them may throw or hang: the network bounds each call in time (`callbackTimeout`), reports it, and goes on
 * with what it has. Results are checked; a record that does not verify is never used.
 */
export interface NetworkContext {
  /**
   * The nodes that this one knows, best helpers first. Asked when a node's address is not known or no longer right:
   * these are the nodes to ask, at most the first 16. Also asked after start, to tell them where this node is now.
   */
  listNodes(): Promise<Iterable<NodeId>> | AsyncIterable<NodeId>
  /** What is known of a node. Asked at every connect, and when a node that is known asks for another one. */
  getNode(id: NodeId): Promise<NodeInfo | undefined>
  /**
   * A newer, verified record of a node, this one included, to be kept. Called after start and when an address changes
   * (own record), and when a record was learned from another node. No pipe waits for it.
   */
  updateNode(info: NodeInfo): Promise<void>
  /** An authenticated control stream to that node. `options.dial` opens one over the network's own port. */
  connectToNode(id: NodeId, options: ConnectToNodeOptions): Promise<Duplex>
  /** The last record of this node, whose sequence the next one exceeds. Asked once by each start. */
  getSelf(): Promise<NodeInfo>
  /** Ed25519. Asked once by each start. */
  getPrivateKey(): Promise<KeyObject>
  /** Gets messages for people with fields for programs; never a secret. */
  readonly logger: Logger
}

export interface ConnectToNodeOptions {
  /** Aborted when nobody waits for the stream any more. */
  readonly signal: AbortSignal
  /** The network's own way: uTP and TLS to an address that `getNode` gives, the id checked. */
  readonly dial: () => Promise<Duplex>
}
