import { Attribute, ErrorCode } from '../../stun/codec/registry.ts'
import { StunView } from '../../stun/codec/view.ts'
import type { StunBuilder } from '../../stun/codec/builder.ts'
import { familyOf } from '../../core/address.ts'
import { SECOND, type Micros } from '../../core/machine.ts'
import {
  AddressFamily,
  DEFAULT_LIFETIME,
  EVEN_PORT_RESERVE,
  RESERVATION_LIFETIME,
  RESERVATION_TOKEN_LENGTH,
  TransportProtocol,
} from '../protocol/constants.ts'
import type { Expiring } from './agenda.ts'
import { Allocation } from './allocation.ts'
import type { ClientLink, Opened, OpenRequest, NotAdmitted, RelayedSocket } from './io.ts'
import { sourceKey } from './limits.ts'
import { seconds, type Ask, type Relay } from './relay.ts'

/** Allocate (RFC 8656 §7.2): the checks in the order of the section, then sockets, then the answer. */
export class Allocating {
  readonly #relay: Relay
  /** Requests that wait for their sockets. Bounded by the limit `allocations`, which counts them. */
  readonly #waiting = new Map<number, Waiting>()
  /** Ports that are kept for a second Allocate, by token. Bounded by the limit `allocations`, which counts them. */
  readonly #reservations = new Map<string, Reservation>()
  #nextTicket = 1
  #nextId = 1

  constructor(relay: Relay) {
    this.#relay = relay
  }

