import type { Micros } from '../../core/machine.ts'

/**
 * What one acknowledgement (cumulative and selective parts together) told. One is filled again and again: copy what you
 * keep.
 */
export class AckSample {
  now: Micros = 0
  /** Payload bytes newly acknowledged. */
  acked = 0
  /** Payload bytes in flight after it. */
  inFlight = 0
  /** Round-trip time of the newest packet it acknowledged, µs; 0 when none of them was sent only once. */
  rtt: Micros = 0
  smoothedRtt: Micros = 0
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
  readonly name: string
  /** Payload bytes that may be in flight, at least one packet. */
  readonly window: number
  /** Bytes per second; Infinity sends all that the window allows at once. */
  readonly pacingRate: number
  /** A packet left (also when sent again); `inFlight` includes it. */
  onSent(now: Micros, bytes: number, inFlight: number): void
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

/** RFC 6928: the window a connection begins with, in packets. */
export const INITIAL_PACKETS = 10
