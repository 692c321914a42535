import type { Micros } from '../core/machine.ts'
import { Fragments } from './fragments.ts'
import { AckWriter, ackSize, NEAR_DISTANCE, ST_FIN, ST_STATE, writeHeader, type Packet } from './packet.ts'
import { ReceiveBuffer } from './receive-buffer.ts'
import { ReceiveWindow, type ReceiveBudget } from './receive-window.ts'
import { ReorderBuffer } from './reorder-buffer.ts'
import { sequenceDistance } from './sequence.ts'
import type { Scratch } from './scratch.ts'

/**
 * Packets that we put back in order: 35 MB of 1,500-byte packets, 1 Gbit/s over 200 ms and some. With half of what 16-bit
 * numbers can tell apart the oldest duplicate could not be told from the newest packet.
 */
export const REORDER_LIMIT = 24_576
/** RFC 5681 §4.2: acknowledge at least every second packet. */
const ACK_EVERY = 2
/** In bulk from our own kind, which paces, every eighth: after so many packets in order whose acknowledgements found company. */
const BULK_ACK_EVERY = 8
const BULK_AFTER = 128
/** In-order bytes that a connection may hold although the machine's budget is used up: nobody starves. */
const RESERVE = 16_384

/**
 * The receiving half of a connection: puts packets in order, hands their bytes out, and knows what to acknowledge.
 * Holds at most `limit` unread bytes and as many out of order.
 */
export class Receiver {
  /** The last sequence number received in order: `ack_nr`. */
  ack: number
  /** The peer's FIN and everything before it has come. */
  finished = false
  /** Packets that came since the last acknowledgement left. */
  unacknowledged = 0
  /** The acknowledgement is wanted at once: something is missing, came twice, or ended. */
  ackNow = false
  /** The peer is of our kind. */
  capable = false
  /** Packets since something was missing, or an acknowledgement waited for company in vain. */
  #streak = 0
  readonly #budget: ReceiveBudget
  #buffer = ReceiveBuffer.none
  #reorder = ReorderBuffer.none
  /** Made when the first piece of a packet comes. */
  #fragments: Fragments | undefined
  /** The sequence number of the peer's FIN (libutp's `eof_pkt`); −1 until it comes. */
  #eof = -1
  readonly #window: ReceiveWindow
  #advertised: number

  constructor(ack: number, limit: number, budget: ReceiveBudget) {
    this.ack = ack
    this.#budget = budget
    this.#window = new ReceiveWindow(limit, budget)
    this.#advertised = this.#window.size
  }

  /** Bytes in order that wait to be read. */
  get readable(): number {
    return this.#buffer.length
  }

  get ackDue(): boolean {
    const bulk = this.capable && this.#streak >= BULK_AFTER
    return this.ackNow || this.unacknowledged >= (bulk ? BULK_ACK_EVERY : ACK_EVERY)
  }

  /** An acknowledgement has waited long enough: the sender may be waiting for it. */
  ackWaited(): void {
    if (this.unacknowledged === 0) return
    this.#streak = 0
    this.ackNow = true
  }

  /** So many bytes came: the window follows (receive-window.ts). `rtt` is 0 while unknown. */
  tune(now: Micros, rtt: Micros, bytes: number): void {
    this.#window.tune(now, rtt, bytes, this.#buffer.length)
  }

  /** BEP 29 `wnd_size`: what we still have room for. */
  window(): number {
    const { size, roof } = this.#window
    const own = roof - this.#buffer.length - this.#reorder.bytes
    const all = this.#budget.limit - this.#budget.used
    // What we hold already is not on its way to the socket: it takes nothing of the share.
    const free = Math.min(own, all, size)
    return free > 0 ? free : 0
  }

