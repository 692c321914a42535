import { SECOND, type Micros } from '../../core/machine.ts'
import type { Allocation } from './allocation.ts'
import { sourceKey, type RelayLimits } from './limits.ts'

type Limits = Pick<
  RelayLimits,
  'bandwidth' | 'bandwidthPerUser' | 'bandwidthPerSource' | 'bandwidthPerAllocation'
>

/** How many bytes are relayed per second: in all, per user, per source and per allocation, both ways together. */
export class Bandwidth {
  /** Is there any limit? */
  metered = false
  #limits: Limits = {
    bandwidth: Infinity,
    bandwidthPerUser: Infinity,
    bandwidthPerSource: Infinity,
    bandwidthPerAllocation: Infinity,
  }
  readonly #total = new ByteBudget(Infinity)
  readonly #perUser = new SharedBudgets()
  readonly #perSource = new SharedBudgets()
  /** Of allocations that a limit has been asked about. Entries go with their allocations. */
  readonly #budgets = new Map<Allocation, readonly ByteBudget[]>()

  configure(limits: Limits): void {
    this.#limits = limits
    const { bandwidth, bandwidthPerUser, bandwidthPerSource, bandwidthPerAllocation } = limits
    this.metered =
      Math.min(bandwidth, bandwidthPerUser, bandwidthPerSource, bandwidthPerAllocation) < Infinity
    this.#total.perSecond = bandwidth
    this.#perUser.perSecond = bandwidthPerUser
    this.#perSource.perSecond = bandwidthPerSource
    for (const [own] of this.#budgets.values()) if (own !== undefined) own.perSecond = bandwidthPerAllocation
  }

  leave(allocation: Allocation): void {
    if (!this.#budgets.delete(allocation)) return
    this.#perUser.leave(allocation.account)
    this.#perSource.leave(sourceKey(allocation.source))
  }

  /** Takes bytes from every budget, or from none: false. */
  take(now: Micros, allocation: Allocation, bytes: number): boolean {
    const budgets = this.#budgetsOf(allocation)
    for (const [n, budget] of budgets.entries()) {
      if (budget.take(now, bytes)) continue
      for (const taken of budgets.slice(0, n)) taken.giveBack(bytes)
      return false
    }
    return true
  }

  /** Takes bytes that have been carried already; how long until all budgets are out of debt. */
  charge(now: Micros, allocation: Allocation, bytes: number): Micros {
    let wait = 0
    for (const budget of this.#budgetsOf(allocation)) wait = Math.max(wait, budget.charge(now, bytes))
    return wait
  }

  #budgetsOf(allocation: Allocation): readonly ByteBudget[] {
    const known = this.#budgets.get(allocation)
    if (known !== undefined || allocation.ended) return known ?? []
    const made = [
      new ByteBudget(this.#limits.bandwidthPerAllocation),
      this.#perUser.enter(allocation.account),
      this.#perSource.enter(sourceKey(allocation.source)),
      this.#total,
    ]
    this.#budgets.set(allocation, made)
    return made
  }
}

/** Budgets that several allocations share, each while it has one. */
class SharedBudgets {
  /** Bounded by the number of allocations. */
  readonly #budgets = new Map<string, { readonly budget: ByteBudget; users: number }>()
  #perSecond = Infinity

  set perSecond(value: number) {
    this.#perSecond = value
    for (const { budget } of this.#budgets.values()) budget.perSecond = value
  }

  enter(key: string): ByteBudget {
    const known = this.#budgets.get(key)
    if (known !== undefined) {
      known.users++
      return known.budget
    }
    const budget = new ByteBudget(this.#perSecond)
    this.#budgets.set(key, { budget, users: 1 })
    return budget
  }

  leave(key: string): void {
    const known = this.#budgets.get(key)
    if (known !== undefined && --known.users === 0) this.#budgets.delete(key)
  }
}

/** A token bucket of bytes: a second's worth at once. */
class ByteBudget {
  #perSecond: number
  #tokens: number
  #at: Micros = -Infinity

  constructor(perSecond: number) {
    this.#perSecond = perSecond
    this.#tokens = perSecond
  }

  set perSecond(value: number) {
    this.#perSecond = value
    this.#tokens = Math.min(this.#tokens, value)
    if (Number.isNaN(this.#tokens)) this.#tokens = value
  }

  take(now: Micros, bytes: number): boolean {
    if (this.#perSecond === Infinity) return true
    this.#earn(now)
    if (this.#tokens < bytes) return false
    this.#tokens -= bytes
    return true
  }

  /** Goes into debt where need be; microseconds until it is out of it. */
  charge(now: Micros, bytes: number): Micros {
    if (this.#perSecond === Infinity) return 0
    this.#earn(now)
    this.#tokens -= bytes
    return Math.max(0, Math.ceil((-this.#tokens / this.#perSecond) * SECOND))
  }

  /** Gives back what a budget further down refused. */
  giveBack(bytes: number): void {
    this.#tokens += bytes
  }

  #earn(now: Micros): void {
    const earned = ((now - this.#at) / SECOND) * this.#perSecond
    this.#at = now
    this.#tokens = Math.min(this.#perSecond, this.#tokens + earned)
  }
}
