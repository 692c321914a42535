import type { SocketAddress } from '../../core/address.ts'
import { SECOND, type Carrier, type Micros } from '../../core/machine.ts'
import type { SearchReport } from '../types.ts'
import { OPEN_AGAIN, type Plan } from './plan.ts'
import type { PortOrder } from './ports.ts'

export interface SearchHost {
  /** Asks the driver for sockets; they come by {@link Search.addSocket}. */
  wantSockets(count: number): void
  /** Sends one check whose answer, or whose request back, ends the search. @returns false when no more may go there. */
  probe(now: Micros, via: Carrier | undefined, to: SocketAddress, ttl: number | undefined): boolean
  report(now: Micros, search: SearchReport): void
}

/** Carries out a plan: paced, bounded, and over at the first hit. */
export class Search {
  readonly #plan: Plan
  readonly #host: SearchHost
  /** Bounded by the sockets of the plan times its rounds. */
  readonly #sockets = new Set<Carrier>()
  /** The same, to take turns. */
  #inTurn: Carrier[] = []
  /** What is to be sent next; bounded by sockets × targets × 2. */
  #queue: { via: Carrier | undefined; to: SocketAddress; ttl: number | undefined; at: Micros }[] = []
  #order: PortOrder | undefined
  /** Where the order began, when the NAT's rule was known: {@link TargetOrder.near}. */
  #near: number | undefined
  /** Walks over all targets so far: each by another socket, since a flow that a NAT still remembers is no new guess. */
  #walks = 0
  #round = 0
  #roundAt: Micros
  #nextAt: Micros
  #sent = 0
  #state: SearchReport['state'] = 'started'

  constructor(now: Micros, plan: Plan, host: SearchHost) {
    this.#plan = plan
    this.#host = host
    this.#nextAt = now
    this.#roundAt = now + OPEN_AGAIN
    host.report(now, this.report)
    this.#begin()
  }

  get active(): boolean {
    return this.#state === 'started'
  }

  get method(): Plan['method'] {
    return this.#plan.method
  }

  get sockets(): ReadonlySet<Carrier> {
    return this.#sockets
  }

  get report(): SearchReport {
    const { method, budget } = this.#plan
    return { method, state: this.#state, sent: this.#sent, budget, sockets: this.#sockets.size }
  }

  get deadline(): Micros {
    if (!this.active) return Infinity
    if (this.#hasWork()) return Math.max(this.#nextAt, this.#queue[0]?.at ?? this.#nextAt)
    return this.#roundAt
  }

  /** @returns whether the search has a use for it. */
  addSocket(now: Micros, via: Carrier): boolean {
    if (!this.active || this.#sockets.size >= this.#plan.sockets * this.#plan.rounds) return false
    this.#sockets.add(via)
    this.#inTurn.push(via)
    this.#aim(now, via)
    return true
  }

  /** By now the peer knows the rule by which its NAT gives ports: what is left to send goes there. */
  learn(plan: Plan | undefined): void {
    if (!this.active || this.#plan.method !== 'probe' || plan?.method !== 'probe' || isList(plan.targets))
      return
    const { near, order } = plan.targets
    if (near === undefined || near === this.#near) return
    this.#near = near
    this.#order = order(this.#round)
  }

  /** It has found a way. @returns how many datagrams that took; 0 when it was over already. */
  hit(now: Micros): number {
    if (!this.active) return 0
    this.stop(now, 'hit')
    return this.#sent
  }

  stop(now: Micros, state: 'hit' | 'stopped' | 'exhausted'): void {
    if (!this.active) return
    this.#state = state
    this.#queue = []
    this.#host.report(now, this.report)
  }

  /** It is closed, or about to be. @returns whether it was the search's. */
  forget(via: Carrier): boolean {
    this.#inTurn = this.#inTurn.filter((one) => one !== via)
    return this.#sockets.delete(via)
  }

  handleTimeout(now: Micros): void {
    if (!this.active) return
    // Drivers' timers have a grain of a millisecond or more: what should have been sent meanwhile is sent together.
    const gap = SECOND / this.#plan.perSecond
    for (let burst = 0; burst < MAX_BURST && now >= this.#nextAt && this.#hasWork(now); burst++) {
      this.#sendOne(now)
      this.#nextAt = Math.max(this.#nextAt + gap, now - MAX_BURST * gap)
    }
    if (this.#hasWork()) this.#roundAt = Math.max(this.#roundAt, now + LAST_ANSWERS)
    else if (now >= this.#roundAt) this.#nextRound(now)
  }

  #begin(): void {
    const { sockets, targets } = this.#plan
    if (!isList(targets)) {
      this.#order = targets.order(this.#round)
      this.#near = targets.near
    }
    if (sockets > 0) this.#host.wantSockets(sockets)
  }

  #hasWork(now = Infinity): boolean {
    if (!this.active || this.#sent >= this.#plan.budget) return false
    const [first] = this.#queue
    if (first !== undefined) return first.at <= now
    return this.#order !== undefined && this.#walksOver
  }

  /** Whether one socket sends to all targets, rather than each to one. */
  get #walksOver(): boolean {
    return this.#plan.method === 'probe' || this.#plan.method === 'search'
  }

  #sendOne(now: Micros): void {
    const queued = this.#queue.shift()
    if (queued !== undefined) {
      this.#probe(now, queued.via, queued.to, queued.ttl)
      return
    }
    const { targets, ttl, method } = this.#plan
    if (isList(targets)) return
    const port = this.#order?.()
    if (port === undefined) {
      this.#order = method === 'probe' ? undefined : targets.order(this.#round)
      this.#walks++
      return
    }
    // The endpoint's own socket is the first.
    const via = this.#inTurn[(this.#walks - 1) % Math.max(1, this.#inTurn.length)]
    this.#probe(now, via, { address: targets.address, port }, ttl)
  }

  #probe(now: Micros, via: Carrier | undefined, to: SocketAddress, ttl: number | undefined): void {
    if (this.#host.probe(now, via, to, ttl)) this.#sent++
    else this.stop(now, 'exhausted')
  }

  /** What a new socket sends first. */
  #aim(now: Micros, via: Carrier): void {
    const { targets, ttl, again } = this.#plan
    if (isList(targets)) {
      for (const to of targets) this.#queue.push({ via, to, ttl, at: now })
    } else if (this.#plan.method === 'meet') {
      const port = this.#order?.()
      if (port === undefined) return
      const to = { address: targets.address, port }
      this.#queue.push({ via, to, ttl, at: now })
      if (again !== undefined) this.#queue.push({ via, to, ttl: undefined, at: now + again })
      this.#queue.sort((a, b) => a.at - b.at)
    }
  }

  #nextRound(now: Micros): void {
    if (!this.active) return
    this.#round++
    if (this.#round >= this.#plan.rounds || this.#sent >= this.#plan.budget) {
      this.stop(now, 'exhausted')
      return
    }
    this.#roundAt = now + OPEN_AGAIN
    if (this.#plan.method === 'open') for (const via of this.#sockets) this.#aim(now, via)
    else this.#begin()
  }
}

/** How long answers to the last datagrams are waited for. */
const LAST_ANSWERS = SECOND
/** Datagrams at once after a late timer. */
const MAX_BURST = 16

function isList(targets: Plan['targets']): targets is readonly SocketAddress[] {
  return Array.isArray(targets)
}
