import { MILLISECOND, SECOND, type Micros } from '../core/machine.ts'

/** BEP 29 "timeouts": "the minimum timeout for a packet is 1/2 second". Tail-loss probes make up for it. */
const MIN_RTO: Micros = 500 * MILLISECOND
/** BEP 29 "timeouts", RFC 6298 §2.1. */
const INITIAL_RTO: Micros = SECOND
/** RFC 6298 §2.5 wants 60 s; a pipe whose path comes back, or whose peer is gone, should notice sooner (liveness.ts). */
const MAX_RTO: Micros = 3 * SECOND
/** Two delays that make more are no round trip. */
const MOST_ONE_WAYS: Micros = SECOND
/** A part of what a larger sum of delays adds to the smallest one. */
const FORGETTING = 4_096

/** Smoothed round-trip time and the retransmission timeout made from it (RFC 6298; BEP 29 "timeouts"). */
export class RttEstimator {
  /** Microseconds; 0 until the first sample. */
  smoothed = 0
  variance = 0
  /** Microseconds; the smallest sample on this path. Infinity until the first. */
  min = Infinity
  /** How far the path puts packets out of order, in quarters of {@link min} (RFC 8985 §6.2 step 4); 0 until it did. */
  reordering = 0
  /** By the timestamps of both sides, for who has sent nothing that would be acknowledged; 0 until known. */
  #byTimestamps = 0
  #backoff = 1

  /** Only for packets sent once: Karn's algorithm (RFC 6298 §3). */
  sample(rtt: Micros): void {
    const value = rtt < 1 ? 1 : rtt
    if (value < this.min) this.min = value
    if (this.smoothed === 0) {
      this.smoothed = value
      this.variance = value / 2
    } else {
      this.variance += (Math.abs(this.smoothed - value) - this.variance) / 4
      this.smoothed += (value - this.smoothed) / 8
    }
  }

  /**
   * `there` is the peer's measure of the one-way delay from us to it, `back` ours of the other way (BEP 29
   * "timestamp_difference_microseconds"): each is off by the difference of the clocks, but their sum is not. The smallest
   * counts, and is forgotten slowly. A peer can invent it, as it can delay its acknowledgements.
   */
  oneWayDelays(there: number, back: number): void {
    if (there === 0 || back === 0) return
    const rtt = (there + back) >>> 0
    if (rtt > MOST_ONE_WAYS) return
    const known = this.#byTimestamps
    this.#byTimestamps = known === 0 || rtt < known ? Math.max(1, rtt) : known + (rtt - known) / FORGETTING
  }

  /** How long a round trip takes, for the receiving half; 0 while nobody knows. */
  get estimate(): Micros {
    return this.smoothed > 0 ? this.smoothed : this.#byTimestamps
  }

  /** RFC 6298 §2.3 and §5.5, with the bounds above. */
  get timeout(): Micros {
    const base =
      this.smoothed === 0 ? INITIAL_RTO : Math.max(MIN_RTO, Math.round(this.smoothed + 4 * this.variance))
    return Math.min(base * this.#backoff, Math.max(MAX_RTO, base))
  }

  /** RFC 6298 §5.5: doubled with every timeout in a row. */
  backOff(): void {
    if (this.timeout < MAX_RTO) this.#backoff *= 2
  }

  /** The peer acknowledged something new: the path is alive. */
  resetBackoff(): void {
    this.#backoff = 1
  }

  /** Another path: what was measured says nothing about it. */
  reset(): void {
    this.smoothed = 0
    this.variance = 0
    this.min = Infinity
    this.reordering = 0
    this.#byTimestamps = 0
    this.#backoff = 1
  }
}
