import type { RefusalCode } from './errors.ts'
import type { NodeId } from './node-id.ts'
import { mayUse, type Service, type Services } from './services.ts'
import { parseTicket, type Ticket } from './ticket.ts'
import type { TicketStore } from './ticket-store.ts'

export type Decision =
  { readonly service: Service; readonly ticketId: string | undefined } | { readonly refusal: RefusalCode }

/**
 * Who gets where. The owner's allow list first; else a ticket; else no.
 *
 * No oracle for strangers: a node that the owner wrote into no list, and that has no ticket of ours, hears `DENIED`
 * whether the service exists or not. Reasons (unknown service, ticket expired, used up, revoked) are told only to
 * listed nodes, and to whoever shows a ticket that we signed.
 */
export class Access {
  readonly #id: NodeId
  readonly #services: Services
  readonly #tickets: TicketStore

  constructor(id: NodeId, services: Services, tickets: TicketStore) {
    this.#id = id
    this.#services = services
    this.#tickets = tickets
  }

  async decide(peer: NodeId, name: string, ticketText: string | undefined, now: number): Promise<Decision> {
    const service = this.#services.get(name)
    if (service !== undefined && mayUse(service, peer)) return { service, ticketId: undefined }
    if (ticketText !== undefined) return this.#byTicket(peer, name, service, ticketText, now)
    const listed = this.#services.names(peer)
    return {
      refusal: listed && service === undefined ? 'ERR_NATWORK_SERVICE_UNKNOWN' : 'ERR_NATWORK_SERVICE_DENIED',
    }
  }

  async #byTicket(
    peer: NodeId,
    name: string,
    service: Service | undefined,
    text: string,
    now: number,
  ): Promise<Decision> {
    const ticket = readTicket(text)
    if (ticket?.id !== this.#id || ticket.service !== name) return { refusal: 'ERR_NATWORK_TICKET_INVALID' }
    if (ticket.expires <= now) return { refusal: 'ERR_NATWORK_TICKET_EXPIRED' }
    if (service === undefined) return { refusal: 'ERR_NATWORK_SERVICE_UNKNOWN' }
    switch (await this.#tickets.redeem(ticket.ticketId, peer)) {
      case 'ok':
        return { service, ticketId: ticket.ticketId }
      case 'used-up':
        return { refusal: 'ERR_NATWORK_TICKET_USED_UP' }
      case 'unknown':
        return { refusal: 'ERR_NATWORK_TICKET_REVOKED' }
    }
  }
}

function readTicket(text: string): Ticket | undefined {
  try {
    return parseTicket(text)
  } catch {
    return undefined
  }
}