  /** DATA or FIN. @returns whether anything new came in order. */
  handle(packet: Packet, bytes: Uint8Array): boolean {
    const { sequence } = packet
    const distance = sequenceDistance(sequence, this.ack)
    this.unacknowledged++
    this.#streak++
    if (distance <= 0) {
      // A duplicate: our acknowledgement was lost, or the peer is in a hurry.
      this.ackNow = true
      return false
    }
    // Far outside of any window: old, or invented. BEP 29: nothing has a greater number than the FIN.
    if (distance > REORDER_LIMIT || this.finished) return false
    if (this.#eof >= 0 && sequenceDistance(sequence, this.#eof) > 0) return false
    if (distance === 1 ? !this.#hasRoomInOrder() : !this.#hasRoom()) {
      // Dropped, and told so with the window: the peer's zero-window probe (RFC 9293 §3.8.6.1) wants an answer.
      this.ackNow = true
      return false
    }
    let payload = bytes
    let from = packet.payloadAt
    if (packet.fragmentTotal > 0) {
      const whole = this.#reorder.has(sequence, distance) ? undefined : this.#put(packet, bytes)
      if (whole === undefined) return false
      payload = whole
      from = 0
    }
    if (packet.type === ST_FIN && this.#eof < 0) this.#eof = sequence
    if (distance > 1) {
      // RFC 5681 §4.2: out of order, at once. What only follows a gap that the peer knows of may wait for company.
      this.#streak = 0
      if (!this.capable || distance !== this.#reorder.furthest + 1) this.ackNow = true
      if (!this.#reorder.has(sequence, distance)) {
        if (this.#reorder === ReorderBuffer.none) this.#reorder = ReorderBuffer.take()
        this.#reorder.put(this.ack, sequence, distance, payload, from)
        this.#budget.used += payload.length - from
      }
      return false
    }
    if (from < payload.length) {
      if (this.#buffer === ReceiveBuffer.none) this.#buffer = ReceiveBuffer.take()
      this.#buffer.push(payload, from)
      this.#budget.used += payload.length - from
    }
    this.#advance(sequence)
    if (this.#reorder.count > 0) this.#collect()
    return true
  }

  read(): Uint8Array | undefined {
    const bytes = this.#buffer.shift()
    if (bytes === undefined) return undefined
    this.#budget.used -= bytes.length
    if (this.#buffer.isQuiet) this.#emptied()
    return bytes
  }

  /** See {@link ReceiveBuffer.recycle}. */
  recycle(bytes: Uint8Array): void {
    this.#buffer.recycle(bytes)
  }

  /** Reading made so much room that the peer should hear of it (RFC 9293 §3.8.6.2.2: no silly windows). */
  get windowUpdateDue(): boolean {
    const { size } = this.#window
    if (this.finished || this.#advertised >= size / 2) return false
    return this.window() - this.#advertised >= Math.min(size / 4, 65_536)
  }

  /** A bare acknowledgement, built in `scratch`, with all it can tell selectively: far masks only for peers of our kind. */
  ackPacket(scratch: Scratch, connectionId: number, sequence: number, far: boolean): Uint8Array {
    const reorder = this.#reorder
    const near = reorder.maskLength()
    const first = far && near > 0 ? reorder.farthestMask() : 0
    const second = first > 0 ? reorder.middleMask() : 0
    const firstLength = reorder.lengthFrom(first)
    const secondLength = reorder.lengthFrom(second)
    const data = scratch.cut(ackSize(near, firstLength, secondLength))
    writeHeader(data, ST_STATE, 0, connectionId, sequence)
    if (near === 0) return data
    const chain = new AckWriter(data)
    reorder.writeMask(this.ack, NEAR_DISTANCE, data, chain.near(near), near)
    if (first > 0) reorder.writeMask(this.ack, first, data, chain.far(first, firstLength), firstLength)
    if (second > 0) reorder.writeMask(this.ack, second, data, chain.far(second, secondLength), secondLength)
    reorder.told()
    return data
  }

  get hasGap(): boolean {
    return this.#reorder.count > 0
  }

  /** A packet with our ack and `window` left. */
  acknowledged(window: number): void {
    this.#advertised = window
    this.unacknowledged = 0
    this.ackNow = false
  }

  release(): void {
    this.#budget.used -= this.#buffer.length + this.#reorder.bytes
    this.#buffer.clear()
    this.#emptied()
    this.#reorder = ReorderBuffer.none
    this.#fragments = undefined
  }

  /** Nothing has come for a while: gives back what the last burst left. */
  rest(): void {
    this.#buffer.rest()
    if (this.#buffer.isQuiet) this.#emptied()
    if (this.#fragments?.isEmpty === true) this.#fragments = undefined
  }

  #emptied(): void {
    ReceiveBuffer.giveBack(this.#buffer)
    this.#buffer = ReceiveBuffer.none
  }

  #put(piece: Packet, bytes: Uint8Array): Uint8Array | undefined {
    this.#fragments ??= new Fragments()
    return this.#fragments.add(piece, bytes)
  }

  #hasRoom(): boolean {
    return (
      this.#buffer.length + this.#reorder.bytes < this.#window.roof && this.#budget.used < this.#budget.limit
    )
  }

  /** What fills the gap is taken also when later packets fill the buffer: otherwise nothing would ever move again. */
  #hasRoomInOrder(): boolean {
    if (this.#buffer.length >= this.#window.roof) return false
    return this.#budget.used < this.#budget.limit || this.#buffer.length < RESERVE
  }

  #collect(): void {
    // The gap is closed, or moved: the peer repairs loss and should know at once.
    this.ackNow = true
    while (!this.finished) {
      const next = (this.ack + 1) & 0xffff
      const packet = this.#reorder.take(next)
      if (packet === undefined) break
      if (packet.length > 0) this.#buffer.push(packet, 0)
      this.#advance(next)
    }
    if (this.#reorder.count > 0) return
    ReorderBuffer.giveBack(this.#reorder)
    this.#reorder = ReorderBuffer.none
  }

  #advance(sequence: number): void {
    this.ack = sequence
    this.#reorder.advance(1)
    if (sequence !== this.#eof) return
    this.finished = true
    this.ackNow = true
    // What came with higher numbers was never part of the stream.
    this.#budget.used -= this.#reorder.bytes
    this.#reorder = ReorderBuffer.none
  }
}
