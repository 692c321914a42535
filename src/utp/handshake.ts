import { SECOND, type Micros } from '../core/machine.ts'
import {
  CAPABILITIES_SIZE,
  EXTENSION_BITS,
  HEADER_SIZE,
  ST_SYN,
  writeCapabilities,
  writeHeader,
} from './packet.ts'
import { REORDER_LIMIT } from './receiver.ts'
import type { Scratch } from './scratch.ts'
import { T_CONFIRM, T_CONNECT, T_SYN, type Timers } from './timers.ts'

/** SYNs are sent 1, 2, 4, 8, 8, … seconds apart. */
const MAX_SYN_DOUBLINGS = 3
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
  #synTimes = 0
  #synSentAt: Micros = -1
  /** How often the third step was sent; −1 before the answer, and when it need not be repeated. */
  #confirmations = -1

  constructor(now: Micros, timers: Timers, sequence: number, connectTimeout: Micros) {
    this.#timers = timers
    this.#sequence = sequence
    timers.set(T_CONNECT, now + connectTimeout)
  }

  /** Whether `ack` is that of our SYN. */
  isAnsweredBy(ack: number): boolean {
    return this.#synTimes > 0 && ack === this.#sequence
  }

  /** T_SYN. */
  repeat(): void {
    this.#synDue = true
  }

  /** Another path, where no SYN was sent. */
  pathChanged(): void {
    this.#synTimes = 0
    this.#synDue = true
  }

  /** The SYN, if it is to be sent now. BEP 29: it alone carries the id that we receive with. */
  poll(now: Micros, scratch: Scratch, receiveId: number): Uint8Array | undefined {
    if (!this.#synDue) return undefined
    this.#synDue = false
    const data = scratch.cut(HEADER_SIZE + CAPABILITIES_SIZE)
    writeHeader(data, ST_SYN, EXTENSION_BITS, receiveId, this.#sequence)
    writeCapabilities(data, HEADER_SIZE, REORDER_LIMIT)
    this.#synSentAt = now
    // BEP 29 "timeouts".
    this.#timers.set(T_SYN, now + SECOND * 2 ** Math.min(this.#synTimes, MAX_SYN_DOUBLINGS))
    this.#synTimes++
    return data
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
}
