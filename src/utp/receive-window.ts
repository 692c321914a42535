import { MILLISECOND, type Micros } from '../core/machine.ts'

/** Windows begin with so much. */
export const FIRST_WINDOW = 1_048_576
/** A sender may double its flight within a round trip, and what follows a lost packet waits here for another one. */
const HEADROOM = 4
/** A reader that leaves this part of the window unread does not keep up: more would not help it. */
const UNREAD = 1 / 8
/** Between two turns of a busy event loop; also the shortest time that arrivals are measured over. */
const TURN: Micros = 10 * MILLISECOND
/** For a peer whose round trip cannot be told. */
const USUAL_RTT: Micros = 100 * MILLISECOND
/** Connections that received something in a slot of this length share the socket's buffer. */
const SLOT: Micros = 100 * MILLISECOND
/** However many share it, a connection may send a few packets. */
const LEAST_SHARE = 8_192

/** What the connections of a machine hold of what they receive, and the socket buffer in front of them. */
export class ReceiveBudget {
  /** Received bytes held by all connections. */
  used = 0
  readonly limit: number
  /** Bytes of datagrams that wait in the kernel for us, before it drops them. */
  readonly socketBuffer: number
  #slot = 0
  #active = 0
  #activeBefore = 0

  constructor(limit: number, socketBuffer: number) {
    this.limit = limit
    this.socketBuffer = socketBuffer
  }

  /** A connection received something; `slot` is what the last call for it returned. */
  active(now: Micros, slot: number): number {
    const current = Math.floor(now / SLOT)
    if (current !== this.#slot) {
      this.#activeBefore = current === this.#slot + 1 ? this.#active : 0
      this.#active = 0
      this.#slot = current
    }
    if (slot !== current) this.#active++
    return current
  }

  /**
   * The part of the socket's buffer for one of the connections that are receiving. What a peer has in flight comes within
   * a round trip, and only what comes while our loop is busy with something else waits in the kernel.
   */
  share(rtt: Micros): number {
    const sharers = Math.max(1, this.#active, this.#activeBefore)
    const part = (this.socketBuffer / sharers) * Math.max(1, rtt / TURN)
    return part > LEAST_SHARE ? part : LEAST_SHARE
  }
}

/**
 * How large a receive window is: it begins small and grows to a few times what comes within a round trip, as long as the
 * application reads it (the idea of TCP's dynamic right-sizing), up to the connection's limit and its share of the socket's buffer. So a fast
 * reader on a long path gets what the path can hold, a reader that stops costs little memory, and many connections
 * together do not overrun the socket.
 */
export class ReceiveWindow {
  /** What may be under way: this connection's share of the socket's buffer, and never more than {@link roof}. */
  size: number
  readonly #limit: number
  readonly #budget: ReceiveBudget
  /** The largest window so far, never mind the others: what fits in it is taken, unread and out of order together. */
  roof: number
  #slot = -1
  #since: Micros = 0
  #arrived = 0

  constructor(limit: number, budget: ReceiveBudget) {
    this.#limit = limit
    this.#budget = budget
    this.roof = Math.min(limit, FIRST_WINDOW)
    this.size = Math.floor(Math.min(this.roof, budget.share(0)))
  }

  /** So many bytes of payload came; `unread` of those in order wait for the application. */
  tune(now: Micros, rtt: Micros, bytes: number, unread: number): void {
    this.#slot = this.#budget.active(now, this.#slot)
    this.#arrived += bytes
    if (now - this.#since >= Math.max(rtt > 0 ? rtt : USUAL_RTT, TURN)) {
      const wanted = this.#arrived * HEADROOM
      if (wanted > this.roof && unread < this.roof * UNREAD) this.roof = Math.min(wanted, this.#limit)
      this.#since = now
      this.#arrived = 0
    }
    this.size = Math.floor(Math.min(this.roof, this.#budget.share(rtt)))
  }
}