  handle(ask: Ask): void {
    const relay = this.#relay
    const { link, view } = ask
    if (link.allocation !== undefined) {
      // A retransmission gets the same answer again.
      const { allocation } = link
      const same = allocation.transactionId === transactionText(view)
      if (same && allocation.username === ask.user.username) this.#confirm(ask, allocation)
      else relay.refuse(ask, ErrorCode.AllocationMismatch)
      return
    }
    // The answer is on its way.
    if (link.opening) return
    const wanted = this.#read(ask)
    if (typeof wanted === 'number') {
      // The one attribute that a server may know and not support (check 4).
      const unknown = [Attribute.DontFragment]
      const list = (response: StunBuilder): unknown => response.unknownAttributes(unknown)
      relay.refuse(ask, wanted, wanted === ErrorCode.UnknownAttribute ? list : undefined)
      return
    }
    const { token, mobility, ...request } = wanted
    if (relay.draining !== undefined) {
      const { alternate } = relay.draining
      // "MUST contain an IP address of the same address family" (RFC 8489 §10); TLS is at another port, or nowhere.
      const fits =
        alternate !== undefined &&
        link.secure !== true &&
        familyOf(alternate.address) === familyOf(link.remote.address)
      if (!fits) relay.refuse(ask, ErrorCode.InsufficientCapacity)
      else {
        relay.refuse(ask, ErrorCode.TryAlternate, (response) =>
          response.address(Attribute.AlternateServer, alternate),
        )
      }
      return
    }
    const { account } = ask.user
    const source = link.remote.address
    const reservation = token === undefined ? undefined : this.#reservations.get(token)
    // A kept port counts as an allocation does: or one user, coming and going, would have them all.
    const wantedPorts = request.reserve ? 2 : 1
    const refusal = this.#lacksRoom(account, source, wantedPorts, reservation)
    if (refusal !== undefined) {
      relay.refuse(ask, refusal.code, undefined, refusal)
      return
    }
    this.#count(account, source, wantedPorts)
    // The bytes are the caller's again when this returns.
    const kept = new StunView()
    kept.open(Buffer.from(view.bytes))
    const waiting: Waiting = { ask: { ...ask, view: kept }, request, mobility }
    link.opening = true
    const ticket = this.#nextTicket++
    this.#waiting.set(ticket, waiting)
    if (reservation === undefined) relay.tell({ type: 'open', request, ticket, account, source })
    else this.opened(ask.now, ticket, { sockets: [this.#redeem(reservation)] })
  }

  opened(now: Micros, ticket: number, { sockets, reserved, refusal = noPort }: Opened): void {
    const waiting = this.#waiting.get(ticket)
    const [first, second] = sockets
    const got = [first, second].filter((socket) => socket !== undefined)
    if (waiting === undefined || got.length === 0) {
      for (const socket of [...got, reserved]) socket?.close()
      if (waiting !== undefined) this.#fail(ticket, waiting, refusal)
      return
    }
    this.#waiting.delete(ticket)
    const relay = this.#relay
    const { ask, request, mobility } = waiting
    const { link, view, user } = ask
    link.opening = false
    const allocation = new Allocation(relay, {
      id: this.#nextId++,
      username: user.username,
      account: user.account,
      transport: request.transport,
      link,
      transactionId: transactionText(view),
      sockets: got,
      expiresAt: now + lifetimeOf(relay, view),
    })
    link.allocation = allocation
    const absent = request.families.find((_, n) => sockets[n] === undefined)
    if (absent !== undefined) {
      // RFC 8656 §7.2, check 9: met in part.
      const code = relay.families.includes(absent)
        ? ErrorCode.InsufficientCapacity
        : ErrorCode.AddressFamilyNotSupported
      allocation.addressError = { family: absent, code }
    }
    if (reserved !== undefined) allocation.reservationToken = this.#reserve(now, allocation, reserved)
    else if (request.reserve) relay.release(user.account, link.remote.address)
    if (mobility) relay.giveTicket(allocation)
    relay.add(allocation)
    for (const socket of got) socket.start(allocation)
    this.#confirm({ ...ask, now }, allocation)
  }

  /** Who asked is gone: there is nobody to give the sockets to. */
  linkClosed(link: ClientLink): void {
    if (!link.opening) return
    for (const [ticket, waiting] of this.#waiting) if (waiting.ask.link === link) this.#drop(ticket, waiting)
  }

  close(): void {
    for (const reservation of [...this.#reservations.values()]) reservation.expire()
  }

  #fail(ticket: number, waiting: Waiting, { code, reason }: NotAdmitted): void {
    const { ask } = waiting
    this.#drop(ticket, waiting)
    this.#relay.refuse(ask, code, undefined, { reason })
    ask.link.released()
  }

  #drop(ticket: number, { ask, request }: Waiting): void {
    this.#waiting.delete(ticket)
    ask.link.opening = false
    for (let n = request.reserve ? 2 : 1; n > 0; n--) {
      this.#relay.release(ask.user.account, ask.link.remote.address)
    }
  }

  #confirm(ask: Ask, allocation: Allocation): void {
    this.#relay.succeed(ask, (response) => {
      for (const { address } of allocation.sockets) response.xorAddress(Attribute.XorRelayedAddress, address)
      response.uint32(Attribute.Lifetime, seconds(allocation.expiresAt - ask.now))
      response.xorAddress(Attribute.XorMappedAddress, ask.link.remote)
      const { reservationToken, addressError, ticket } = allocation
      if (reservationToken !== undefined) response.bytes(Attribute.ReservationToken, reservationToken)
      if (addressError !== undefined) {
        const old = ask.view.has(COTURN_ADDITIONAL_FAMILY)
        response.bytes(
          old ? COTURN_ADDRESS_ERROR : Attribute.AddressErrorCode,
          addressErrorCode(addressError),
        )
      }
      if (ticket !== undefined) response.bytes(Attribute.MobilityTicket, ticket)
    })
  }

  /** Checks 3 to 9 of RFC 8656 §7.2, and RFC 6062 §5.1; a number: the error code that the request deserves. */
  #read({ view, link, user }: Ask): Wanted | number {
    const relay = this.#relay
    const transport = view.uint8(Attribute.RequestedTransport)
    if (transport === undefined) return ErrorCode.BadRequest
    const tcp = transport === TransportProtocol.Tcp
    if (transport !== TransportProtocol.Udp && !(tcp && relay.tcpAllowed)) {
      return ErrorCode.UnsupportedTransportProtocol
    }
    const fragment = view.has(Attribute.DontFragment)
    if (fragment && !relay.dontFragment) return ErrorCode.UnknownAttribute
    const evenPort = view.has(Attribute.EvenPort) ? view.uint8(Attribute.EvenPort) : undefined
    const hasToken = view.has(Attribute.ReservationToken)
    const token = view.value(Attribute.ReservationToken)
    const requested = familyIn(view, Attribute.RequestedAddressFamily)
    const additional =
      familyIn(view, Attribute.AdditionalAddressFamily) ?? familyIn(view, COTURN_ADDITIONAL_FAMILY)
    const mobility = view.value(Attribute.MobilityTicket)
    const reserve = evenPort !== undefined && (evenPort & EVEN_PORT_RESERVE) !== 0
    const wrong =
      (view.has(Attribute.EvenPort) && evenPort === undefined) ||
      (hasToken && token?.length !== RESERVATION_TOKEN_LENGTH) ||
      (hasToken && (evenPort !== undefined || requested !== undefined || additional !== undefined)) ||
      (requested !== undefined && additional !== undefined) ||
      (reserve && additional !== undefined) ||
      (additional !== undefined && additional !== AddressFamily.Ipv6) ||
      (tcp && (link.kind !== 'stream' || fragment || evenPort !== undefined || hasToken)) ||
      (mobility !== undefined && mobility.length > 0)
    if (wrong) return ErrorCode.BadRequest
    if (mobility !== undefined && !relay.mobilityAllowed) return ErrorCode.MobilityForbidden
    if (reserve && relay.siblings !== undefined) return ErrorCode.InsufficientCapacity
    const key = token === undefined ? undefined : Buffer.from(token).toString('hex')
    const reservation = key === undefined ? undefined : this.#reservations.get(key)
    // Whoever has only seen the token must not take the port.
    if (hasToken && reservation?.username !== user.username) return ErrorCode.InsufficientCapacity
    const families = reservation?.families ?? familiesFor(relay, requested, additional)
    if (families === undefined) return ErrorCode.AddressFamilyNotSupported
    // "unable to access the state of the Don't Fragment (DF) bit in the IPv4 header, it MUST reject" (RFC 8656 §3.7).
    const translates = families.includes(AddressFamily.Ipv6) && familyOf(link.remote.address) === 4
    if (fragment && translates && link.kind === 'udp') return ErrorCode.UnknownAttribute
    return {
      transport,
      families,
      even: evenPort !== undefined,
      reserve,
      mobility: mobility !== undefined,
      ...(key !== undefined && { token: key }),
    }
  }

