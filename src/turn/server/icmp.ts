import { SECOND, type Micros } from '../../core/machine.ts'

/**
 * How many ICMP errors the client of each account is told of: PER_SECOND at most, and as many at once. Each answers the
 * question what a peer does with a datagram to one port, and who may ask as fast as he likes scans ports through the
 * relay, from the relay's place in its network.
 */
export class IcmpBudgets {
  /** Bounded by the number of accounts with allocations: entries go with the last of these. */
  readonly #spent = new Map<string, Spent>()

  /** Takes one of the account's; false when it has none. */
  take(now: Micros, account: string): boolean {
    let spent = this.#spent.get(account)
    if (spent === undefined) this.#spent.set(account, (spent = { count: 0, at: now }))
    spent.count = Math.max(0, spent.count - ((now - spent.at) / SECOND) * PER_SECOND)
    spent.at = now
    if (spent.count > PER_SECOND - 1) return false
    spent.count++
    return true
  }

  forget(account: string): void {
    this.#spent.delete(account)
  }
}

interface Spent {
  count: number
  at: Micros
}

const PER_SECOND = 20
