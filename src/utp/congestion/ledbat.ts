import { MILLISECOND, SECOND, type Micros } from '../../core/machine.ts'
import { INITIAL_PACKETS, type AckSample, type CongestionController } from './controller.ts'
import { DelayHistory } from './delay-history.ts'
import { DriftMeter } from './drift.ts'

/**
 * RFC 6817 §2.5: the queue we may stand in, 100 ms at most (BEP 29 "CCONTROL_TARGET" takes all of them). A controller
 * that keeps queues short itself, as BBR does, would take a LEDBAT of 100 ms for a thinner path, and give way to it.
 */
const TARGET: Micros = 25 * MILLISECOND
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

/** LEDBAT++ §4.2: the window falls by this part of itself for each target that the queue is too long, at most by half. */
const DECREASE = 1
/** LEDBAT++ §4.4: how long the window stays small, in round trips, and how often: nine times as long as it cost. */
const SLOWDOWN_ROUNDS = 2
const SLOWDOWN_PAUSE = 9

/**
 * LEDBAT (BEP 29 "congestion control", RFC 6817): keeps the queue that it causes below 25 ms of one-way delay, and so
 * gives way to whatever else wants the path. For bulk in the background.
 *
 * Two things are taken from LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus), because plain LEDBAT gives all to the flow that
 * came last, which takes the queue of the others for the base: the window falls in proportion to itself, and now and then
 * it shrinks to two packets for two round trips, so that the queue drains and everybody sees the true base.
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
  /** When the next slowdown begins; while one goes on, when this one began. */
  #slowdownAt: Micros = Infinity
  /** Until when the window stays small; 0 when no slowdown goes on. */
  #slowUntil: Micros = 0

  constructor(packetSize: number) {
    this.#packet = packetSize
    this.window = INITIAL_PACKETS * packetSize
  }

  get pacingRate(): number {
    if (this.#smoothedRtt === 0) return Infinity
    const gain = this.#slowStart ? SLOW_START_PACE : STEADY_PACE
    return (gain * this.window * SECOND) / this.#smoothedRtt
  }

  onAck(sample: AckSample): void {
    this.#smoothedRtt = sample.smoothedRtt
    const queuing = this.#queuing(sample)
    if (sample.acked === 0 || sample.now < this.#slowUntil) return
    if (this.#slowStart) this.#grow(sample, queuing)
    else if (sample.now >= this.#slowdownAt && sample.windowLimited) this.#slowDown(sample.now)
    else this.#follow(sample, queuing)
  }

  onLoss(now: Micros): void {
    // RFC 6817 §2.4.1: halve at most once a round trip; BEP 29 "packet loss".
    this.window = Math.max(this.window / 2, MIN_PACKETS * this.#packet)
    this.#threshold = this.window
    this.#leaveSlowStart(now)
  }

  onTimeout(now: Micros): void {
    // RFC 6817 §2.4.1 and RFC 5681 §3.1: one packet, then slow start to half of what was.
    this.#threshold = Math.max(this.window / 2, MIN_PACKETS * this.#packet)
    this.#leaveSlowStart(now)
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
    this.#slowdownAt = Infinity
    this.#slowUntil = 0
    this.#delays = new DelayHistory()
    this.#reverse = new DelayHistory()
    this.#drift = new DriftMeter()
  }

  /** RFC 6817 §2.4.2 leaves slow start to the implementer; RFC 5681 §3.1. */
  #grow(sample: AckSample, queuing: Micros): void {
    if (queuing > TARGET * SLOW_START_EXIT) {
      // The packets that met this queue left when the window was half as large.
      this.window = Math.max(this.window / 2, MIN_PACKETS * this.#packet)
      this.#leaveSlowStart(sample.now)
    } else if (sample.windowLimited && !sample.recovering) {
      this.window += sample.acked
      if (this.window >= this.#threshold) this.#leaveSlowStart(sample.now)
    }
  }

  /** RFC 6817 §2.4.2, with the decrease of LEDBAT++ §4.2. */
  #follow(sample: AckSample, queuing: Micros): void {
    const { window } = this
    const offTarget = (TARGET - queuing) / TARGET
    if (offTarget < 0) {
      const fall = Math.max(DECREASE * offTarget, -0.5) * sample.acked
      this.window = Math.max(window + fall, MIN_PACKETS * this.#packet)
    } else if (sample.windowLimited && !sample.recovering) {
      const allowed = sample.inFlight + sample.acked + ALLOWED_INCREASE * this.#packet
      const grown = window + (GAIN * offTarget * sample.acked * this.#packet) / window
      this.window = Math.max(window, Math.min(grown, allowed))
    }
  }

  #slowDown(now: Micros): void {
    this.#slowdownAt = now
    this.#slowUntil = now + SLOWDOWN_ROUNDS * this.#smoothedRtt
    this.#threshold = this.window
    this.#slowStart = true
    this.window = MIN_PACKETS * this.#packet
  }

  /** Also the end of a slowdown, whose length decides when the next one comes. */
  #leaveSlowStart(now: Micros): void {
    this.#slowStart = false
    this.#slowdownAt =
      this.#slowUntil > 0
        ? now + SLOWDOWN_PAUSE * (now - this.#slowdownAt)
        : Math.max(
            now + SLOWDOWN_ROUNDS * this.#smoothedRtt,
            this.#slowdownAt < Infinity ? this.#slowdownAt : 0,
          )
    this.#slowUntil = 0
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
