import { createHmac, timingSafeEqual } from 'node:crypto'
import { SECOND, type Micros } from '../../core/machine.ts'
import { Attribute, ErrorCode } from '../../stun/codec/registry.ts'
import { AddressFamily } from '../protocol/constants.ts'
import type { Expiring } from './agenda.ts'
import type { Allocation } from './allocation.ts'
import { familyIn, lifetimeOf } from './allocating.ts'
import { seconds, type Ask, type Relay } from './relay.ts'

/**
 * Refresh (RFC 8656 §8.2), and with it RFC 8016: a client that has moved to another address shows the ticket of its
 * allocation. A ticket is random and carries the HMAC of that, so that one that we never made is told from one whose
 * allocation is gone; it is 32 characters of text, because coturn's client takes it for a string of that length.
 */
export class Mobility {
  readonly #relay: Relay
  readonly #secret = new Uint8Array(32)
  /** The tickets that allocations hold now, and the one before for 30 s: two for each allocation at most. */
  readonly #tickets = new Map<string, Allocation>()

  constructor(relay: Relay) {
    this.#relay = relay
    relay.rng.fill(this.#secret)
  }

  handleRefresh(ask: Ask): void {
    const ticket = ask.view.value(Attribute.MobilityTicket)
    if (ticket !== undefined && ticket.length > 0) this.#move(ask, ticket)
    else {
      const allocation = this.#relay.allocationOf(ask)
      if (allocation !== undefined) this.#refresh(ask, allocation, undefined)
    }
  }

  /** A new ticket for the allocation; the last one stays good for retransmissions. */
  give(allocation: Allocation): void {
    const bytes = new Uint8Array(RANDOM)
    this.#relay.rng.fill(bytes)
    const random = Buffer.from(bytes).toString('base64url')
    const ticket = Buffer.from(random + this.#mac(random))
    if (allocation.oldTicket !== undefined) this.#tickets.delete(keyOf(allocation.oldTicket))
    allocation.oldTicket = allocation.ticket
    allocation.ticket = ticket
    this.#tickets.set(keyOf(ticket), allocation)
  }

  forget({ ticket, oldTicket }: Allocation): void {
    for (const one of [ticket, oldTicket]) if (one !== undefined) this.#tickets.delete(keyOf(one))
  }

  /** "discards the old ticket and the old 5-tuple" (§3.2.2). */
  moved(_now: Micros, allocation: Allocation): void {
    const { link, nextLink } = allocation
    if (nextLink === undefined) return
    allocation.link = nextLink
    allocation.nextLink = undefined
    link.allocation = undefined
    link.released()
  }

  #move(ask: Ask, ticket: Uint8Array): void {
    const relay = this.#relay
    const { link, user } = ask
    if (!relay.mobilityAllowed) {
      relay.refuse(ask, ErrorCode.MobilityForbidden)
      return
    }
    if (!this.#isOurs(ticket)) {
      relay.refuse(ask, ErrorCode.BadRequest)
      return
    }
    const allocation = this.#tickets.get(keyOf(ticket))
    if (allocation === undefined) {
      relay.refuse(ask, ErrorCode.AllocationMismatch)
      return
    }
    if (allocation.account !== user.account) {
      relay.refuse(ask, ErrorCode.WrongCredentials, undefined, { allocation: allocation.id })
      return
    }
    const isOld = allocation.oldTicket !== undefined && Buffer.compare(allocation.oldTicket, ticket) === 0
    const again = isOld && (allocation.nextLink === link || allocation.link === link)
    if (!again && (isOld || link.allocation !== undefined || link.opening)) {
      // The 5-tuple it already has, one with an allocation of its own, or a ticket that has been used elsewhere.
      relay.refuse(ask, ErrorCode.BadRequest)
      return
    }
    if (!again) {
      const { nextLink } = allocation
      if (nextLink !== undefined) {
        nextLink.allocation = undefined
        nextLink.released()
      }
      allocation.nextLink = link
      link.allocation = allocation
      this.give(allocation)
      const old = allocation.oldTicket
      if (old !== undefined) relay.agenda.enter(this.#forgetting(ask.now, allocation, old))
    }
    this.#refresh(ask, allocation, allocation.ticket)
  }

  #refresh(ask: Ask, allocation: Allocation, ticket: Uint8Array | undefined): void {
    const relay = this.#relay
    const { view, now } = ask
    const family = familyIn(view, Attribute.RequestedAddressFamily)
    if (
      family !== undefined &&
      !allocation.sockets.some(({ address }) => familyNumber(address.address) === family)
    ) {
      relay.refuse(ask, ErrorCode.PeerAddressFamilyMismatch)
      return
    }
    const lifetime = view.uint32(Attribute.Lifetime) === 0 ? 0 : lifetimeOf(relay, view)
    if (lifetime > 0) {
      allocation.expiresAt = now + lifetime
      relay.agenda.enter(allocation)
    }
    relay.succeed(ask, (response) => {
      response.uint32(Attribute.Lifetime, seconds(lifetime))
      if (ticket !== undefined) response.bytes(Attribute.MobilityTicket, ticket)
    })
    if (lifetime > 0) return
    if (family === undefined || allocation.sockets.length === 1)
      relay.end(now, allocation, 'closed by client')
    else allocation.giveBack(family === AddressFamily.Ipv6 ? 6 : 4)
  }

  #forgetting(now: Micros, allocation: Allocation, ticket: Uint8Array): Expiring {
    return {
      expiresAt: now + OLD_TICKET_LIFETIME,
      slot: -1,
      expire: () => {
        if (allocation.oldTicket !== ticket) return
        allocation.oldTicket = undefined
        this.#tickets.delete(keyOf(ticket))
      },
    }
  }

  #isOurs(ticket: Uint8Array): boolean {
    const text = keyOf(ticket)
    return (
      ticket.length === 2 * HALF &&
      timingSafeEqual(ticket.subarray(HALF), Buffer.from(this.#mac(text.slice(0, HALF))))
    )
  }

  #mac(random: string): string {
    return createHmac('sha256', this.#secret).update(random).digest('base64url').slice(0, HALF)
  }
}

/** Bytes that make half a ticket: 96 bits that nobody guesses. */
const RANDOM = 12
const HALF = 16
/** "at least 30 seconds" (RFC 8016 §3.2.2). */
const OLD_TICKET_LIFETIME: Micros = 30 * SECOND

const keyOf = (ticket: Uint8Array): string => Buffer.from(ticket).toString('latin1')

const familyNumber = (address: string): AddressFamily =>
  address.includes(':') ? AddressFamily.Ipv6 : AddressFamily.Ipv4
