import type { UtpConnection } from './connection.ts'

/** All connections by the id that they receive with. Those of one id hang in a chain, which is mostly one long. */
export class IdTable {
  readonly #chains = new Map<number, UtpConnection>()

  add(connection: UtpConnection): void {
    connection.nextOfId = this.#chains.get(connection.receiveId)
    this.#chains.set(connection.receiveId, connection)
  }

  remove(connection: UtpConnection): void {
    const { receiveId, nextOfId } = connection
    const first = this.#chains.get(receiveId)
    connection.nextOfId = undefined
    if (first === connection) {
      if (nextOfId === undefined) this.#chains.delete(receiveId)
      else this.#chains.set(receiveId, nextOfId)
      return
    }
    let before = first
    while (before !== undefined && before.nextOfId !== connection) before = before.nextOfId
    if (before !== undefined) before.nextOfId = nextOfId
  }

  /** The newest of that id that is meant. */
  find(id: number, isMeant: (connection: UtpConnection) => boolean): UtpConnection | undefined {
    let connection = this.#chains.get(id)
    while (connection !== undefined && !isMeant(connection)) connection = connection.nextOfId
    return connection
  }

  *[Symbol.iterator](): Iterator<UtpConnection> {
    for (const first of this.#chains.values()) {
      for (let one: UtpConnection | undefined = first; one !== undefined; one = one.nextOfId) yield one
    }
  }
}