  /** Undefined: there is room for so many more ports. */
  #lacksRoom(
    account: string,
    source: string,
    ports: number,
    redeemed: Reservation | undefined,
  ): { code: number; reason: string } | undefined {
    const { limits, perUser, perSource, allocations } = this.#relay
    const has = (count: number, limit: number, own: boolean): boolean =>
      count - (own ? 1 : 0) + ports <= limit
    const ofUser = redeemed !== undefined
    const ofSource = redeemed !== undefined && sourceKey(redeemed.source) === sourceKey(source)
    if (
      !has(perUser.of(account), limits.allocationsPerUser, ofUser) ||
      !has(perSource.of(sourceKey(source)), limits.allocationsPerSource, ofSource)
    ) {
      return { code: ErrorCode.AllocationQuotaReached, reason: 'quota of user or source reached' }
    }
    const all = allocations.size + this.#waiting.size + this.#reservations.size
    if (has(all, limits.allocations, redeemed !== undefined)) return undefined
    return { code: ErrorCode.InsufficientCapacity, reason: 'the relay is full' }
  }

  #count(account: string, source: string, ports: number): void {
    for (let n = 0; n < ports; n++) {
      this.#relay.perUser.add(account)
      this.#relay.perSource.add(sourceKey(source))
    }
  }

  #reserve(now: Micros, { username, account, source }: Allocation, socket: RelayedSocket): Uint8Array {
    const relay = this.#relay
    const token = new Uint8Array(RESERVATION_TOKEN_LENGTH)
    relay.rng.fill(token)
    const key = Buffer.from(token).toString('hex')
    const reservation: Reservation = {
      key,
      socket,
      username,
      account,
      source,
      families: [familyOf(socket.address.address) === 6 ? AddressFamily.Ipv6 : AddressFamily.Ipv4],
      expiresAt: now + RESERVATION_LIFETIME,
      slot: -1,
      expire: () => {
        this.#forget(reservation)
        socket.close()
      },
    }
    this.#reservations.set(key, reservation)
    relay.agenda.enter(reservation)
    return token
  }

  #redeem(reservation: Reservation): RelayedSocket {
    this.#relay.agenda.leave(reservation)
    this.#forget(reservation)
    return reservation.socket
  }

  #forget({ key, account, source }: Reservation): void {
    this.#reservations.delete(key)
    this.#relay.release(account, source)
  }
}

