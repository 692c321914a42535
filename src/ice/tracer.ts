import type { Micros } from '../core/machine.ts'
import { MAX_TRACE } from './bounds.ts'
import type { TraceEntry } from './types.ts'

export type UntimedEntry = TraceEntry extends infer Entry
  ? Entry extends unknown
    ? Omit<Entry, 'at'>
    : never
  : never

/** Keeps the last {@link MAX_TRACE} entries and passes each on. */
export class Tracer {
  readonly #entries: TraceEntry[] = []
  readonly #onEntry: (entry: TraceEntry) => void

  constructor(onEntry: (entry: TraceEntry) => void) {
    this.#onEntry = onEntry
  }

  get entries(): readonly TraceEntry[] {
    return this.#entries
  }

  note(at: Micros, entry: UntimedEntry): void {
    const timed = { at, ...entry } as TraceEntry
    if (this.#entries.length === MAX_TRACE) this.#entries.shift()
    this.#entries.push(timed)
    this.#onEntry(timed)
  }
}
