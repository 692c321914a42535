import type { Micros } from '../../core/machine.ts'

/**
 * What one acknowledgement (cumulative and selective parts together) told. One is filled again and again: copy what you
 * keep.
 */
export class AckSample {
  now: Micros = 0
  /** Payload bytes newly acknowledged. */
  acked = 0
  /** Payload bytes found lost since the acknowledgement before. */
  lost = 0
  /** Payload bytes in flight after it. */
  inFlight = 0
  /** Round-trip time of the newest packet it acknowledged, µs; 0 when none of them was sent only once. */
  rtt: Micros = 0
  smoothedRtt: Micros = 0
  /** Payload bytes delivered on this connection so far, and how many that were when the newest acknowledged packet left. */
  delivered = 0
  priorDelivered = 0
  /** Delivery rate over that packet's flight, bytes per second; 0 when it could not be measured. */
  rate = 0
  /** The application or the peer, not the window, held that flight back: the path may be faster than `rate`. */
  appLimited = false
  /**
   * The peer's measure of the one-way delay from us to it (`timestamp_difference_microseconds`), in 32 bits and off by
   * the unknown difference of the clocks; 0 when it has none yet.
   */
  delay = 0
  /** Our measure of the one-way delay from the peer to us, in the same form; 0 when there is none. */
  reverseDelay = 0
  /** The window, not the application or the peer, was what held data back since the last acknowledgement. */
  windowLimited = false
  /** Still repairing the last loss: nothing may be concluded about a larger window. */
  recovering = false
}

/**
 * Decides how much may be in flight and how fast it leaves. The connection tells it what happened and asks for `window`
 * and `pacingRate` before it sends; which one is used is the sender's own choice and invisible on the wire.
 */
export interface CongestionController {
  readonly name: CongestionName
  /** Payload bytes that may be in flight, at least one packet. */
  readonly window: number
  /** Bytes per second; Infinity sends all that the window allows at once. */
  readonly pacingRate: number
  onAck(sample: AckSample): void
  /** Packets were found lost: once for each loss event, that is at most once a round trip (RFC 6675 §5). */
  onLoss(now: Micros, inFlight: number): void
  /** The retransmission timeout ran out: all that was in flight is lost. */
  onTimeout(now: Micros): void
  /** The payload of a full packet changed. */
  onPacketSize(bytes: number): void
  /** Another path: everything learnt is void. */
  reset(now: Micros): void
}

/**
 * - `bbr`: measures the bandwidth and the round trip of the path and paces at that; random loss does not slow it.
 * - `cubic`: what TCP mostly does (RFC 8312): fills the queue until something is lost.
 * - `ledbat`: gives way to everything else (BEP 29, RFC 6817): for traffic that nobody waits for.
 */
export type CongestionName = 'bbr' | 'cubic' | 'ledbat'

/** RFC 6928: the window a connection begins with, in packets. */
export const INITIAL_PACKETS = 10
