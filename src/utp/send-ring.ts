import type { Micros } from '../core/machine.ts'
import { DeliveryRate } from './delivery-rate.ts'
import { SEQUENCE_MASK } from './sequence.ts'

/** A packet is in flight, or lost and waiting to be sent again, or selectively acknowledged. */
export const IN_FLIGHT = 0
export const LOST = 1
export const SACKED = 2

const NONE = -1
/** A power of two, and a whole byte of bits. */
const FIRST_CAPACITY = 8
/** Columns of `#meta` for one packet. */
const SIZE = 0
const STATE = 1
const SENT_TIMES = 2
const NEXT = 3
const PREVIOUS = 4
const ORDER = 5
const APP_LIMITED = 6
const PLACE = 7
const STRIDE = 8
/** Columns of `#times` for one packet. */
const SENT_AT = 0
const DELIVERED = 1
const DELIVERED_AT = 2
const FIRST_SENT_AT = 3
const TIMES = 4

/**
 * The scoreboard: every packet sent and not yet cumulatively acknowledged, by sequence number, in typed arrays indexed
 * with `sequence & mask`. Bounded by the number of packets the peer puts back in order (at most 24,576).
 *
 * Packets in flight hang in a list in the order they were last sent, so that RACK (RFC 8985 §6.2) looks only at those it
 * marks; lost ones hang in a list in the order they were found lost. Both lists share the link columns.
 */
export class SendRing {
  /** The oldest packet not cumulatively acknowledged; equal to `next` when there is none. */
  first = 0
  /** The sequence number of the next new packet. */
  next = 0
  /** Payload bytes in flight: neither acknowledged in any way nor taken for lost. */
  inFlight = 0
  /** Packets in flight. */
  flying = 0
  sacked = 0
  lost = 0
  /** Payload bytes taken for lost and not sent again yet. */
  lostBytes = 0
  /** What the delivery rate is measured with: see delivery-rate.ts. */
  readonly rate = new DeliveryRate()
  /** Heads and tails of the two lists; −1 when empty. */
  oldestSent = NONE
  newestSent = NONE
  firstLost = NONE
  #lastLost = NONE
  /** Counts transmissions; wraps at 32 bits. */
  #transmissions = 0
  #mask = -1
  #times = new Float64Array(0)
  #meta = new Int32Array(0)
  /** One bit for each selectively acknowledged packet. */
  #sackedBits = new Uint8Array(0)

  /** Holds no packets; the next new one is `first`. */
  begin(first: number): void {
    // Each bit goes with its packet; some are left when a connection is given up.
    if (this.sacked > 0) this.#sackedBits.fill(0)
    this.first = this.next = first
    this.inFlight = this.flying = this.sacked = this.lost = this.lostBytes = 0
    this.oldestSent = this.newestSent = this.firstLost = this.#lastLost = NONE
  }

  /** Packets that there is memory for. */
  get capacity(): number {
    return this.#mask + 1
  }

  /** Packets not cumulatively acknowledged. */
  get count(): number {
    return (this.next - this.first) & SEQUENCE_MASK
  }

