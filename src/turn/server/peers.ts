import { familyOf, formatAddress } from '../../core/address.ts'
import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import { Attribute, ErrorCode } from '../../stun/codec/registry.ts'
import type { StunView } from '../../stun/codec/view.ts'
import { tooBig } from '../protocol/icmp.ts'
import { FIRST_CHANNEL, LAST_CHANNEL, LAST_OLD_CHANNEL, looksLikeUtp } from '../protocol/channel-data.ts'
import type { Allocation } from './allocation.ts'
import type { ClientLink } from './io.ts'
import type { Ask, Relay } from './relay.ts'

/** RFC 8656 §10.2. All addresses or none: the first that is wrong decides. */
export function handleCreatePermission(relay: Relay, ask: Ask): void {
  const allocation = relay.allocationOf(ask)
  if (allocation === undefined) return
  const { view, now } = ask
  const addresses = new Set<string>()
  for (let at = view.first(); at !== -1; at = view.next(at)) {
    if (view.typeAt(at) !== Attribute.XorPeerAddress) continue
    const peer = view.xorAddressAt(at)
    if (peer === undefined) {
      relay.refuse(ask, ErrorCode.BadRequest)
      return
    }
    if (!isReachable(relay, ask, allocation, peer, relay.policy.refusesAddress(peer.address))) return
    addresses.add(peer.address)
  }
  if (addresses.size === 0) {
    relay.refuse(ask, ErrorCode.BadRequest)
    return
  }
  if (!allocation.hasRoomFor(now, addresses, relay.limits.permissions)) {
    relay.refuse(ask, ErrorCode.InsufficientCapacity, undefined, quota(allocation, 'permissions'))
    return
  }
  for (const address of addresses) {
    const portMatters = relay.policy.isOwn(address)
    allocation.permit(now, address, portMatters ? NEVER : relay.policyVersion, portMatters)
  }
  relay.succeed(ask)
}

/** RFC 8656 §12.2. */
export function handleChannelBind(relay: Relay, ask: Ask): void {
  const allocation = relay.allocationOf(ask)
  if (allocation === undefined) return
  const { view, link, now } = ask
  const number = view.uint16(Attribute.ChannelNumber)
  const peer = view.xorAddress(Attribute.XorPeerAddress)
  if (number === undefined || peer === undefined || !mayNumber(link, number)) {
    relay.refuse(ask, ErrorCode.BadRequest)
    return
  }
  if (!isReachable(relay, ask, allocation, peer, relay.policy.refuses(peer))) return
  const socket = allocation.socketFor(peer.address)
  if (socket === undefined || !allocation.mayBind(now, number, peer)) {
    relay.refuse(ask, ErrorCode.BadRequest)
    return
  }
  const { permissions, channels } = relay.limits
  if (
    !allocation.hasRoomFor(now, new Set([peer.address]), permissions) ||
    !allocation.hasRoomForChannel(now, number, channels)
  ) {
    relay.refuse(ask, ErrorCode.InsufficientCapacity, undefined, quota(allocation, 'channels'))
    return
  }
  const portMatters = relay.policy.isOwn(peer.address)
  const permission = allocation.permit(
    now,
    peer.address,
    portMatters ? NEVER : relay.policyVersion,
    portMatters,
  )
  allocation.bind(now, number, peer, permission, socket)
  relay.succeed(ask)
}

/** RFC 8656 §11.2: what is wrong is dropped without a word. */
export function handleSend(relay: Relay, now: Micros, link: ClientLink, view: StunView): void {
  const { counters } = relay
  const { allocation } = link
  const data = view.find(Attribute.Data)
  const at = view.find(Attribute.XorPeerAddress)
  const peer = at === -1 ? undefined : view.xorAddressAt(at)
  if (allocation === undefined || data === -1 || peer === undefined || !onlyKnown(relay, view)) {
    counters.droppedFromClients++
    return
  }
  const permission = allocation.permission(now, peer.address)
  const socket = allocation.socketFor(peer.address)
  if (permission === undefined || socket === undefined || peer.port === 0) {
    counters.droppedFromClients++
    return
  }
  if (link === allocation.nextLink) relay.moved(now, allocation)
  const from = data + 4
  const length = view.lengthAt(data)
  // The kernel sets DF on what fits the path as it knows it, and cuts up the rest.
  const family = familyOf(peer.address)
  const mtu = permission.mtu(now)
  const isCutUp = length > mtu - (family === 6 ? HEADERS_6 : HEADERS_4)
  if (isCutUp && view.has(Attribute.DontFragment) && !isTranslated(link, peer)) {
    allocation.handlePeerIcmp(now, peer, tooBig(family, mtu))
    return
  }
  allocation.sendToPeer(now, socket, permission, { remote: peer }, view.bytes, from, from + length)
}

/** The family is one of the allocation's, and the policy has nothing against the peer; otherwise answered. */
export function isReachable(
  relay: Relay,
  ask: Ask,
  allocation: Allocation,
  peer: SocketAddress,
  refusal: string | undefined,
): boolean {
  if (allocation.socketFor(peer.address) === undefined) {
    relay.refuse(ask, ErrorCode.PeerAddressFamilyMismatch)
    return false
  }
  if (refusal === undefined) return true
  relay.counters.deniedPeers++
  relay.refuse(ask, ErrorCode.Forbidden, undefined, {
    reason: refusal,
    allocation: allocation.id,
    peer: formatAddress(peer),
  })
  return false
}

/** A version that the policy never has: asked for every datagram. */
const NEVER = -1

/** Bytes of an IP header and UDP's. */
const HEADERS_4 = 28
const HEADERS_6 = 48

/** "the DONT-FRAGMENT attribute MUST be ignored" where either side of two UDP packets is IPv6 (RFC 8656 §13). */
function isTranslated(link: ClientLink, peer: SocketAddress): boolean {
  return link.kind === 'udp' && (familyOf(link.remote.address) === 6 || familyOf(peer.address) === 6)
}

function mayNumber(link: ClientLink, number: number): boolean {
  if (number < FIRST_CHANNEL) return false
  if (link.channels === 'old') return number <= LAST_OLD_CHANNEL
  return number <= LAST_CHANNEL && !(link.channels === 'no-utp' && looksLikeUtp(number))
}

function onlyKnown(relay: Relay, view: StunView): boolean {
  if (view.has(Attribute.DontFragment) && !relay.dontFragment) return false
  return view.unknownRequired(inSend).length === 0
}

const inSend: ReadonlySet<number> = new Set([
  Attribute.XorPeerAddress,
  Attribute.Data,
  Attribute.DontFragment,
])

const quota = (allocation: Allocation, of: string): { reason: string; allocation: number } => ({
  reason: `no room for more ${of}`,
  allocation: allocation.id,
})
