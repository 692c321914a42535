import type { SocketAddress } from '../core/address.ts'
import type { TraceEntry } from '../ice/index.ts'
import type { PublicAddress } from '../stun/index.ts'
import type { UtpServer } from '../utp/driver/index.ts'
import type { NatworkError } from '../core/errors.ts'
import type { GuardedContext } from './guarded-context.ts'
import type { Identity } from './identity.ts'
import type { NodeConnection } from './links/connection.ts'
import type { NearbyNode } from './nearby.ts'
import type { NodeId } from './node-id.ts'
import type { NodeInfo } from './node-info.ts'
import type { NetworkLimits, NetworkTimeouts } from './options.ts'
import { Pipe } from './pipe.ts'
import type { Services } from './services.ts'
import type { HelperStatus } from './signalling/helpers.ts'
import type { TicketStore } from './ticket-store.ts'

/** A request that this node answered with no, or could not even read. */
export interface Refusal {
  readonly remote: SocketAddress | undefined
  /** Undefined when the connection ended before the peer proved who it is. */
  readonly peer: NodeId | undefined
  readonly service: string | undefined
  readonly error: NatworkError
}

export interface NetworkEvents {
  /** A pipe carries data now, in either direction of opening. */
  pipe: [pipe: Pipe]
  /** A pipe is over; the error is why, when not in good order. */
  pipeClosed: [pipe: Pipe, error: Error | undefined]
  /** A request was refused. */
  refused: [refusal: Refusal]
  /** What is known of this node's public address has changed; its record is told to others anew. */
  publicAddress: [seen: PublicAddress]
  /** The helpers on which this node hangs have changed. */
  helpers: [helpers: readonly HelperStatus[]]
  /** A node of the same network has come, gone or moved, as far as multicast DNS tells. */
  nearby: [nodes: readonly NearbyNode[]]
  /** How this node is connected with another one has changed: a path was found, lost, or a better one taken. */
  connection: [connection: NodeConnection]
  /** A step in finding and watching paths to a node. Plain JSON. */
  trace: [peer: NodeId, entry: TraceEntry]
  /** A newer record of a node was learned. */
  nodeUpdated: [info: NodeInfo]
}

/** What lives from one start to the next stop, and what the parts of the network share meanwhile. */
export interface Session {
  readonly identity: Identity
  readonly context: GuardedContext
  readonly utp: UtpServer
  readonly pipes: Pipes
  readonly services: Services
  readonly tickets: TicketStore
  readonly limits: NetworkLimits
  readonly timeouts: NetworkTimeouts
  /** Aborted when the network stops. */
  readonly signal: AbortSignal
  readonly emit: <K extends keyof NetworkEvents>(event: K, ...values: NetworkEvents[K]) => void
}

/** The record of pipes, each from birth to close. Incoming ones are bounded by the acceptor's quota. */
export class Pipes extends Map<string, Pipe> {
  #count = 0
  #onEmpty: (() => void)[] = []

  create(fields: Omit<ConstructorParameters<typeof Pipe>[0], 'id'>): Pipe {
    const pipe = new Pipe({ ...fields, id: String(++this.#count) })
    this.set(pipe.id, pipe)
    return pipe
  }

  override delete(id: string): boolean {
    this.get(id)?.closed()
    const known = super.delete(id)
    if (this.size === 0) for (const resolve of this.#onEmpty.splice(0)) resolve()
    return known
  }

  /** Resolves when no pipe is left. */
  async empty(): Promise<void> {
    if (this.size > 0) await new Promise<void>((resolve) => this.#onEmpty.push(resolve))
  }
}
