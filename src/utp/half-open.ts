import { samePath, SECOND, type Micros, type Path } from '../core/machine.ts'

/** An initiator that moves between paths begins on few; who begins on more is found by the path alone. */
const MOST_OF_ONE_ID = 4
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
  /** The newest of each connection id, at most {@link MOST_OF_ONE_ID}. */
  readonly #byId = new Map<number, HalfOpen[]>()

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
   * The handshakes of that id whichever paths they began on, of many the newest few: one guessed number has as many
   * chances to be right.
   */
  withId(now: Micros, connectionId: number): HalfOpen[] {
    const entries = this.#byId.get(connectionId)?.slice() ?? []
    return entries.filter((entry) => this.find(now, entry.path, connectionId) === entry)
  }

  add(entry: HalfOpen): void {
    const before = this.#entries.get(keyOf(entry.path, entry.connectionId))
    if (before !== undefined) this.remove(before)
    this.#entries.set(keyOf(entry.path, entry.connectionId), entry)
    const same = this.#byId.get(entry.connectionId)
    if (same === undefined) this.#byId.set(entry.connectionId, [entry])
    else if (same.push(entry) > MOST_OF_ONE_ID) same.shift()
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
    const at = same?.indexOf(entry) ?? -1
    if (at >= 0) same?.splice(at, 1)
    if (same?.length === 0) this.#byId.delete(entry.connectionId)
  }
}

function keyOf(path: Path, connectionId: number): string {
  return `${connectionId} ${path.remote.port} ${path.remote.address}`
}
