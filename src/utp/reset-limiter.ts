import { samePath, SECOND, type Micros, type Path } from '../core/machine.ts'

/** A connection is told once in so long that it is gone: packets of its last flight would ask again. */
const ONCE_IN: Micros = SECOND
/** The last few that were told. */
const REMEMBERED = 64

/**
 * A token bucket: answers to strangers are rare, whoever they claim to be. And one RESET is enough for all packets of
 * one connection that are under way: libutp forgets to close a connection that it gets a second one for.
 */
export class ResetLimiter {
  readonly #perSecond: number
  #tokens: number
  #at: Micros = -1
  readonly #told: { path: Path; connectionId: number; at: Micros }[] = []
  #next = 0

  constructor(perSecond: number) {
    this.#perSecond = perSecond
    this.#tokens = perSecond
  }

  /** Whether a RESET may answer a packet that came by `path` with `connectionId`. */
  take(now: Micros, path: Path, connectionId: number): boolean {
    for (const one of this.#told) {
      if (one.connectionId === connectionId && now - one.at < ONCE_IN && samePath(one.path, path))
        return false
    }
    if (!this.#spend(now)) return false
    this.told(now, path, connectionId)
    return true
  }

  /** The peer whose packets come by `path` with `connectionId` was sent a RESET. */
  told(now: Micros, path: Path, connectionId: number): void {
    this.#told[this.#next] = { path, connectionId, at: now }
    this.#next = (this.#next + 1) % REMEMBERED
  }

  #spend(now: Micros): boolean {
    if (this.#at >= 0) {
      this.#tokens = Math.min(this.#perSecond, this.#tokens + ((now - this.#at) * this.#perSecond) / SECOND)
    }
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }
}
