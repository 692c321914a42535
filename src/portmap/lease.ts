import { SECOND, type Micros } from '../core/machine.ts'
import type { Rng } from '../core/ports.ts'

/** When a granted mapping ends, is to be renewed, and is to be looked after in between. */
export class Lease {
  readonly expiresAt: Micros
  renewAt: Micros
  checkAt: Micros
  readonly #rng: Rng

  /** @param lifetime seconds; Infinity where the router gives no end. */
  constructor(now: Micros, lifetime: number, rng: Rng) {
    this.#rng = rng
    this.expiresAt = now + lifetime * SECOND
    this.renewAt = now + this.#partOfRest(now)
    this.checkAt = now + CHECK_INTERVAL
  }

  /** The earliest of the three. */
  get nextAt(): Micros {
    return Math.min(this.expiresAt, this.renewAt, this.checkAt)
  }

  /** Renewing failed: again when a part of what is left has passed, but not in haste (RFC 6887 §11.2.1). */
  renewLater(now: Micros): void {
    this.renewAt = now + Math.max(this.#partOfRest(now), RENEWAL_SPACING)
  }

  checkLater(now: Micros): void {
    this.checkAt = now + CHECK_INTERVAL
  }

  /** A half to five eighths of what is left, so 1/2, 3/4, 7/8 … of the lifetime (RFC 6887 §11.2.1). */
  #partOfRest(now: Micros): Micros {
    const rest = this.expiresAt - now
    return rest === Infinity ? Infinity : Math.floor(rest * (0.5 + fraction(this.#rng) / 8))
  }
}

/** 0 to 1. */
export function fraction(rng: Rng): number {
  return rng.uint32() / 2 ** 32
}

/**
 * Nothing but asking tells that a router has restarted and forgotten us: its announcement is a multicast that may be
 * lost, and the renewal is an hour away.
 */
const CHECK_INTERVAL: Micros = 60 * SECOND
const RENEWAL_SPACING: Micros = 4 * SECOND
