import type { SocketAddress } from '../../core/address.ts'
import { familyOf } from '../../core/address.ts'
import { Attribute, type StunBuilder, type StunView } from '../../stun/index.ts'
import {
  AddressFamily,
  EVEN_PORT_RESERVE,
  RESERVATION_TOKEN_LENGTH,
  TransportProtocol,
} from '../protocol/index.ts'
import type { Allocation, AllocationRequest } from './options.ts'

/** What is left out of a request although it was wished for. */
export interface Without {
  dontFragment: boolean
  mobility: boolean
  reservation: boolean
}

/** The attributes of an Allocate request (RFC 8656 §7.1, RFC 6062 §4.1, RFC 8016 §3.1.1). */
export function writeAllocate(builder: StunBuilder, request: AllocationRequest, without: Without): void {
  const { family, protocol, evenPort, reservationToken, dontFragment, mobility, lifetime } = request
  const tcp = protocol === 'tcp'
  builder.uint8(Attribute.RequestedTransport, tcp ? TransportProtocol.Tcp : TransportProtocol.Udp, true)
  if (lifetime !== undefined) builder.uint32(Attribute.Lifetime, lifetime)
  if (reservationToken !== undefined && !without.reservation && !tcp) {
    builder.bytes(Attribute.ReservationToken, reservationToken)
  } else if (family === 'both') {
    builder.uint8(Attribute.AdditionalAddressFamily, AddressFamily.Ipv6, true)
    builder.uint8(DRAFT_ADDITIONAL_ADDRESS_FAMILY, AddressFamily.Ipv6, true)
  } else if (family === 6) {
    builder.uint8(Attribute.RequestedAddressFamily, AddressFamily.Ipv6, true)
  }
  // "The request MUST NOT include a DONT-FRAGMENT, RESERVATION-TOKEN, or EVEN-PORT" (RFC 6062 §4.1).
  if (evenPort !== undefined && evenPort !== false && !tcp) {
    builder.uint8(Attribute.EvenPort, evenPort === 'reserve' ? EVEN_PORT_RESERVE : 0)
  }
  if (dontFragment === true && !without.dontFragment && !tcp) builder.flag(Attribute.DontFragment)
  if (mobility === true && !without.mobility) builder.bytes(Attribute.MobilityTicket, NOTHING)
}

/** A success response; undefined when it lacks what it must have, or gives what we cannot use (RFC 8656 §7.3). */
export function readAllocation(
  response: StunView,
  server: SocketAddress,
  request: AllocationRequest,
  without: Without,
): Allocation | undefined {
  const relayed: SocketAddress[] = []
  for (let at = response.first(); at !== -1; at = response.next(at)) {
    if (response.typeAt(at) !== Attribute.XorRelayedAddress) continue
    const address = response.xorAddressAt(at)
    if (address === undefined || address.port === 0) return undefined
    if (!relayed.some((other) => familyOf(other.address) === familyOf(address.address))) relayed.push(address)
  }
  const lifetime = response.uint32(Attribute.Lifetime)
  const wanted = relayed.filter(({ address }) => isWanted(familyOf(address), request))
  if (wanted.length === 0 || lifetime === undefined || lifetime === 0) return undefined
  const token = response.value(Attribute.ReservationToken)
  return {
    relayed: wanted,
    mapped: response.xorAddress(Attribute.XorMappedAddress),
    server,
    lifetime,
    reservationToken: token?.length === RESERVATION_TOKEN_LENGTH ? Uint8Array.from(token) : undefined,
    dontFragment: request.dontFragment === true && !without.dontFragment,
    mobility: readTicket(response) !== undefined,
    missing: readMissing(response),
  }
}

/** The mobility ticket in a response, a copy. */
export function readTicket(response: StunView): Uint8Array | undefined {
  const ticket = response.value(Attribute.MobilityTicket)
  return ticket === undefined || ticket.length === 0 ? undefined : Uint8Array.from(ticket)
}

function isWanted(family: 4 | 6, request: AllocationRequest): boolean {
  // A reserved port has the family of the allocation that reserved it.
  if (request.family === 'both' || request.reservationToken !== undefined) return true
  return family === (request.family ?? 4)
}

/** ADDRESS-ERROR-CODE: family, 13 reserved bits, class, number (RFC 8656 §18.12). */
function readMissing(response: StunView): Allocation['missing'] {
  const value = response.value(Attribute.AddressErrorCode)
  if (value === undefined || value.length < 4) return undefined
  const [family = 0, , hundreds = 0, number = 0] = value
  return { family: family === AddressFamily.Ipv6 ? 6 : 4, status: (hundreds & 7) * 100 + number }
}

/**
 * ADDITIONAL-ADDRESS-FAMILY as coturn (4.6) knows it, from a draft of RFC 8656. Who does not know a number of this range
 * ignores it.
 */
const DRAFT_ADDITIONAL_ADDRESS_FAMILY = 0x8032
const NOTHING = new Uint8Array(0)
