import { SECOND, type Micros } from '../core/machine.ts'

/**
 * How fast the path delivers (draft-cheng-iccrg-delivery-rate-estimation): each packet remembers what had been delivered,
 * and when, at the moment it left. When it is acknowledged, the bytes delivered since then, over the longer of the times
 * that their sending and their acknowledging took, are one sample. A burst of acknowledgements that waited somewhere
 * cannot look like a fast path, since their packets did not leave in a burst; nor the other way round.
 */
export class DeliveryRate {
  /** Payload bytes delivered on this connection so far, selectively acknowledged ones included. */
  delivered = 0
  /** When `delivered` last grew, or sending began after a pause. */
  deliveredAt: Micros = 0
  /** When the packet left that was delivered last, or sending began after a pause. */
  firstSentAt: Micros = 0

  /** The sample of this acknowledgement: bytes per second, 0 when there is none. */
  rate = 0
  /** `delivered` when the newest of the acknowledged packets left; −1 when there was none. */
  priorDelivered = -1
  /** The application or the peer's window, not the path, held that packet's flight back: the path may be faster. */
  sampleAppLimited = false

  /** `delivered` of the last packet that left while there was too little to send; 0 when there was enough since. */
  appLimitedUntil = 0
  #priorAt: Micros = 0
  #sendElapsed: Micros = 0

  get appLimited(): boolean {
    return this.appLimitedUntil > 0
  }

  /** The first packet after a pause leaves: what nobody sent is not slowness of the path. */
  restart(now: Micros): void {
    this.deliveredAt = now
    this.firstSentAt = now
  }

  /** There is room in the window and nothing (more) may be sent. */
  markAppLimited(inFlight: number): void {
    this.appLimitedUntil = Math.max(1, this.delivered + inFlight)
  }

  begin(): void {
    this.rate = 0
    this.priorDelivered = -1
  }

  packetDelivered(
    now: Micros,
    size: number,
    delivered: number,
    deliveredAt: Micros,
    sentAt: Micros,
    firstSentAt: Micros,
    appLimited: boolean,
  ): void {
    this.delivered += size
    this.deliveredAt = now
    if (delivered < this.priorDelivered || (delivered === this.priorDelivered && sentAt < this.firstSentAt))
      return
    this.priorDelivered = delivered
    this.#priorAt = deliveredAt
    this.#sendElapsed = sentAt - firstSentAt
    this.firstSentAt = sentAt
    this.sampleAppLimited = appLimited
  }

  /** All of an acknowledgement is taken in. A sample shorter than a round trip is an ambiguous ack, and no sample. */
  finish(minRtt: Micros): void {
    if (this.delivered > this.appLimitedUntil) this.appLimitedUntil = 0
    if (this.priorDelivered < 0) return
    const interval = Math.max(this.#sendElapsed, this.deliveredAt - this.#priorAt)
    if (interval <= 0 || interval < minRtt) return
    this.rate = ((this.delivered - this.priorDelivered) * SECOND) / interval
  }
}