  /** Adds the packet with sequence number `next`, which is being sent now; `place` is where its bytes are (send-buffer.ts). */
  push(place: number, size: number, now: Micros): void {
    const sequence = this.next
    if (this.count > this.#mask) this.#grow()
    this.next = (sequence + 1) & SEQUENCE_MASK
    const slot = sequence & this.#mask
    const at = slot * STRIDE
    this.#meta[at + PLACE] = place
    this.#meta[at + SIZE] = size
    this.#meta[at + SENT_TIMES] = 1
    this.#fly(sequence, now)
  }

  /** Whether `sequence` was sent and is not cumulatively acknowledged. */
  holds(sequence: number): boolean {
    return ((sequence - this.first) & SEQUENCE_MASK) < this.count
  }

  place(sequence: number): number {
    return this.#meta[(sequence & this.#mask) * STRIDE + PLACE] as number
  }

  size(sequence: number): number {
    return this.#meta[(sequence & this.#mask) * STRIDE + SIZE] as number
  }

  state(sequence: number): number {
    return this.#meta[(sequence & this.#mask) * STRIDE + STATE] as number
  }

  sentAt(sequence: number): Micros {
    return this.#times[(sequence & this.#mask) * TIMES + SENT_AT] as number
  }

  sentTimes(sequence: number): number {
    return this.#meta[(sequence & this.#mask) * STRIDE + SENT_TIMES] as number
  }

  /** The place of its last transmission among all: many share a microsecond. Compare by 32-bit difference. */
  order(sequence: number): number {
    return this.#meta[(sequence & this.#mask) * STRIDE + ORDER] as number
  }

  /** The packet sent next after `sequence`, among those in flight; −1 at the end. */
  sentAfter(sequence: number): number {
    return this.#meta[(sequence & this.#mask) * STRIDE + NEXT] as number
  }

  /** A lost packet, or one in flight, goes out again. */
  sentAgain(sequence: number, now: Micros): void {
    this.#leave(sequence)
    const times = (sequence & this.#mask) * STRIDE + SENT_TIMES
    this.#meta[times] = (this.#meta[times] as number) + 1
    this.#fly(sequence, now)
  }

  markLost(sequence: number): void {
    this.#leave(sequence)
    const at = (sequence & this.#mask) * STRIDE
    this.#meta[at + STATE] = LOST
    this.#linkLost(sequence, at)
    this.lost++
    this.lostBytes += this.#meta[at + SIZE] as number
  }

  /** Lost packets leave in the order they were found lost; from now on the oldest first. */
  sortLost(): void {
    this.firstLost = this.#lastLost = NONE
    for (let sequence = this.first; sequence !== this.next; sequence = (sequence + 1) & SEQUENCE_MASK) {
      const at = (sequence & this.#mask) * STRIDE
      if (this.#meta[at + STATE] === LOST) this.#linkLost(sequence, at)
    }
  }

  /** Which of the eight packets from `sequence` on are selectively acknowledged, one bit each, the first lowest. */
  sackedBits(sequence: number): number {
    const slot = sequence & this.#mask
    const byte = slot >> 3
    const two =
      (this.#sackedBits[byte] as number) | ((this.#sackedBits[(byte + 1) & (this.#mask >> 3)] as number) << 8)
    return (two >> (slot & 7)) & 0xff
  }

  markSacked(sequence: number): void {
    this.#leave(sequence)
    const slot = sequence & this.#mask
    this.#sackedBits[slot >> 3] = (this.#sackedBits[slot >> 3] as number) | (1 << (slot & 7))
    this.#meta[slot * STRIDE + STATE] = SACKED
    this.sacked++
  }

  /** `sequence` was delivered just now: the rate is taken from the newest such packet. Before it leaves the ring. */
  measure(sequence: number, now: Micros): void {
    const slot = sequence & this.#mask
    const at = slot * TIMES
    this.rate.packetDelivered(
      now,
      this.#meta[slot * STRIDE + SIZE] as number,
      this.#times[at + DELIVERED] as number,
      this.#times[at + DELIVERED_AT] as number,
      this.#times[at + SENT_AT] as number,
      this.#times[at + FIRST_SENT_AT] as number,
      this.#meta[slot * STRIDE + APP_LIMITED] === 1,
    )
  }

  /** Takes `first` out: it is cumulatively acknowledged. */
  shift(): void {
    const sequence = this.first
    const slot = sequence & this.#mask
    this.#leave(sequence)
    this.#sackedBits[slot >> 3] = (this.#sackedBits[slot >> 3] as number) & ~(1 << (slot & 7))
    this.first = (sequence + 1) & SEQUENCE_MASK
  }

  /** Gives the memory back: {@link begin} is next. */
  release(): void {
    this.#mask = -1
    this.#times = new Float64Array(0)
    this.#meta = new Int32Array(0)
    this.#sackedBits = new Uint8Array(0)
  }

  #fly(sequence: number, now: Micros): void {
    const slot = sequence & this.#mask
    const at = slot * STRIDE
    const rate = this.rate
    if (this.flying === 0) rate.restart(now)
    const times = slot * TIMES
    this.#times[times + SENT_AT] = now
    this.#times[times + DELIVERED] = rate.delivered
    this.#times[times + DELIVERED_AT] = rate.deliveredAt
    this.#times[times + FIRST_SENT_AT] = rate.firstSentAt
    this.#meta[at + APP_LIMITED] = rate.appLimited ? 1 : 0
    this.#meta[at + STATE] = IN_FLIGHT
    this.#meta[at + ORDER] = this.#transmissions = (this.#transmissions + 1) | 0
    this.#meta[at + NEXT] = NONE
    this.#meta[at + PREVIOUS] = this.newestSent
    if (this.newestSent === NONE) this.oldestSent = sequence
    else this.#meta[(this.newestSent & this.#mask) * STRIDE + NEXT] = sequence
    this.newestSent = sequence
    this.inFlight += this.#meta[at + SIZE] as number
    this.flying++
  }

  #linkLost(sequence: number, at: number): void {
    this.#meta[at + NEXT] = NONE
    this.#meta[at + PREVIOUS] = this.#lastLost
    if (this.#lastLost === NONE) this.firstLost = sequence
    else this.#meta[(this.#lastLost & this.#mask) * STRIDE + NEXT] = sequence
    this.#lastLost = sequence
  }

  #leave(sequence: number): void {
    const at = (sequence & this.#mask) * STRIDE
    const state = this.#meta[at + STATE] as number
    if (state === SACKED) {
      this.sacked--
      return
    }
    const next = this.#meta[at + NEXT] as number
    const previous = this.#meta[at + PREVIOUS] as number
    if (next !== NONE) this.#meta[(next & this.#mask) * STRIDE + PREVIOUS] = previous
    if (previous !== NONE) this.#meta[(previous & this.#mask) * STRIDE + NEXT] = next
    if (state === LOST) {
      this.lost--
      this.lostBytes -= this.#meta[at + SIZE] as number
      if (previous === NONE) this.firstLost = next
      if (next === NONE) this.#lastLost = previous
    } else {
      this.inFlight -= this.#meta[at + SIZE] as number
      this.flying--
      if (previous === NONE) this.oldestSent = next
      if (next === NONE) this.newestSent = previous
    }
  }

  /** Links hold sequence numbers, not slots, so that growing moves columns without touching them. */
  #grow(): void {
    const capacity = this.#mask < 0 ? FIRST_CAPACITY : (this.#mask + 1) * 2
    const mask = capacity - 1
    const times = new Float64Array(capacity * TIMES)
    const meta = new Int32Array(capacity * STRIDE)
    const sackedBits = new Uint8Array(capacity >> 3)
    for (let sequence = this.first; sequence !== this.next; sequence = (sequence + 1) & SEQUENCE_MASK) {
      const from = sequence & this.#mask
      const to = sequence & mask
      for (let i = 0; i < TIMES; i++) times[to * TIMES + i] = this.#times[from * TIMES + i] as number
      if (this.#meta[from * STRIDE + STATE] === SACKED) {
        sackedBits[to >> 3] = (sackedBits[to >> 3] as number) | (1 << (to & 7))
      }
      for (let i = 0; i < STRIDE; i++) meta[to * STRIDE + i] = this.#meta[from * STRIDE + i] as number
    }
    this.#mask = mask
    this.#times = times
    this.#meta = meta
    this.#sackedBits = sackedBits
  }
}
