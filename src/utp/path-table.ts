import { samePath, type Path } from '../core/machine.ts'

interface Entry<T> {
  readonly path: Path
  readonly id: number
  readonly item: T
  next: Entry<T> | undefined
}

/**
 * Finds what belongs to a (path, connection id). The key is a small integer made of id and port, so that a lookup builds
 * no string; entries that share it hang in a chain, and a peer can make a chain long only by having many addresses.
 */
export class PathTable<T> {
  readonly #chains = new Map<number, Entry<T>>()

  find(path: Path, id: number): T | undefined {
    let entry = this.#chains.get(keyOf(path, id))
    while (entry !== undefined && (entry.id !== id || !samePath(entry.path, path))) entry = entry.next
    return entry?.item
  }

  add(path: Path, id: number, item: T): void {
    const key = keyOf(path, id)
    this.#chains.set(key, { path, id, item, next: this.#chains.get(key) })
  }

  remove(path: Path, id: number): void {
    const key = keyOf(path, id)
    let before: Entry<T> | undefined
    let entry = this.#chains.get(key)
    while (entry !== undefined && (entry.id !== id || !samePath(entry.path, path))) {
      before = entry
      entry = entry.next
    }
    if (entry === undefined) return
    if (before !== undefined) before.next = entry.next
    else if (entry.next !== undefined) this.#chains.set(key, entry.next)
    else this.#chains.delete(key)
  }
}

/** 30 bits: V8 keeps such integers without allocating. */
function keyOf(path: Path, id: number): number {
  return (id << 14) ^ path.remote.port
}
