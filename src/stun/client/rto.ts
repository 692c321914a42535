import { MILLISECOND, SECOND, type Micros } from '../../core/machine.ts'

/**
 * Retransmission timeouts by server (RFC 8489 §6.2.1): RFC 6298's estimate from the round trips seen, to the
 * millisecond, kept per IP address and forgotten when 10 minutes old.
 */
export class RtoCache {
  // Bounded by MAX_SERVERS, the one used longest ago goes first.
  readonly #servers = new Map<string, Estimate>()
  readonly #initial: Micros

  constructor(initial: Micros) {
    this.#initial = initial
  }

  /** The RTO to start a transaction with this server with. */
  rto(now: Micros, address: string): Micros {
    const known = this.#servers.get(address)
    if (known === undefined || now - known.at > STALE_AFTER) return this.#initial
    // RFC 6298 §2.3 with a clock granularity of 1 ms. The floor bounds how many requests a burst of loss costs.
    const rto = known.srtt + Math.max(MILLISECOND, 4 * known.rttvar)
    return Math.max(MINIMUM, Math.ceil(rto / MILLISECOND) * MILLISECOND)
  }

  /** Takes in a round trip of a transaction that was not retransmitted (Karn's algorithm). */
  measured(now: Micros, address: string, rtt: Micros): void {
    const known = this.#servers.get(address)
    this.#servers.delete(address)
    if (known === undefined || now - known.at > STALE_AFTER) {
      this.#servers.set(address, { srtt: rtt, rttvar: rtt / 2, at: now })
    } else {
      known.rttvar = 0.75 * known.rttvar + 0.25 * Math.abs(known.srtt - rtt)
      known.srtt = 0.875 * known.srtt + 0.125 * rtt
      known.at = now
      this.#servers.set(address, known)
    }
    for (const oldest of this.#servers.keys()) {
      if (this.#servers.size <= MAX_SERVERS) break
      this.#servers.delete(oldest)
    }
  }
}

interface Estimate {
  srtt: Micros
  rttvar: Micros
  at: Micros
}

const STALE_AFTER = 600 * SECOND
const MINIMUM = 100 * MILLISECOND
const MAX_SERVERS = 64
