import { MILLISECOND, SECOND, type Micros } from '../../core/machine.ts'
import { INITIAL_PACKETS, type AckSample, type CongestionController } from './controller.ts'

/** RFC 8312 §4.5 and §5: the window falls to this part of itself, and grows by C × t³ packets. */
const BETA = 0.7
const C = 0.4
/** RFC 8312 §4.2: what makes the average window of a Reno flow that also falls to BETA. */
const RENO_GAIN = (3 * (1 - BETA)) / (1 + BETA)
const MIN_PACKETS = 2
/** RFC 9406 §4.3 (HyStart++): how much the round trip may grow in slow start, and after how many samples it counts. */
const LEAST_GROWTH: Micros = 4 * MILLISECOND
const MOST_GROWTH: Micros = 16 * MILLISECOND
const GROWTH_PART = 1 / 8
const ROUND_SAMPLES = 8
/** RFC 9406 §4.3: slow start goes on at a quarter of its pace for so many rounds before it ends. */
const CAUTIOUS_PACE = 1 / 4
const CAUTIOUS_ROUNDS = 5
/** Linux's pacing gains: the window must be able to double (slow start), or to be filled after a gap. */
const SLOW_START_PACE = 2
const STEADY_PACE = 1.25

/**
 * CUBIC (RFC 8312), with the delay-based exit of slow start of HyStart++ (RFC 9406): shares a path with TCP as TCP does
 * with itself. Fills the queue; a path with random loss makes it slow.
 */
export class Cubic implements CongestionController {
  readonly name = 'cubic'
  window: number
  #packet: number
  #threshold = Infinity
  #smoothedRtt: Micros = 0

  /** RFC 8312 §4.1, in packets and seconds. */
  #windowMax = 0
  #k = 0
  #origin = 0
  /** RFC 8312 §4.2: the window that Reno would have. */
  #reno = 0
  /** When this stage of congestion avoidance began; −1 before its first acknowledgement. */
  #epoch: Micros = -1

  #roundEnd = 0
  #lastRoundRtt: Micros = Infinity
  #roundRtt: Micros = Infinity
  #roundSamples = 0
  /** Rounds left of cautious slow start; 0 while it is not cautious. */
  #cautious = 0
  #cautiousRtt: Micros = Infinity

  /** `packetSize` is the payload of a full packet. */
  constructor(packetSize: number) {
    this.#packet = packetSize
    this.window = INITIAL_PACKETS * packetSize
  }

  get pacingRate(): number {
    if (this.#smoothedRtt === 0) return Infinity
    const gain = this.window < this.#threshold ? SLOW_START_PACE : STEADY_PACE
    return (gain * this.window * SECOND) / this.#smoothedRtt
  }

  onAck(sample: AckSample): void {
    this.#smoothedRtt = sample.smoothedRtt
    if (this.window < this.#threshold) this.#slowStart(sample)
    else this.#avoid(sample)
  }

  onLoss(): void {
    const packets = this.window / this.#packet
    // RFC 8312 §4.6, fast convergence: leave room for others when this loss came earlier than the last.
    this.#windowMax = packets < this.#windowMax ? (packets * (1 + BETA)) / 2 : packets
    this.window = Math.max(this.window * BETA, MIN_PACKETS * this.#packet)
    this.#threshold = this.window
    this.#epoch = -1
    this.#cautious = 0
  }

  onTimeout(): void {
    // RFC 8312 §4.7: as RFC 5681 §3.1, with BETA for the threshold.
    this.onLoss()
    this.window = this.#packet
  }

  onPacketSize(bytes: number): void {
    this.#packet = bytes
    this.window = Math.max(this.window, MIN_PACKETS * bytes)
  }

  reset(): void {
    this.window = INITIAL_PACKETS * this.#packet
    this.#threshold = Infinity
    this.#smoothedRtt = this.#windowMax = 0
    this.#epoch = -1
    this.#roundRtt = this.#lastRoundRtt = this.#cautiousRtt = Infinity
    this.#roundSamples = this.#cautious = 0
  }

  #slowStart(sample: AckSample): void {
    if (sample.windowLimited && !sample.recovering) {
      this.window += this.#cautious > 0 ? sample.acked * CAUTIOUS_PACE : sample.acked
    }
    this.#watchDelay(sample)
  }

  /** RFC 9406 §4.2: ends slow start when the queue begins to grow, before it overflows. */
  #watchDelay(sample: AckSample): void {
    if (sample.priorDelivered >= this.#roundEnd) {
      this.#roundEnd = sample.delivered
      this.#lastRoundRtt = this.#roundRtt
      this.#roundRtt = Infinity
      this.#roundSamples = 0
      if (this.#cautious > 0 && --this.#cautious === 0) this.#threshold = this.window
    }
    if (sample.rtt <= 0) return
    this.#roundSamples++
    if (sample.rtt < this.#roundRtt) this.#roundRtt = sample.rtt
    if (this.#roundSamples < ROUND_SAMPLES || this.#lastRoundRtt === Infinity) return
    if (this.#cautious > 0) {
      // The delay went away again: it was not our queue.
      if (this.#roundRtt < this.#cautiousRtt) this.#cautious = 0
      return
    }
    const growth = Math.min(MOST_GROWTH, Math.max(LEAST_GROWTH, this.#lastRoundRtt * GROWTH_PART))
    if (this.#roundRtt >= this.#lastRoundRtt + growth) {
      this.#cautious = CAUTIOUS_ROUNDS
      this.#cautiousRtt = this.#roundRtt
    }
  }

  /** RFC 8312 §4.1–4.4. */
  #avoid(sample: AckSample): void {
    if (!sample.windowLimited || sample.recovering || sample.smoothedRtt === 0) return
    const packets = this.window / this.#packet
    if (this.#epoch < 0) {
      this.#epoch = sample.now
      this.#reno = packets
      if (packets < this.#windowMax) {
        this.#k = Math.cbrt((this.#windowMax - packets) / C)
        this.#origin = this.#windowMax
      } else {
        this.#k = 0
        this.#origin = packets
      }
    }
    const acked = sample.acked / this.#packet
    const time = (sample.now - this.#epoch + sample.smoothedRtt) / SECOND
    const cubic = this.#origin + C * (time - this.#k) ** 3
    this.#reno += (RENO_GAIN * acked) / packets
    // RFC 8312 §4.3: at most half as fast as slow start.
    const step = cubic > packets ? Math.min(((cubic - packets) / packets) * acked, acked / 2) : 0
    this.window = Math.max(packets + step, this.#reno) * this.#packet
  }
}
