import { MILLISECOND, SECOND, type Micros } from '../../core/machine.ts'
import { INITIAL_PACKETS, type AckSample, type CongestionController } from './controller.ts'
import { DelayHistory } from './delay-history.ts'
import { DriftMeter } from './drift.ts'

/** BEP 29 "CCONTROL_TARGET", RFC 6817 §2.5: the queue we may stand in. */
const TARGET: Micros = 100 * MILLISECOND
/** RFC 6817 §2.5: with a GAIN of 1 the window grows no faster than TCP's, one packet a round trip. */
const GAIN = 1
/** RFC 6817 §2.4.2: MIN_CWND, in packets. */
const MIN_PACKETS = 2
/** RFC 6817 §2.4.1: ALLOWED_INCREASE, in packets beyond what is in flight. */
const ALLOWED_INCREASE = 1
/** Slow start ends when the queue holds this part of the target: what is in flight has not shown its delay yet. */
const SLOW_START_EXIT = 0.75
/** libutp follows a clock skew by this much at a time, µs. */
const LARGEST_SKEW = 10_000
/** Linux's pacing gains: the window must be able to double (slow start), or to be filled after a gap. */
const SLOW_START_PACE = 2
const STEADY_PACE = 1.25

/**
 * LEDBAT (BEP 29 "congestion control", RFC 6817): keeps the queue that it causes below 100 ms of one-way delay, and so
 * gives way to whatever else wants the path. For bulk in the background.
 */
export class Ledbat implements CongestionController {
  readonly name = 'ledbat'
  window: number
  #packet: number
  #slowStart = true
  #threshold = Infinity
  #smoothedRtt: Micros = 0
  #delays = new DelayHistory()
  #reverse = new DelayHistory()
  #drift = new DriftMeter()

  constructor(packetSize: number) {
    this.#packet = packetSize
    this.window = INITIAL_PACKETS * packetSize
  }

  get pacingRate(): number {
    if (this.#smoothedRtt === 0) return Infinity
    const gain = this.#slowStart ? SLOW_START_PACE : STEADY_PACE
    return (gain * this.window * SECOND) / this.#smoothedRtt
  }

  onSent(): void {
    // What is in flight tells LEDBAT nothing that the next acknowledgement does not.
  }

  onAck(sample: AckSample): void {
    this.#smoothedRtt = sample.smoothedRtt
    const queuing = this.#queuing(sample)
    if (sample.acked === 0) return
    if (this.#slowStart) {
      if (queuing > TARGET * SLOW_START_EXIT) {
        this.#slowStart = false
        this.#threshold = this.window
      } else if (sample.windowLimited && !sample.recovering) {
        // RFC 6817 §2.4.2 leaves slow start to the implementer; RFC 5681 §3.1.
        this.window += sample.acked
        if (this.window >= this.#threshold) this.#slowStart = false
      }
      return
    }
    const offTarget = (TARGET - queuing) / TARGET
    const before = this.window
    // At most one packet a round trip down as well as up would be slow to yield: RFC 6817 lets it fall in proportion.
    const change = (GAIN * Math.max(offTarget, -1) * sample.acked * this.#packet) / before
    if (change > 0 && (!sample.windowLimited || sample.recovering)) return
    const allowed = sample.inFlight + sample.acked + ALLOWED_INCREASE * this.#packet
    const grown = change > 0 ? Math.max(before, Math.min(before + change, allowed)) : before + change
    this.window = Math.max(grown, MIN_PACKETS * this.#packet)
  }

  onLoss(): void {
    // RFC 6817 §2.4.1: halve at most once a round trip; BEP 29 "packet loss".
    this.#slowStart = false
    this.window = Math.max(this.window / 2, MIN_PACKETS * this.#packet)
    this.#threshold = this.window
  }

  onTimeout(): void {
    // RFC 6817 §2.4.1 and RFC 5681 §3.1: one packet, then slow start to half of what was.
    this.#threshold = Math.max(this.window / 2, MIN_PACKETS * this.#packet)
    this.#slowStart = true
    this.window = this.#packet
  }

  onPacketSize(bytes: number): void {
    this.#packet = bytes
    this.window = Math.max(this.window, MIN_PACKETS * bytes)
  }

  reset(): void {
    this.window = INITIAL_PACKETS * this.#packet
    this.#slowStart = true
    this.#threshold = Infinity
    this.#smoothedRtt = 0
    this.#delays = new DelayHistory()
    this.#reverse = new DelayHistory()
    this.#drift = new DriftMeter()
  }

  /** The delay that the path's queues add, µs; 0 where the peer has not measured any. */
  #queuing(sample: AckSample): Micros {
    const delays = this.#delays
    if (sample.delay !== 0) {
      delays.add(sample.now, sample.delay)
      this.#drift.add(sample.now, sample.delay)
    }
    if (!delays.known) return 0
    this.#followSkew(sample)
    // No one-way delay exceeds the round trip: then the base is wrong (a clock was set), and it is the base that moves.
    if (sample.rtt > 0 && delays.queuing > sample.rtt) delays.shift(delays.queuing - sample.rtt)
    return delays.queuing + this.#drift.penalty
  }

  /**
   * A base that falls in the other direction, although no path gets shorter all the time, is the clocks drifting apart:
   * ours rises by as much and would count as queue (libutp's rule, with its bound of 10 ms at a time).
   */
  #followSkew(sample: AckSample): void {
    if (sample.reverseDelay === 0) return
    const reverse = this.#reverse
    const known = reverse.known
    const base = reverse.base
    reverse.add(sample.now, sample.reverseDelay)
    const fell = (base - reverse.base) | 0
    if (known && fell > 0 && fell <= LARGEST_SKEW) this.#delays.shift(fell)
  }
}
