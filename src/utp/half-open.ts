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
  /** By what its initiator alone knows; at most as many as entries. */
  readonly #proofs = new Map<number, HalfOpen>()

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
    this.#delete(key, entry)
    return undefined
  }

  /**
   * The handshake whose initiator shows by `ours` that it got our answer, by whatever path: it may have moved to a better one
   * before we heard its confirmation, or between two SYNs.
   */
  proven(now: Micros, connectionId: number, ours: number): HalfOpen | undefined {
    const entry = this.#proofs.get(proofOf(connectionId, ours))
    return entry === undefined || now - entry.since >= LIFETIME ? undefined : entry
  }

  add(entry: HalfOpen): void {
    const key = keyOf(entry.path, entry.connectionId)
    const before = this.#entries.get(key)
    if (before !== undefined) this.#delete(key, before)
    this.#entries.set(key, entry)
    this.#proofs.set(proofOf(entry.connectionId, entry.ours), entry)
    if (this.#entries.size > this.#bound) {
      for (const [oldest, one] of this.#entries) {
        this.#delete(oldest, one)
        break
      }
    }
  }

  remove(entry: HalfOpen): void {
    this.#delete(keyOf(entry.path, entry.connectionId), entry)
  }

  #delete(key: string, entry: HalfOpen): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key)
    const proof = proofOf(entry.connectionId, entry.ours)
    if (this.#proofs.get(proof) === entry) this.#proofs.delete(proof)
  }
}

function proofOf(connectionId: number, ours: number): number {
  return connectionId * 0x1_0000 + ours
}

function keyOf(path: Path, connectionId: number): string {
  return `${connectionId} ${path.remote.port} ${path.remote.address}`
}