/** What coturn up to 4.6 writes and reads for ADDITIONAL-ADDRESS-FAMILY (0x8000), and for ADDRESS-ERROR-CODE (0x8001). */
const COTURN_ADDITIONAL_FAMILY = 0x8032
const COTURN_ADDRESS_ERROR = 0x8033

const noPort: NotAdmitted = { code: ErrorCode.InsufficientCapacity, reason: 'no free port' }

interface Wanted extends OpenRequest {
  readonly token?: string
  readonly mobility: boolean
}

interface Waiting {
  readonly ask: Ask
  readonly request: OpenRequest
  readonly mobility: boolean
}

interface Reservation extends Expiring {
  readonly key: string
  readonly socket: RelayedSocket
  /** Whose it is, and what quota it counts for. */
  readonly username: string
  readonly account: string
  readonly source: string
  readonly families: readonly AddressFamily[]
  expire(): void
}

/** A text takes a quarter of the memory of a Uint8Array. */
function transactionText({ transactionId }: StunView): string {
  return Buffer.from(transactionId).toString('latin1')
}

/** "the minimum of the client's proposed lifetime and the server's maximum", at least the default (RFC 8656 §7.2). */
export function lifetimeOf(relay: Relay, view: StunView): Micros {
  const asked = (view.uint32(Attribute.Lifetime) ?? 0) * SECOND
  return Math.max(DEFAULT_LIFETIME, Math.min(asked, relay.limits.lifetime))
}

/** Undefined: absent; 0: there, and no family. */
export function familyIn(view: StunView, attribute: number): number | undefined {
  return view.has(attribute) ? (view.uint8(attribute) ?? 0) : undefined
}

function familiesFor(
  relay: Relay,
  requested: number | undefined,
  additional: number | undefined,
): readonly AddressFamily[] | undefined {
  if (additional !== undefined) {
    const both = [AddressFamily.Ipv4, AddressFamily.Ipv6]
    return both.some((family) => relay.families.includes(family)) ? both : undefined
  }
  const family = [AddressFamily.Ipv4, AddressFamily.Ipv6].find(
    (known) => known === (requested ?? AddressFamily.Ipv4),
  )
  return family !== undefined && relay.families.includes(family) ? [family] : undefined
}

/** RFC 8656 §18.12: the family, two reserved bytes, and a code as in ERROR-CODE. */
function addressErrorCode({ family, code }: { family: number; code: number }): Uint8Array {
  return Uint8Array.of(family, 0, Math.floor(code / 100), code % 100)
}
