import type { Micros } from '../core/machine.ts'

/**
 * All that a connection ever waits for. The text is the `reason` of the machine's deadline.
 */
const REASONS = [
  // SYN unanswered: send it again, twice as late each time.
  'syn retransmission',
  // The whole attempt has taken `connectTimeout`: give up.
  'connect timeout',
  // The acceptor holds no connection until it hears from us again; repeat that until we hear from it.
  'handshake confirmation',
  // Nothing new was acknowledged for a retransmission timeout (RFC 6298 §5): all in flight is lost.
  'retransmission timeout',
  // The last packets of a burst are unacknowledged: probe, so that loss shows without the timeout (RFC 8985 §7).
  'tail loss probe',
  // A packet sent earlier than one that arrived is late: lost when its reordering window ends (RFC 8985 §6.2).
  'reordering window',
  // The peer's window is closed: see whether the update that opened it was lost (RFC 9293 §3.8.6.1).
  'zero window probe',
  // The pacer lets the next packet go.
  'pacing',
  // An acknowledgement that waits for company (RFC 5681 §4.2).
  'delayed ack',
  // Keep the NAT mapping open (RFC 4787 §4.3) and the peer's idle timer quiet.
  'keep-alive',
  // Nothing came from the peer for `idleTimeout`: it is gone.
  'idle timeout',
  // The path may have grown since: look for a larger datagram again (RFC 8899 §5.1.1, PMTU_RAISE_TIMER).
  'path mtu',
  // Ended on both sides; kept only to acknowledge the peer's last FIN again if our answer was lost.
  'linger',
] as const

export const T_SYN = 0
export const T_CONNECT = 1
export const T_CONFIRM = 2
export const T_RETRANSMIT = 3
export const T_TAIL_PROBE = 4
export const T_REORDER = 5
export const T_ZERO_WINDOW = 6
export const T_PACING = 7
export const T_ACK = 8
export const T_KEEP_ALIVE = 9
export const T_IDLE = 10
export const T_PATH_MTU = 11
export const T_LINGER = 12

/** Due times of all timers, when none is set: nothing is written to it. */
const NONE: readonly Micros[] = Array.from(REASONS, () => Infinity)
/** Such arrays that were given back, with nothing set, for whichever connection is busy next. */
const spare: Micros[][] = []
const MOST_SPARE = 64

/**
 * When each of a connection's timers is due; Infinity when it is not set. The two that an idle connection has lie apart,
 * so that it needs no array for the others.
 */
export class Timers {
  #keepAlive: Micros = Infinity
  #idle: Micros = Infinity
  // No typed array: V8 puts those of more than 64 bytes outside of its heap, which takes several times their size.
  #at = NONE as Micros[]
  /** How many are set in `#at`. */
  #count = 0

  set(timer: number, at: Micros): void {
    if (timer === T_KEEP_ALIVE) this.#keepAlive = at
    else if (timer === T_IDLE) this.#idle = at
    else {
      if (this.#count === 0) this.#at = spare.pop() ?? NONE.slice()
      if (this.#at[timer] === Infinity) this.#count++
      this.#at[timer] = at
    }
  }

  clear(timer: number): void {
    if (timer === T_KEEP_ALIVE) this.#keepAlive = Infinity
    else if (timer === T_IDLE) this.#idle = Infinity
    else if (this.#at[timer] !== Infinity) {
      this.#at[timer] = Infinity
      if (--this.#count > 0) return
      if (spare.length < MOST_SPARE) spare.push(this.#at)
      this.#at = NONE as Micros[]
    }
  }

  clearAll(): void {
    for (let timer = 0; timer < REASONS.length; timer++) this.clear(timer)
  }

  isSet(timer: number): boolean {
    return this.at(timer) !== Infinity
  }

  /** True once, when the timer is due: it is cleared by asking. */
  expire(timer: number, now: Micros): boolean {
    if (this.at(timer) > now) return false
    this.clear(timer)
    return true
  }

  /** The timer that is due first. */
  earliest(): number {
    let first = this.#keepAlive < this.#idle ? T_KEEP_ALIVE : T_IDLE
    if (this.#count === 0) return first
    let at = this.at(first)
    for (let timer = 0; timer < REASONS.length; timer++) {
      const due = this.#at[timer] as number
      if (due >= at) continue
      first = timer
      at = due
    }
    return first
  }

  at(timer: number): Micros {
    if (timer === T_KEEP_ALIVE) return this.#keepAlive
    return timer === T_IDLE ? this.#idle : (this.#at[timer] as number)
  }
}

export function timerReason(timer: number): string {
  return REASONS[timer] ?? ''
}
