import { SECOND, type Micros, type Path } from '../core/machine.ts'

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
}

/**
 * Handshakes in waiting, oldest first. Bounded by `maxHalfOpen`: the oldest makes room, so that a flood of SYNs from
 * invented addresses costs a fixed amount of memory, and a real initiator needs to be back only within the time that as
 * many SYNs take to come.
 */
export class HalfOpenTable {
  readonly #bound: number
  readonly #entries = new Map<string, HalfOpen>()

  constructor(bound: number) {
    this.#bound = bound
  }

  get size(): number {
    return this.#entries.size
  }

  find(now: Micros, path: Path, connectionId: number): HalfOpen | undefined {
    const key = keyOf(path, connectionId)
    const entry = this.#entries.get(key)
    if (entry === undefined || now - entry.since < LIFETIME) return entry
    this.#entries.delete(key)
    return undefined
  }

  add(entry: HalfOpen): void {
    this.#entries.set(keyOf(entry.path, entry.connectionId), entry)
    if (this.#entries.size > this.#bound) {
      for (const oldest of this.#entries.keys()) {
        this.#entries.delete(oldest)
        break
      }
    }
  }

  remove(path: Path, connectionId: number): void {
    this.#entries.delete(keyOf(path, connectionId))
  }
}

function keyOf(path: Path, connectionId: number): string {
  return `${connectionId} ${path.remote.port} ${path.remote.address}`
}
