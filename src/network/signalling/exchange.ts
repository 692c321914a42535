import { setTimeout as sleep } from 'node:timers/promises'
import { PeerError } from '../../core/errors.ts'
import type { ControlChannel } from '../control.ts'
import type { NodeId } from '../node-id.ts'
import type { NodeInfo } from '../node-info.ts'
import { RefusedError } from '../refusal.ts'
import { RateLimiter, type Rate } from './rate-limiter.ts'

/** What helping costs at most. Per second in the long run, and at once. */
export interface ExchangeLimits {
  /** Signals that one node may send. */
  readonly perSender: Rate
  /** Signals that one node gets. */
  readonly perTarget: Rate
  /** All signals together. */
  readonly total: Rate
}

const defaultLimits: ExchangeLimits = {
  perSender: { rate: 20, burst: 100 },
  perTarget: { rate: 20, burst: 100 },
  total: { rate: 5_000, burst: 10_000 },
}

/** Where nodes were last heard of that hang on other helpers: remembered for answers. */
const maxRoutes = 4_096

export interface ExchangeOptions {
  /** Control streams to other helpers, for nodes that hang on those. */
  readonly neighbours: (to: NodeId) => readonly ControlChannel[]
  readonly limits?: Partial<ExchangeLimits>
  /** Milliseconds of any clock. */
  readonly now?: () => number
}

/**
 * A helper's part: hands sealed signals from node to node, and reads none of them. The nodes are those on whose
 * control streams it hangs; for others it asks one more helper, which asks nobody else.
 *
 * Bounded: nodes by the acceptor's quota of control streams, routes by {@link maxRoutes}, signals by rate per sender,
 * per target and in total; nothing is queued but what a stream has room for.
 */
export class Exchange {
  readonly #options: ExchangeOptions
  readonly #now: () => number
  readonly #attached = new Map<NodeId, Attached>()
  /** Learned from what other helpers forward. The one used last is the last. */
  readonly #routes = new Map<NodeId, ControlChannel>()
  readonly #senders: RateLimiter
  readonly #targets: RateLimiter

  constructor(options: ExchangeOptions) {
    const { perSender, perTarget, total } = { ...defaultLimits, ...options.limits }
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    this.#senders = new RateLimiter(perSender, total)
    this.#targets = new RateLimiter(perTarget, total)
  }

  /** How many nodes hang on this helper. */
  get size(): number {
    return this.#attached.size
  }

  /** From now on, what comes for the node goes to this stream, until it ends or the node comes by another one. */
  attach(channel: ControlChannel, info: NodeInfo): void {
    const { peer } = channel
    if (info.id !== peer) {
      throw new PeerError('ERR_NATWORK_NODE_INFO', `${peer} attached with the record of ${info.id}`)
    }
    const known = this.#attached.get(peer)
    this.#attached.set(peer, { channel, info })
    if (known?.channel === channel) return
    void channel.closed.then(() => {
      if (this.#attached.get(peer)?.channel === channel) this.#attached.delete(peer)
    })
  }

  /** The record with which a node hangs on this helper. */
  find(id: NodeId): NodeInfo | undefined {
    return this.#attached.get(id)?.info
  }

  /**
   * Forwards one signal that came on `channel`; `onBehalf` when another helper asks for somebody else. Resolves when the
   * node has it: its NAT may have forgotten the stream, and then the sender tries another helper.
   *
   * @throws {RefusedError} `ERR_NATWORK_NOT_ATTACHED`, `ERR_NATWORK_BUSY`
   */
  async forward(channel: ControlChannel, to: NodeId, body: string, onBehalf?: NodeId): Promise<void> {
    const from = onBehalf ?? channel.peer
    this.admit(channel.peer, to)
    if (onBehalf !== undefined) this.#learn(onBehalf, channel)
    const attached = this.#attached.get(to)
    if (attached !== undefined) {
      const delivered = this.#deliver(attached.channel, to, body)
      // The stream of another helper is everybody's: a node that takes signals and never answers must not hold it up.
      if (onBehalf === undefined) await Promise.race([delivered, tooLate(to)])
      else delivered.catch(() => undefined)
      return
    }
    // One hop between helpers is enough for any two nodes, and no signal can go in circles.
    if (onBehalf !== undefined) throw notAttached(to)
    await this.#forwardFurther(from, to, body)
  }

  /** Counts one signal against the budgets. @throws {RefusedError} `ERR_NATWORK_BUSY` */
  admit(from: NodeId, to: NodeId): void {
    const now = this.#now()
    if (!this.#senders.take(from, now)) throw busy('this node sends too many signals')
    if (!this.#targets.take(to, now)) throw busy(`${to} gets too many signals`)
  }

  async #deliver(channel: ControlChannel, to: NodeId, body: string): Promise<void> {
    try {
      await channel.ask({ type: 'deliver', body })
    } catch (error) {
      if (error instanceof RefusedError) return
      // A node that does not answer is gone, though its stream does not know it yet.
      channel.close(error instanceof Error ? error : undefined)
      throw notAttached(to)
    }
  }

  async #forwardFurther(from: NodeId, to: NodeId, body: string): Promise<void> {
    const learned = this.#routes.get(to)
    const others = this.#options.neighbours(to)
    const ways = learned?.alive === true ? [learned, ...others] : others
    if (ways.length === 0) throw notAttached(to)
    const attempts = ways.map((channel) => channel.ask({ type: 'signal', to, body, for: from }))
    await Promise.any(attempts).catch(() => {
      throw notAttached(to)
    })
  }

  #learn(id: NodeId, channel: ControlChannel): void {
    this.#routes.delete(id)
    this.#routes.set(id, channel)
    if (this.#routes.size <= maxRoutes) return
    const [oldest] = this.#routes.keys()
    if (oldest !== undefined) this.#routes.delete(oldest)
  }
}

/** Rejects when a sender has waited enough: on its stream it also asks whether this helper lives. */
async function tooLate(to: NodeId): Promise<never> {
  await sleep(patience, undefined, { ref: false })
  throw notAttached(to)
}

/** Milliseconds. */
const patience = 1_000

interface Attached {
  readonly channel: ControlChannel
  readonly info: NodeInfo
}

function busy(why: string): RefusedError {
  return new RefusedError('ERR_NATWORK_BUSY', why)
}

function notAttached(to: NodeId): RefusedError {
  return new RefusedError('ERR_NATWORK_NOT_ATTACHED', `there is no way to ${to} from here`)
}
