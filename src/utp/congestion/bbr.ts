import { MILLISECOND, SECOND, type Micros } from '../../core/machine.ts'
import { INITIAL_PACKETS, type AckSample, type CongestionController } from './controller.ts'
import { WindowedMax } from './windowed-max.ts'

/** Doubles the rate every round trip: 4 ln 2 (draft-ietf-ccwg-bbr §2.4, BBRStartupPacingGain). */
const STARTUP_GAIN = 2.77
/** Empties within a round trip what startup has queued. */
const DRAIN_GAIN = 1 / STARTUP_GAIN
/** What may be in flight, in bandwidth-delay products: room for acknowledgements that come late or in clumps. */
const WINDOW_GAIN = 2
/** Probing for bandwidth: ask for more, drain what that queued, then cruise. One step a round trip. */
const CYCLE = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const
const UP = 0
const DOWN = 1
/** Where the queue is not ours, draining does not help. */
const MOST_DRAIN_ROUNDS = 4
/** Round trips that a bandwidth sample counts for: a cycle and some. */
const BANDWIDTH_ROUNDS = 10
/** The pipe is full when the bandwidth has not grown by a quarter for three rounds. */
const FULL_GROWTH = 1.25
const FULL_ROUNDS = 3
/** With so much lost (part of a round) that the bandwidth did not grow, one round is enough. */
const FULL_LOSS = 0.02
/** The queue overflows when a round loses so much and all its round trips were so much longer than the shortest. */
const OVERFLOW_LOSS = 0.02
const OVERFLOW_DELAY = 1 / 8
const LEAST_OVERFLOW_DELAY: Micros = 5 * MILLISECOND
/** Then less may be in flight, for a cycle. */
const OVERFLOW_GAIN = 1
/** While probing, so much more than cruising loses is the probe's own doing: a short queue. */
const PROBE_LOSS = 0.05
/** The smallest round trip holds for so long, then the flight is cut in half for a while, so that queues show it again. */
const MIN_RTT_LIFE: Micros = 10 * SECOND
const PROBE_RTT_TIME: Micros = 200 * MILLISECOND
const PROBE_RTT_GAIN = 0.5
/** Our own grain: packets leave and acknowledgements are read once per turn of an event loop. */
const GRAIN: Micros = 4 * MILLISECOND
/** Acknowledgements that wait longer somewhere get no credit. */
const MAX_AGGREGATION: Micros = 100 * MILLISECOND
const MIN_PACKETS = 4

type Phase = 'startup' | 'drain' | 'bandwidth' | 'rtt'

/**
 * BBR (Cardwell et al. 2016; draft-ietf-ccwg-bbr): measures the bandwidth of the path (the largest delivery rate of the
 * last rounds) and its round trip without queues (the smallest of the last seconds), sends at the one, and keeps about
 * one product of both in flight. Loss alone says nothing to it, so random loss costs only what is sent again; a deep
 * queue is filled by one product at most.
 *
 * From its later versions: half a flight instead of four packets when the round trip is measured anew, credit for
 * acknowledgements that come in clumps, and a probe for bandwidth ends as soon as it loses more than cruising does.
 * Left out: their bound by loss (2 % of a round), because radio links lose as much by themselves.
 */
export class Bbr implements CongestionController {
  readonly name = 'bbr'
  window: number
  pacingRate = Infinity
  #packet: number
  #phase: Phase = 'startup'
  /** Bytes per second. */
  readonly #bandwidth = new WindowedMax(BANDWIDTH_ROUNDS)
  readonly #aggregation = new WindowedMax(BANDWIDTH_ROUNDS)
  #minRtt: Micros = Infinity
  #minRttAt: Micros = 0
  #probeRttUntil: Micros = 0

  #round = 0
  #roundStart = false
  /** The round ends with the acknowledgement of what left after so much was delivered. */
  #roundEnd = 0
  #roundAcked = 0
  #roundLost = 0
  #roundRtt: Micros = Infinity
  #overflowUntil = 0
  /** Part of what was sent and lost while cruising, smoothed. */
  #usualLoss = 0

  #full = false
  #fullBandwidth = 0
  #fullRounds = 0

  #step = 0
  #stepSince: Micros = 0

  #clumpSince: Micros = 0
  #clumpAcked = 0

  /** `packetSize` is the payload of a full packet. */
  constructor(packetSize: number) {
    this.#packet = packetSize
    this.window = INITIAL_PACKETS * packetSize
  }

