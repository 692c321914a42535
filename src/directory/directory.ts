import { UsageError } from '../core/errors.ts'
import { isNodeId, type NodeId } from '../network/node-id.ts'
import { verifyNodeInfo, type NodeInfo } from '../network/node-info.ts'
import { Turn, type Records } from '../network/records.ts'
import { TicketStore, type TicketRecord } from '../network/ticket-store.ts'

/** The tables that a driver brings. Values are plain JSON. */
export interface DirectoryDriver {
  readonly nodes: Records<NodeInfo>
  readonly tickets: Records<TicketRecord>
  close(): Promise<void>
}

export interface DirectoryOptions {
  /** Node records kept at most, 10,000 by default; beyond it the one that expires first goes. */
  readonly limit?: number
}

/** What this node knows of others, and of the tickets it made. Only records whose signature verifies go in or out. */
export class Directory {
  readonly tickets: TicketStore
  readonly #driver: DirectoryDriver
  readonly #limit: number
  readonly #turn = new Turn()

  constructor(driver: DirectoryDriver, { limit = 10_000 }: DirectoryOptions = {}) {
    if (!Number.isInteger(limit) || limit < 1) {
      throw new UsageError('ERR_NATWORK_DIRECTORY', `a directory cannot hold ${limit} nodes`)
    }
    this.#driver = driver
    this.#limit = limit
    this.tickets = new TicketStore(driver.tickets)
  }

  /** Every known node. */
  async *list(): AsyncGenerator<NodeId> {
    for await (const [id] of this.#driver.nodes.entries()) if (isNodeId(id)) yield id
  }

  /** @returns undefined for an unknown node, and for a record that somebody has altered where it was kept. */
  async get(id: NodeId): Promise<NodeInfo | undefined> {
    const info = await this.#driver.nodes.get(id)
    try {
      return info?.id === id ? verifyNodeInfo(info) : undefined
    } catch {
      return undefined
    }
  }

  /**
   * Keeps a record unless one with the same or a higher sequence is there.
   *
   * @returns whether it was kept.
   * @throws {PeerError} `ERR_NATWORK_NODE_INFO` when it does not verify; the driver's own errors.
   */
  put(info: NodeInfo): Promise<boolean> {
    return this.#turn.take(async () => {
      const verified = verifyNodeInfo(info)
      const known = await this.get(verified.id)
      if (known !== undefined && known.sequence >= verified.sequence) return false
      if (known === undefined) await this.#makeRoom()
      await this.#driver.nodes.put(verified.id, verified)
      return true
    })
  }

  /** @returns whether it was there. */
  remove(id: NodeId): Promise<boolean> {
    return this.#turn.take(async () => {
      const known = (await this.#driver.nodes.get(id)) !== undefined
      await this.#driver.nodes.delete(id)
      return known
    })
  }

  /** Writes what is under way and lets go of the files. Idempotent. */
  close(): Promise<void> {
    return this.#turn.take(() => this.#driver.close())
  }

  async #makeRoom(): Promise<void> {
    let count = 0
    let first: { key: string; expires: number } | undefined
    for await (const [key, { expires }] of this.#driver.nodes.entries()) {
      count++
      if (first === undefined || expires < first.expires) first = { key, expires }
    }
    if (count >= this.#limit && first !== undefined) await this.#driver.nodes.delete(first.key)
  }
}
