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

/** When each of a connection's timers is due; Infinity when it is not set. */
export class Timers {
  // No typed array: V8 puts those of more than 64 bytes outside of its heap, which takes several times their size.
  readonly #at: number[] = REASONS.map(() => Infinity)

  set(timer: number, at: Micros): void {
    this.#at[timer] = at
  }

  clear(timer: number): void {
    this.#at[timer] = Infinity
  }

  clearAll(): void {
    this.#at.fill(Infinity)
  }

  isSet(timer: number): boolean {
    return this.#at[timer] !== Infinity
  }

  /** True once, when the timer is due: it is cleared by asking. */
  expire(timer: number, now: Micros): boolean {
    if ((this.#at[timer] as number) > now) return false
    this.#at[timer] = Infinity
    return true
  }

  /** The timer that is due first. */
  earliest(): number {
    let first = 0
    for (let i = 1; i < REASONS.length; i++) {
      if ((this.#at[i] as number) < (this.#at[first] as number)) first = i
    }
    return first
  }

  at(timer: number): Micros {
    return this.#at[timer] as number
  }
}

export function timerReason(timer: number): string {
  return REASONS[timer] ?? ''
}
