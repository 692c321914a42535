import { SECOND, type Micros } from '../core/machine.ts'
import {
  CAPABILITIES_SIZE,
  EXTENSION_BITS,
  HEADER_SIZE,
  ST_STATE,
  ST_SYN,
  writeCapabilities,
  writeHeader,
  type Packet,
} from './packet.ts'
import { REORDER_LIMIT } from './receiver.ts'
import type { Scratch } from './scratch.ts'
import type { Sender } from './sender.ts'
import { T_CONFIRM, T_CONNECT, T_SYN, type Timers } from './timers.ts'

/** What every path takes, relayed ones and those over IPv6 tunnels included. */
const MOST_WITH_SYN = 1_200
const HEAD = HEADER_SIZE + CAPABILITIES_SIZE
/** Payload of the SYN, and of the datagram behind it. */
const ROOM = MOST_WITH_SYN - HEAD
/** SYNs are sent 1, 2, 4, 8, 8, … seconds apart. */
const MAX_SYN_DOUBLINGS = 3
/** Datagrams that may wait for the answer to the SYN. */
const MAX_EARLY = 4
/** So many confirmations of a handshake that nobody answers; data or keep-alives do it later. */
const MAX_CONFIRMATIONS = 5

/**
 * The initiator's side of the handshake: the SYN until it is answered, then its third step, which is repeated until the
 * acceptor is heard, since that holds no connection before. A connection has it no longer than that.
 */
export class Handshake {
  readonly #timers: Timers
  readonly #sequence: number
  #synDue = true
  #hastened = false
  #synTimes = 0
  #synSentAt: Micros = -1
  /** How often the third step was sent; −1 before the answer, and when it need not be repeated. */
  #confirmations = -1
  /** Bytes that the SYN takes along, the same each time; −1: it waits for the first that are written. */
  #data: number
  /**
   * Bytes that leave in a datagram of their own right behind the SYN: a TLS ClientHello with a post-quantum key does not fit in
   * one. To the acceptor they are the first DATA after the SYN's.
   */
  #rest = 0
  #restDue = false
  #early: Uint8Array[] = []

  /** `withData`: the SYN waits for the first bytes to send, and takes them along. */
  constructor(now: Micros, timers: Timers, sequence: number, connectTimeout: Micros, withData: boolean) {
    this.#timers = timers
    this.#sequence = sequence
    this.#data = withData ? -1 : 0
    timers.set(T_CONNECT, now + connectTimeout)
  }

  /** Whether `ack` is that of our SYN, with the data that it took along or without. */
  isOfSyn(ack: number): boolean {
    return this.#synTimes > 0 && (ack === this.#sequence || this.hasData(ack))
  }

  /** Whether a STATE answers our SYN. */
  isAnsweredBy({ ack, reorderLimit }: Packet): boolean {
    // Of one of ours only the answer to the SYN tells capabilities: the number of any other STATE may be a later one.
    return this.isOfSyn(ack) && (ack === this.#sequence || reorderLimit > 0)
  }

  /** Whether `ack` says that the SYN's data has arrived, too. */
  hasData(ack: number): boolean {
    return this.#data > 0 && ack === ((this.#sequence + 1) & 0xffff)
  }

  /** Whether the acceptor has the SYN's data at least. */
  hasBegun(ack: number): boolean {
    return this.hasData(ack) || (this.#rest > 0 && ack === ((this.#sequence + 2) & 0xffff))
  }

  /**
   * Whether the acceptor has taken the SYN's data: then there is one connection at its end, whose number is the same by
   * whichever path the answer comes.
   */
  isTakenBy(packet: Packet): boolean {
    return packet.type === ST_STATE && this.hasData(packet.ack) && this.isAnsweredBy(packet)
  }

  /** What the acceptor said already, before its answer is here. */
  keep(datagram: Uint8Array): void {
    if (this.#early.length < MAX_EARLY) this.#early.push(datagram.slice())
  }

  takeEarly(): Uint8Array[] {
    const early = this.#early
    this.#early = []
    return early
  }

  /** Tells the sender what it need not send any more: the acceptor has taken the SYN's data. */
  handOver(now: Micros, sender: Sender): void {
    sender.arrivedWithSyn(this.#data)
    if (this.#rest > 0 && !this.#restDue) {
      sender.sentWithSyn(now, this.#rest, this.#synSentAt, this.#synTimes > 1)
    }
  }

  /** T_SYN. */
  repeat(): void {
    this.#synDue = true
    this.#hastened = false
  }

  /** The peer goes on already, and its answer is missing: once between two timeouts, as packets make no more packets. */
  hasten(): void {
    if (this.#hastened) return
    this.#hastened = this.#synDue = true
  }

  /** Another path, where no SYN was sent. */
  pathChanged(): void {
    this.#synTimes = 0
    this.#synDue = true
    this.#restDue = false
  }

  /** The SYN, if it is to be sent now, and what goes along. BEP 29: it alone carries the id that we receive with. */
  poll(now: Micros, scratch: Scratch, receiveId: number, sender: Sender): Uint8Array | undefined {
    if (this.#restDue) {
      this.#restDue = false
      return this.#build(scratch, receiveId, sender, 1)
    }
    if (!this.#synDue || (this.#data < 0 && sender.queued === 0)) return undefined
    this.#synDue = false
    if (this.#data < 0) {
      this.#data = Math.min(sender.queued, ROOM)
      this.#rest = Math.min(sender.queued - this.#data, ROOM)
    }
    this.#restDue = this.#rest > 0
    this.#synSentAt = now
    // BEP 29 "timeouts".
    this.#timers.set(T_SYN, now + SECOND * 2 ** Math.min(this.#synTimes, MAX_SYN_DOUBLINGS))
    this.#synTimes++
    return this.#build(scratch, receiveId, sender, 0)
  }

  /** The SYN is answered. @returns the round trip; 0 when it was sent more than once. */
  accepted(now: Micros): Micros {
    this.#timers.clear(T_SYN)
    this.#timers.clear(T_CONNECT)
    this.#confirmations = 0
    return this.#synTimes === 1 ? Math.max(1, now - this.#synSentAt) : 0
  }

  /** A packet leaves, which is the third step. `outstanding`: it is data, or some is, which is repeated by itself. */
  sent(now: Micros, timeout: Micros, outstanding: boolean): void {
    if (this.#confirmations < 0) return
    if (outstanding || this.#confirmations >= MAX_CONFIRMATIONS) this.#confirmations = -1
    else this.#timers.set(T_CONFIRM, now + timeout * 2 ** this.#confirmations++)
  }

  #build(scratch: Scratch, receiveId: number, sender: Sender, part: 0 | 1): Uint8Array {
    const size = part === 0 ? this.#data : this.#rest
    const data = scratch.cut(HEAD + size)
    writeHeader(data, ST_SYN, EXTENSION_BITS, receiveId, this.#sequence)
    writeCapabilities(data, HEADER_SIZE, REORDER_LIMIT, part)
    if (size > 0) sender.peek(data, HEAD, part * this.#data)
    return data
  }
}
