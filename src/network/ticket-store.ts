import { UsageError } from '../core/errors.ts'
import type { NodeId } from './node-id.ts'
import { Turn, type Records } from './records.ts'
import type { Ticket } from './ticket.ts'

/** What a node remembers of a ticket it made. Without this memory the ticket is worth nothing. */
export interface TicketRecord {
  readonly ticketId: string
  readonly service: string
  /** Unix time, seconds. */
  readonly expires: number
  readonly uses: number
  /** The nodes that have used it: at most `uses`. */
  readonly usedBy: readonly NodeId[]
}

export const maxTickets = 10_000

/**
 * The node's memory of its tickets. It decides, not the ticket's text: a restart refills nothing, and a ticket that is
 * not in here (revoked, or made before the memory was lost) opens nothing. Grows only by what the owner makes, up to
 * {@link maxTickets}; expired ones are swept when a new one is made.
 */
export class TicketStore {
  readonly #records: Records<TicketRecord>
  readonly #turn = new Turn()

  constructor(records: Records<TicketRecord>) {
    this.#records = records
  }

  /** @throws {UsageError} `ERR_NATWORK_TICKET` when there are too many; the driver's own errors. */
  add({ ticketId, service, expires, uses }: Ticket, now: number): Promise<void> {
    return this.#turn.take(async () => {
      let count = 0
      for await (const [key, record] of this.#records.entries()) {
        if (record.expires <= now) await this.#records.delete(key)
        else count++
      }
      if (count >= maxTickets) {
        throw new UsageError('ERR_NATWORK_TICKET', `${count} tickets are open: revoke some first`)
      }
      await this.#records.put(ticketId, { ticketId, service, expires, uses, usedBy: [] })
    })
  }

  /** Takes one use for this node, or none if it has one already. Written down before it resolves. */
  redeem(ticketId: string, by: NodeId): Promise<'ok' | 'used-up' | 'unknown'> {
    return this.#turn.take(async () => {
      const record = await this.#records.get(ticketId)
      if (record === undefined) return 'unknown'
      if (record.usedBy.includes(by)) return 'ok'
      if (record.usedBy.length >= record.uses) return 'used-up'
      await this.#records.put(ticketId, { ...record, usedBy: [...record.usedBy, by] })
      return 'ok'
    })
  }

  /** @returns whether it was there. */
  revoke(ticketId: string): Promise<boolean> {
    return this.#turn.take(async () => {
      const known = (await this.#records.get(ticketId)) !== undefined
      await this.#records.delete(ticketId)
      return known
    })
  }

  async list(): Promise<TicketRecord[]> {
    const all: TicketRecord[] = []
    for await (const [, record] of this.#records.entries()) all.push(record)
    return all
  }
}