  onAck(sample: AckSample): void {
    this.#countRound(sample)
    if (sample.rate > 0 && (!sample.appLimited || sample.rate >= this.#bandwidth.value)) {
      this.#bandwidth.add(this.#round, sample.rate)
    }
    this.#measureClumps(sample)
    this.#checkFull(sample)
    this.#measureRtt(sample)
    this.#nextPhase(sample)
    this.#pace(sample)
    this.#open(sample)
  }

  onLoss(): void {
    // Single losses mean nothing; how many there are comes with the acknowledgements.
  }

  onTimeout(): void {
    // Silence: begin with one packet; what was measured still holds, and slow start leads back to it.
    this.window = this.#packet
  }

  onPacketSize(bytes: number): void {
    this.#packet = bytes
    this.window = Math.max(this.window, MIN_PACKETS * bytes)
  }

  reset(): void {
    this.window = INITIAL_PACKETS * this.#packet
    this.pacingRate = Infinity
    this.#phase = 'startup'
    this.#bandwidth.reset(this.#round, 0)
    this.#aggregation.reset(this.#round, 0)
    this.#minRtt = Infinity
    this.#full = false
    this.#fullBandwidth = this.#fullRounds = 0
    this.#usualLoss = this.#roundAcked = this.#roundLost = this.#overflowUntil = 0
    this.#roundRtt = Infinity
    this.#clumpSince = this.#clumpAcked = 0
  }

  #countRound(sample: AckSample): void {
    this.#roundStart = sample.priorDelivered >= this.#roundEnd
    if (this.#roundStart) {
      this.#round++
      this.#roundEnd = sample.delivered
      if (this.#phase === 'bandwidth' && this.#step > DOWN) {
        this.#usualLoss += (this.#lossRate() - this.#usualLoss) / 8
      }
    }
  }

