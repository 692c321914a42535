import type { Micros } from '../core/machine.ts'
import { NEAR_DISTANCE, type Packet } from './packet.ts'
import { RttEstimator } from './rtt.ts'
import { IN_FLIGHT, LOST, SACKED, type SendRing } from './send-ring.ts'
import { SEQUENCE_MASK, sequenceDistance } from './sequence.ts'

/** BEP 29 "packet loss", RFC 5681 §3.2. */
const DUPLICATE_THRESHOLD = 3
/** libutp's masks have 32 bits but tell of 30 packets only. */
const LIBUTP_MASK_BITS = 30
/** Wider reordering windows are not worth waiting for (RFC 8985 §6.2 step 4). */
const MAX_REORDER_FACTOR = 8

/**
 * Finds lost packets: by time, as RACK does (RFC 8985 §6), among those that the selective acks speak of. A packet is lost
 * when one sent after it has arrived and it had a round trip and the reordering window to do so.
 */
export class LossDetector {
  /** Repairing a loss: further ones belong to the same event until all sent before it is acknowledged. */
  recovering = false
  /** The loss showed by a timeout: the window has fallen to one packet and must grow while the loss is repaired. */
  afterTimeout = false
  /** Of the acknowledgement being taken in: whether it told of any packet, and the round trip it measured (0: none). */
  anyDelivered = false
  rttSample: Micros = 0
  /** The peer tells of every packet, so that no bit means not received. */
  fullMasks = false
  /** The peer has told of packets beyond a missing one. */
  sackSeen = false
  readonly #ring: SendRing
  #rtt = new RttEstimator()
  /** Payload bytes found lost and not told yet. */
  #lostBytes = 0
  #recoveryEnd = 0
  #recoverySince: Micros = 0
  /** Of the packet sent last among those delivered: RACK.xmit_ts and RACK.end_seq in one, RACK.rtt. */
  #anyYet = false
  #newestOrder = 0
  #newestRtt: Micros = 0
  /** The highest sequence number delivered. */
  #furthest = 0
  /** The mask speaks of packets up to here. */
  #horizon = 0
  #duplicates = 0
  #newlyLost = 0
  #sampledSentAt: Micros = -1
  #repaired = false
  #pathSince: Micros = 0

  constructor(ring: SendRing) {
    this.#ring = ring
  }

  /** Nothing is known of the ring's packets, which are those of another connection now. */
  reset(rtt: RttEstimator): void {
    this.#rtt = rtt
    this.#furthest = (this.#ring.first - 1) & SEQUENCE_MASK
    this.recovering = this.afterTimeout = this.#anyYet = this.#repaired = false
    this.#duplicates = this.#newlyLost = this.#lostBytes = 0
  }

  /** A new acknowledgement; samples of packets sent before `pathSince` are not taken. */
  begin(pathSince: Micros): void {
    this.anyDelivered = false
    this.rttSample = 0
    this.#sampledSentAt = -1
    this.#pathSince = pathSince
    this.#horizon = (this.#ring.next - 1) & SEQUENCE_MASK
  }

