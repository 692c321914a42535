import { ErrorCode } from '../../stun/codec/registry.ts'
import type { NotAdmitted, RelayLimits } from '../../turn/index.ts'
import { sourceKey } from '../../turn/server/limits.ts'

/**
 * What all processes of a relay have together: how many allocations, of whom and from where, and which relayed addresses.
 * What a process has is forgotten when it dies. Bounded by what the processes may have: each asks before it takes.
 */
export class Ledger {
  limits: Pick<RelayLimits, 'allocations' | 'allocationsPerUser' | 'allocationsPerSource'>
  readonly #workers = new Map<number, Holdings>()

  constructor(limits: Ledger['limits']) {
    this.limits = limits
  }

  /** Counts one allocation more, and says why there must not be one: it is counted until {@link release}. */
  admit(worker: number, account: string, source: string): NotAdmitted | undefined {
    this.#count(worker, account, source, 1)
    const { allocations, allocationsPerUser, allocationsPerSource } = this.limits
    if (
      this.#sum(({ accounts }) => accounts.get(account)) > allocationsPerUser ||
      this.#sum(({ sources }) => sources.get(sourceKey(source))) > allocationsPerSource
    ) {
      return { code: ErrorCode.AllocationQuotaReached, reason: 'quota of user or source reached' }
    }
    if (this.#sum(({ total }) => total) <= allocations) return undefined
    return { code: ErrorCode.InsufficientCapacity, reason: 'the relay is full' }
  }

  release(worker: number, account: string, source: string): void {
    this.#count(worker, account, source, -1)
  }

  /** `address port` of relayed transport addresses that a process has now, or no more. */
  relays(worker: number, took: readonly string[], freed: readonly string[]): void {
    const { relayed } = this.#of(worker)
    for (const one of took) relayed.add(one)
    for (const one of freed) relayed.delete(one)
  }

  /** The relayed transport addresses of all processes but one. */
  relayedElsewhere(worker: number): string[] {
    return [...this.#workers].flatMap(([number, { relayed }]) => (number === worker ? [] : [...relayed]))
  }

  /** The process is gone, and with it what it had: its relayed transport addresses. */
  forget(worker: number): string[] {
    const { relayed } = this.#of(worker)
    this.#workers.delete(worker)
    return [...relayed]
  }

  #count(worker: number, account: string, source: string, change: 1 | -1): void {
    const holdings = this.#of(worker)
    holdings.total += change
    add(holdings.accounts, account, change)
    add(holdings.sources, sourceKey(source), change)
  }

  #of(worker: number): Holdings {
    const found = this.#workers.get(worker)
    if (found !== undefined) return found
    const made: Holdings = { total: 0, accounts: new Map(), sources: new Map(), relayed: new Set() }
    this.#workers.set(worker, made)
    return made
  }

  #sum(of: (holdings: Holdings) => number | undefined): number {
    let sum = 0
    for (const holdings of this.#workers.values()) sum += of(holdings) ?? 0
    return sum
  }
}

interface Holdings {
  total: number
  readonly accounts: Map<string, number>
  readonly sources: Map<string, number>
  readonly relayed: Set<string>
}

function add(counts: Map<string, number>, key: string, change: 1 | -1): void {
  const left = (counts.get(key) ?? 0) + change
  if (left > 0) counts.set(key, left)
  else counts.delete(key)
}