  /** Part of the bytes of this round that were lost. */
  #lossRate(): number {
    return this.#roundLost === 0 ? 0 : this.#roundLost / (this.#roundLost + this.#roundAcked)
  }

  /** How much more than the bandwidth explains was acknowledged at once (draft-ietf-ccwg-bbr §5.5.9). */
  #measureClumps(sample: AckSample): void {
    const expected = (this.#bandwidth.value * (sample.now - this.#clumpSince)) / SECOND
    if (this.#clumpSince === 0 || this.#clumpAcked <= expected) {
      this.#clumpSince = sample.now
      this.#clumpAcked = sample.acked
      this.#aggregation.add(this.#round, Math.min(sample.acked, this.window))
      return
    }
    this.#clumpAcked += sample.acked
    const most = Math.min(this.window, (this.#bandwidth.value * MAX_AGGREGATION) / SECOND)
    this.#aggregation.add(this.#round, Math.min(this.#clumpAcked - expected, most))
  }

  #checkFull(sample: AckSample): void {
    this.#roundAcked += sample.acked
    this.#roundLost += sample.lost
    if (sample.rtt > 0 && sample.rtt < this.#roundRtt) this.#roundRtt = sample.rtt
    if (!this.#roundStart) return
    this.#checkOverflow()
    if (!this.#full && !sample.appLimited) {
      if (this.#bandwidth.value >= this.#fullBandwidth * FULL_GROWTH) {
        this.#fullBandwidth = this.#bandwidth.value
        this.#fullRounds = 0
      } else if (++this.#fullRounds >= FULL_ROUNDS || this.#lossRate() > FULL_LOSS) {
        this.#full = true
      }
    }
    this.#roundAcked = this.#roundLost = 0
    this.#roundRtt = Infinity
  }

  /** Loss together with a queue is not random: several flows have each taken their share for more than it is. */
  #checkOverflow(): void {
    if (this.#lossRate() < OVERFLOW_LOSS || this.#roundRtt === Infinity) return
    const queue = this.#roundRtt - this.#minRtt
    if (queue > Math.max(LEAST_OVERFLOW_DELAY, this.#minRtt * OVERFLOW_DELAY)) {
      this.#overflowUntil = this.#round + CYCLE.length
    }
  }

  #measureRtt({ now, rtt }: AckSample): void {
    if (rtt <= 0) return
    // A round trip within our own grain need not be probed: the queue it could hide is as short.
    if (rtt <= this.#minRtt || (rtt < GRAIN && now - this.#minRttAt > MIN_RTT_LIFE)) {
      this.#minRtt = rtt
      this.#minRttAt = now
    }
  }

  #nextPhase(sample: AckSample): void {
    const { now } = sample
    switch (this.#phase) {
      case 'startup':
        if (this.#full) this.#phase = 'drain'
        break
      case 'drain':
        if (sample.inFlight <= this.#drained()) this.#cruise(now)
        break
      case 'bandwidth':
        this.#nextStep(sample)
        break
      case 'rtt':
        if (this.#probeRttUntil === 0) {
          if (sample.inFlight <= this.#probeRttWindow() + this.#packet) {
            this.#probeRttUntil = now + Math.max(PROBE_RTT_TIME, this.#minRtt)
            this.#minRtt = sample.rtt > 0 ? sample.rtt : this.#minRtt
          }
        } else if (now >= this.#probeRttUntil) {
          this.#minRttAt = now
          if (this.#full) this.#cruise(now)
          else this.#phase = 'startup'
        }
    }
    if (this.#phase !== 'rtt' && this.#minRtt < Infinity && now - this.#minRttAt > MIN_RTT_LIFE) {
      this.#phase = 'rtt'
      this.#probeRttUntil = 0
    }
  }

  #nextStep(sample: AckSample): void {
    const { now } = sample
    if (!this.#stepOver(sample, now - this.#stepSince)) return
    this.#step = (this.#step + 1) % CYCLE.length
    this.#stepSince = now
  }

  #stepOver({ inFlight, smoothedRtt }: AckSample, since: Micros): boolean {
    const round = Math.max(this.#minRtt, Math.min(smoothedRtt, GRAIN))
    if (this.#step === UP) {
      return since > round && (inFlight >= this.#product(CYCLE[UP]) || this.#probeLosses())
    }
    if (this.#step === DOWN) return inFlight <= this.#drained() || since > MOST_DRAIN_ROUNDS * round
    return since > round
  }

  #probeLosses(): boolean {
    return this.#roundLost > 0 && this.#lossRate() > this.#usualLoss + PROBE_LOSS
  }

  /** Begins somewhere in the cycle, so that flows do not probe together; time is as good as randomness for that. */
  #cruise(now: Micros): void {
    this.#phase = 'bandwidth'
    this.#step = DOWN + 1 + (now % (CYCLE.length - DOWN - 1))
    this.#stepSince = now
  }

  #pace({ smoothedRtt, appLimited, windowLimited }: AckSample): void {
    const bandwidth = this.#bandwidth.value
    const fromWindow = smoothedRtt > 0 ? (STARTUP_GAIN * this.window * SECOND) / smoothedRtt : 0
    if (bandwidth === 0) {
      if (fromWindow > 0) this.pacingRate = fromWindow
      return
    }
    // What a connection with little to say has sent tells nothing of what the path can take: a window per round trip may
    // leave, as at the start (draft-ietf-ccwg-bbr §5.6.2).
    const saidLittle = appLimited && !windowLimited && !this.#full
    const rate = Math.max(this.#gain() * bandwidth, saidLittle ? fromWindow : 0)
    if (this.#full || rate > this.pacingRate || this.pacingRate === Infinity) this.pacingRate = rate
  }

  #gain(): number {
    switch (this.#phase) {
      case 'startup':
        return STARTUP_GAIN
      case 'drain':
        return DRAIN_GAIN
      case 'bandwidth':
        return CYCLE[this.#step] ?? 1
      case 'rtt':
        return 1
    }
  }

  #open(sample: AckSample): void {
    const least = MIN_PACKETS * this.#packet
    if (this.#phase === 'rtt') {
      this.window = Math.max(least, Math.min(this.window + sample.acked, this.#probeRttWindow()))
      return
    }
    if (this.#bandwidth.value === 0 || this.#minRtt === Infinity) {
      this.window += sample.acked
      return
    }
    const grain = (this.#bandwidth.value * GRAIN) / SECOND
    const overflow = this.#round < this.#overflowUntil
    const clumps = this.#full && !overflow ? this.#aggregation.value : 0
    const gain = overflow ? OVERFLOW_GAIN : WINDOW_GAIN
    const target = this.#product(gain) + Math.max(grain, clumps) + least
    const grown = this.window + sample.acked
    if (this.#full) this.window = Math.min(grown, target)
    else if (this.window < target || sample.delivered < INITIAL_PACKETS * this.#packet) this.window = grown
    this.window = Math.max(this.window, least)
  }

  #probeRttWindow(): number {
    return (
      this.#product(PROBE_RTT_GAIN) +
      MIN_PACKETS * this.#packet +
      (this.#bandwidth.value * GRAIN) / SECOND / 2
    )
  }

  /** With so many bytes in flight no queue of ours is left. */
  #drained(): number {
    return this.#product(1) + (this.#bandwidth.value * GRAIN) / SECOND
  }

  /** So many bandwidth-delay products, bytes. */
  #product(gain: number): number {
    if (this.#minRtt === Infinity) return INITIAL_PACKETS * this.#packet
    return (gain * this.#bandwidth.value * this.#minRtt) / SECOND
  }
}
