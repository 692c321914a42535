import { samePath, SECOND, type Micros, type Path } from '../core/machine.ts'

/** An initiator that answers at all does so within its own retransmissions. */
const LIFETIME: Micros = 30 * SECOND

/** All that is kept of a SYN until its sender shows that it receives our answers. */
export interface HalfOpen {
  readonly path: Path
  /** The SYN's connection id: where we send to; the initiator uses the next one. */
  readonly connectionId: number
  /** The SYN's sequence number. */
  readonly sequence: number
  /** The one we answered with: the initiator's acks prove that it saw it. */
  readonly ours: number
  readonly reorderLimit: number
  readonly since: Micros
  /** When its initiator sent it, by its clock. */
  readonly timestamp: number
  /** Its data was taken, and the connection is there: this is kept to answer the SYN again until the initiator is heard. */
  readonly withData: boolean
}

/**
 * Handshakes in waiting, oldest first. Bounded by `maxHalfOpen`: the oldest makes room, so that a flood of SYNs from
 * invented addresses costs a fixed amount of memory, and a real initiator needs to be back only within the time that as
 * many SYNs take to come.
 */
export class HalfOpenTable {
  readonly #bound: number
  readonly #entries = new Map<string, HalfOpen>()
  /** How many of the entries have a connection id, and which one it is while it is the only one. */
  readonly #byId = new Map<number, { count: number; only: HalfOpen | undefined }>()

  constructor(bound: number) {
    this.#bound = bound
  }

  get size(): number {
    return this.#entries.size
  }

  find(now: Micros, path: Path, connectionId: number): HalfOpen | undefined {
    const entry = this.#entries.get(keyOf(path, connectionId))
    // The key does not tell two carriers apart; of their handshakes the later one is kept.
    if (entry === undefined || !samePath(entry.path, path)) return undefined
    if (now - entry.since < LIFETIME) return entry
    this.remove(entry)
    return undefined
  }

  /**
   * The handshake of that id whichever path it began on, if there is only one: with several, one guessed number would have
   * as many chances to be right.
   */
  findOnly(now: Micros, connectionId: number): HalfOpen | undefined {
    const only = this.#byId.get(connectionId)?.only
    return only === undefined ? undefined : this.find(now, only.path, connectionId)
  }

  add(entry: HalfOpen): void {
    const before = this.#entries.get(keyOf(entry.path, entry.connectionId))
    if (before !== undefined) this.remove(before)
    this.#entries.set(keyOf(entry.path, entry.connectionId), entry)
    const same = this.#byId.get(entry.connectionId)
    this.#byId.set(entry.connectionId, {
      count: (same?.count ?? 0) + 1,
      only: same === undefined ? entry : undefined,
    })
    if (this.#entries.size > this.#bound) {
      for (const oldest of this.#entries.values()) {
        this.remove(oldest)
        break
      }
    }
  }

  remove(entry: HalfOpen): void {
    const key = keyOf(entry.path, entry.connectionId)
    if (this.#entries.get(key) !== entry) return
    this.#entries.delete(key)
    const same = this.#byId.get(entry.connectionId)
    if (same === undefined) return
    if (--same.count === 0) this.#byId.delete(entry.connectionId)
    // Which one is left, if one is, nobody has noted.
    same.only = undefined
  }
}

function keyOf(path: Path, connectionId: number): string {
  return `${connectionId} ${path.remote.port} ${path.remote.address}`
}