  /** `sequence` is acknowledged; it may have been so already, selectively. */
  delivered(now: Micros, sequence: number): void {
    const ring = this.#ring
    this.anyDelivered = true
    this.#duplicates = 0
    const state = ring.state(sequence)
    if (state === SACKED) return
    ring.measure(sequence, now)
    const sentAt = ring.sentAt(sequence)
    const once = ring.sentTimes(sequence) === 1
    const rtt = now - sentAt
    if (state === LOST || (!once && rtt < this.#rtt.min / 2 && this.#rtt.smoothed > 0)) this.#spurious()
    if (!once) {
      this.#repaired = true
    } else if (state !== LOST) {
      if (sequenceDistance(sequence, this.#furthest) < 0) this.#rtt.reordering ||= 1
      // Karn's algorithm (RFC 6298 §3): only packets sent once. Of those the newest: the others waited for it.
      if (sentAt >= this.#sampledSentAt && sentAt >= this.#pathSince) {
        this.#sampledSentAt = sentAt
        this.rttSample = rtt < 1 ? 1 : rtt
      }
    }
    if (sequenceDistance(sequence, this.#furthest) > 0) this.#furthest = sequence
    // RFC 8985 §6.2 step 2: the ack of a packet sent again may be for its first copy.
    if (!once && rtt < this.#rtt.min) return
    const order = ring.order(sequence)
    if (!this.#anyYet || isAfter(order, this.#newestOrder)) {
      this.#anyYet = true
      this.#newestOrder = order
      this.#newestRtt = rtt
    }
  }

  /**
   * The cumulative part of the acknowledgement is taken in. Where it closed a gap, packets beyond that came long ago are
   * acknowledged only now (a mask tells of few): their age is no round trip.
   */
  endCumulative(): void {
    if (!this.#repaired) return
    this.#repaired = false
    this.rttSample = 0
  }

  selectiveAcks(now: Micros, packet: Packet, bytes: Uint8Array): void {
    this.sackSeen = true
    const { ack, sackLength } = packet
    this.#mask(now, ack, NEAR_DISTANCE, packet.sackAt, sackLength, bytes)
    for (let i = 0; i < packet.farMasks; i++) {
      const at = packet.farAt[i] as number
      this.#mask(now, ack, packet.farDistance[i] as number, at, packet.farLength[i] as number, bytes)
    }
    if (this.fullMasks) return
    const spoken = sackLength === 4 ? LIBUTP_MASK_BITS : sackLength * 8
    const horizon = (ack + NEAR_DISTANCE + spoken - 1) & SEQUENCE_MASK
    if (sequenceDistance(horizon, this.#horizon) < 0) this.#horizon = horizon
  }

  /** A mask of `length` bytes whose first bit lies `distance` beyond the ack. */
  #mask(now: Micros, ack: number, distance: number, at: number, length: number, bytes: Uint8Array): void {
    const ring = this.#ring
    const start = (ack + distance) & SEQUENCE_MASK
    const end = Math.min(length * 8, sequenceDistance(ring.next, start))
    // `first` itself cannot be selectively acknowledged: a mask begins after a packet that is missing.
    const skip = sequenceDistance((ring.first + 1) & SEQUENCE_MASK, start)
    for (let i = skip > 0 ? skip & ~7 : 0; i < end; i += 8) {
      let fresh = bytes[at + (i >> 3)] as number
      if (fresh === 0) continue
      if (end - i < 8) fresh &= (1 << (end - i)) - 1
      if (skip > i) fresh &= -1 << (skip - i)
      fresh &= ~ring.sackedBits((start + i) & SEQUENCE_MASK)
      for (; fresh !== 0; fresh &= fresh - 1) {
        const sequence = (start + i + 31 - Math.clz32(fresh & -fresh)) & SEQUENCE_MASK
        this.delivered(now, sequence)
        ring.markSacked(sequence)
      }
    }
  }

  /** BEP 29 "packet loss": for peers that tell nothing but the ack. */
  duplicateAck(): void {
    const ring = this.#ring
    if (this.fullMasks || ring.flying === 0 || ++this.#duplicates !== DUPLICATE_THRESHOLD) return
    if (!this.recovering && ring.state(ring.first) === IN_FLIGHT) this.#lose(ring.first)
  }

  /** The cumulative ack may have moved from `before`. */
  advance(before: number): void {
    const ring = this.#ring
    if (!this.recovering) return
    if (sequenceDistance(ring.first, this.#recoveryEnd) >= 0) {
      this.recovering = false
    } else if (!this.sackSeen && ring.first !== before && ring.state(ring.first) === IN_FLIGHT) {
      // RFC 6582 §3.2 step 3, a partial ack: the next packet was lost too.
      if (ring.sentAt(ring.first) < this.#recoverySince) this.#lose(ring.first)
    }
  }

  /** @returns when the next packet would be lost; Infinity when none is suspected. */
  detect(now: Micros): Micros {
    const ring = this.#ring
    if (!this.#anyYet) return Infinity
    const window = this.#reorderWindow()
    let sequence = ring.oldestSent
    while (sequence >= 0) {
      const sentAt = ring.sentAt(sequence)
      if (!isAfter(this.#newestOrder, ring.order(sequence))) return Infinity
      if (sequenceDistance(sequence, this.#horizon) > 0) return Infinity
      const deadline = sentAt + this.#newestRtt + window
      if (deadline > now) return deadline
      const next = ring.sentAfter(sequence)
      this.#lose(sequence)
      sequence = next
    }
    return Infinity
  }

  enterRecovery(now: Micros, afterTimeout: boolean): void {
    this.recovering = true
    this.afterTimeout = afterTimeout
    this.#recoveryEnd = this.#ring.next
    this.#recoverySince = now
  }

  /** How many packets were found lost since the last call. */
  takeLost(): number {
    const lost = this.#newlyLost
    this.#newlyLost = 0
    return lost
  }

  /** How many payload bytes were found lost since the last call. */
  takeLostBytes(): number {
    const bytes = this.#lostBytes
    this.#lostBytes = 0
    return bytes
  }

  /** Another path: what is in flight says nothing about it. */
  pathChanged(): void {
    this.recovering = this.#anyYet = false
    this.#duplicates = 0
  }

  #lose(sequence: number): void {
    this.#lostBytes += this.#ring.size(sequence)
    this.#ring.markLost(sequence)
    this.#newlyLost++
  }

  #spurious(): void {
    const rtt = this.#rtt
    rtt.reordering = Math.min(MAX_REORDER_FACTOR, Math.max(1, rtt.reordering) + 1)
  }

  /** RFC 8985 §6.2 step 4. */
  #reorderWindow(): Micros {
    const { reordering, smoothed, min } = this.#rtt
    if (reordering === 0 && (this.recovering || this.#ring.sacked >= DUPLICATE_THRESHOLD)) return 0
    if (smoothed === 0) return 0
    return Math.min((Math.max(1, reordering) * min) / 4, smoothed)
  }
}

function isAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0
}
