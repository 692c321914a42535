import { SECOND, type Micros } from '../core/machine.ts'
import type { ConnectionSettings } from './options.ts'
import { T_IDLE, T_KEEP_ALIVE, type Timers } from './timers.ts'

/**
 * A peer silent for so long, and for so many retransmission timeouts in a row, is gone. Timeouts come 0.5, 1, 2 and then
 * 3 seconds apart, so that seven of our packets or their answers must have been lost: one in a thousand outages of this
 * length on a path that loses a fifth.
 */
const GIVE_UP_AFTER: Micros = 15 * SECOND
const GIVE_UP_TIMEOUTS = 5
/** A path is not given up for another one sooner, whoever seems to speak there. */
const SILENT_AFTER: Micros = SECOND
/**
 * Who has only received may be silent no longer than this when the data stops: its address may have changed, and the
 * sender would look for it at the old one until it gives up.
 */
const FIRST_KEEP_ALIVE: Micros = 5 * SECOND
/** Before an idle connection is given up its peer is asked, for at most so long, so many times. */
const ASKING: Micros = 15 * SECOND
const QUESTIONS = 6

/** Whether the peer is still there, and what must be sent so that both sides, and the NATs between, know. */
export class Liveness {
  #lastHeard: Micros
  #lastSent: Micros
  readonly #timers: Timers
  readonly #settings: ConnectionSettings
  /** Data came since the last keep-alive. */
  #receiving = false

  constructor(now: Micros, timers: Timers, settings: ConnectionSettings) {
    this.#lastHeard = this.#lastSent = now
    this.#timers = timers
    this.#settings = settings
  }

  /** The connection is open: watch it. */
  start(now: Micros): void {
    const { idleTimeout, keepAliveInterval } = this.#settings
    if (idleTimeout !== Infinity) this.#timers.set(T_IDLE, now + idleTimeout - this.#asking)
    if (keepAliveInterval !== Infinity) this.#timers.set(T_KEEP_ALIVE, now + keepAliveInterval)
  }

  /** `data`: not a bare acknowledgement. */
  heard(now: Micros, data: boolean): void {
    this.#lastHeard = now
    if (!data || this.#receiving) return
    const { keepAliveInterval } = this.#settings
    if (keepAliveInterval === Infinity) return
    this.#receiving = true
    this.#timers.set(T_KEEP_ALIVE, now + Math.min(FIRST_KEEP_ALIVE, keepAliveInterval))
  }

  sent(now: Micros): void {
    this.#lastSent = now
  }

  /** Nothing has come for as long as no two packets of a live peer are apart while it has something to say. */
  isSilent(now: Micros): boolean {
    return now - this.#lastHeard >= SILENT_AFTER
  }

  /** With data outstanding: after `timeouts` retransmission timeouts in a row. */
  isGone(now: Micros, timeouts: number): boolean {
    return timeouts >= GIVE_UP_TIMEOUTS && now - this.#lastHeard >= GIVE_UP_AFTER
  }

  /** T_IDLE: whether the peer is gone, should be asked whether it is, or was heard meanwhile. */
  idle(now: Micros): 'gone' | 'ask' | 'heard' {
    const { idleTimeout } = this.#settings
    const silent = now - this.#lastHeard
    if (silent >= idleTimeout) return 'gone'
    const askFrom = idleTimeout - this.#asking
    if (silent < askFrom) {
      this.#timers.set(T_IDLE, this.#lastHeard + askFrom)
      return 'heard'
    }
    this.#timers.set(T_IDLE, Math.min(this.#lastHeard + idleTimeout, now + this.#asking / QUESTIONS))
    return 'ask'
  }

  /** T_KEEP_ALIVE: whether to send something. */
  keepAlive(now: Micros): boolean {
    const { keepAliveInterval } = this.#settings
    const interval = this.#receiving ? Math.min(FIRST_KEEP_ALIVE, keepAliveInterval) : keepAliveInterval
    const at = this.#lastSent + interval
    if (at > now) {
      this.#timers.set(T_KEEP_ALIVE, at)
      return false
    }
    this.#receiving = false
    this.#timers.set(T_KEEP_ALIVE, now + keepAliveInterval)
    return true
  }

  /** For how long the peer is asked before it is given up. */
  get #asking(): Micros {
    return Math.min(ASKING, this.#settings.idleTimeout / 2)
  }
}
