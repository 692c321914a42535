import { familyOf, type SocketAddress } from '../../core/address.ts'
import { SECOND, type Micros, type Path } from '../../core/machine.ts'
import { CHANNEL_DATA_HEADER, channelDataEnd } from '../protocol/channel-data.ts'
import { CHANNEL_LIFETIME, CHANNEL_QUARANTINE, PERMISSION_LIFETIME } from '../protocol/constants.ts'
import type { TransportProtocol } from '../protocol/constants.ts'
import { isForClients, isTooBig, type IcmpError } from '../protocol/icmp.ts'
import type { Expiring } from './agenda.ts'
import type { ClientLink, PeerConnection, RelayedSocket } from './io.ts'
import type { Relay } from './relay.ts'

/** An IP address of peers that may send to the client, and that it may send to (RFC 8656 §9). */
export class Permission {
  readonly address: string
  expiresAt: Micros
  /** {@link Relay.policyVersion} when the policy last agreed: another policy is asked anew. */
  policyVersion: number
  /** Does the policy look at the port too? See {@link PeerPolicy.isOwn}. */
  readonly portMatters: boolean
  /** By the peer's port. Bounded by the allocation's channels. */
  channels: Map<number, Channel> | undefined
  #path: { readonly mtu: number; readonly until: Micros } | undefined

  constructor(address: string, expiresAt: Micros, policyVersion: number, portMatters: boolean) {
    this.address = address
    this.expiresAt = expiresAt
    this.policyVersion = policyVersion
    this.portMatters = portMatters
  }

  /** Bytes of the longest IP packet that gets to the peer in one piece, as far as is known. */
  mtu(now: Micros): number {
    return this.#path !== undefined && this.#path.until > now ? this.#path.mtu : LINK_MTU
  }

  /** A router said what its next hop takes. No less than every path takes is believed, because anybody may say so. */
  narrow(now: Micros, mtu: number): void {
    const least = Math.max(mtu, familyOf(this.address) === 6 ? MIN_MTU_6 : MIN_MTU_4)
    if (least < this.mtu(now)) this.#path = { mtu: least, until: now + PATH_MTU_LIFETIME }
  }
}

/** Ethernet's. */
const LINK_MTU = 1_500
/** RFC 8200 §5; for IPv4 what Linux takes for the least (net.ipv4.route.min_pmtu). */
const MIN_MTU_6 = 1_280
const MIN_MTU_4 = 552
/** RFC 1191 §6.3 and RFC 8201 §5.3: "10 minutes", after which the path may have become wider. */
const PATH_MTU_LIFETIME: Micros = 600 * SECOND

/** A number that stands for a peer (RFC 8656 §12). */
export interface Channel {
  readonly number: number
  readonly peer: Path
  readonly permission: Permission
  readonly socket: RelayedSocket
  expiresAt: Micros
}

export interface AllocationInit {
  readonly id: number
  readonly username: string
  readonly account: string
  readonly transport: TransportProtocol
  readonly link: ClientLink
  /** Of the Allocate that made it, a character for each byte. */
  readonly transactionId: string
  readonly sockets: readonly RelayedSocket[]
  readonly expiresAt: Micros
}

// Of allocations that have none yet, one for all: nothing is ever put into these two.
const noPermissions = new Map<string, Permission>()
const noChannels = new Map<number, Channel>()

/** Relayed transport addresses of one client, and whom it may talk to through them (RFC 8656 §3.2). */
export class Allocation implements Expiring {
  readonly id: number
  readonly username: string
  readonly account: string
  readonly transport: TransportProtocol
  /** The address that the quota per source counts: the one that it was made from. */
  readonly source: string
  readonly transactionId: string
  /** One, or two of different families until {@link giveBack}. */
  sockets: readonly RelayedSocket[]
  /** Told again when the Allocate is retransmitted. */
  reservationToken: Uint8Array | undefined
  addressError: { readonly family: number; readonly code: number } | undefined
  link: ClientLink
  /** RFC 8016: the 5-tuple that the client moves to; data goes the old way until it sends some on the new one. */
  nextLink: ClientLink | undefined
  ticket: Uint8Array | undefined
  /** Recognised for a while, as the answer to the Refresh that ended it may have been lost. */
  oldTicket: Uint8Array | undefined
  expiresAt: Micros
  slot = -1
  ended = false
  packetsToPeers = 0
  packetsFromPeers = 0
  bytesToPeers = 0
  bytesFromPeers = 0
  readonly #relay: Relay
  /** By address. Bounded by the limit `permissions`. */
  #permissions = noPermissions
  /** By number. Bounded by the limit `channels`. */
  #channels = noChannels
  #connections: Map<number, PeerConnection> | undefined
  /** What the last datagram from a peer found, for the next one: nearly always the same. */
  #lastPath: Path | undefined
  #lastChannel: Channel | undefined

  constructor(relay: Relay, init: AllocationInit) {
    this.#relay = relay
    this.id = init.id
    this.username = init.username
    this.account = init.account
    this.transport = init.transport
    this.link = init.link
    this.source = init.link.remote.address
    this.transactionId = init.transactionId
    this.sockets = init.sockets
    this.expiresAt = init.expiresAt
  }

  expire(now: Micros): void {
    this.#relay.end(now, this, 'expired')
  }

  /** RFC 6062, by connection id. Bounded by the limit `connections`. Few allocations have any: made when asked for. */
  get connections(): Map<number, PeerConnection> {
    this.#connections ??= new Map()
    return this.#connections
  }

  get permissionCount(): number {
    return this.#permissions.size
  }

  get channelCount(): number {
    return this.#channels.size
  }

  /** The socket for peers of this address family. */
  socketFor(address: string): RelayedSocket | undefined {
    const family = familyOf(address)
    return this.sockets.find((socket) => familyOf(socket.address.address) === family)
  }

  /** A permission that holds now. */
  permission(now: Micros, address: string): Permission | undefined {
    const found = this.#permissions.get(address)
    return found !== undefined && found.expiresAt > now ? found : undefined
  }

  /** Is there room for so many addresses that have no permission yet? */
  hasRoomFor(now: Micros, addresses: ReadonlySet<string>, limit: number): boolean {
    const more = (): number => {
      let count = this.#permissions.size
      for (const address of addresses) if (!this.#permissions.has(address)) count++
      return count
    }
    if (more() <= limit) return true
    for (const [address, { expiresAt, channels }] of this.#permissions) {
      if (expiresAt <= now && channels === undefined) this.#permissions.delete(address)
    }
    return more() <= limit
  }

  /** Installs or refreshes. */
  permit(now: Micros, address: string, policyVersion: number, portMatters: boolean): Permission {
    const expiresAt = now + PERMISSION_LIFETIME
    const found = this.#permissions.get(address)
    if (found !== undefined) {
      found.expiresAt = expiresAt
      found.policyVersion = policyVersion
      return found
    }
    const made = new Permission(address, expiresAt, policyVersion, portMatters)
    if (this.#permissions === noPermissions) this.#permissions = new Map()
    this.#permissions.set(address, made)
    return made
  }

  /**
   * Neither the number nor the peer may be bound otherwise, now or in the last five minutes ("MUST NOT attempt to bind
   * … until 5 minutes", RFC 8656 §12.1).
   */
  mayBind(now: Micros, number: number, peer: SocketAddress): boolean {
    const byNumber = this.#channels.get(number)
    const byPeer = this.#permissions.get(peer.address)?.channels?.get(peer.port)
    if (byNumber !== undefined && byNumber === byPeer) return true
    for (const channel of [byNumber, byPeer]) {
      if (channel === undefined) continue
      if (channel.expiresAt + CHANNEL_QUARANTINE > now) return false
      this.#unbind(channel)
    }
    return true
  }

  hasRoomForChannel(now: Micros, number: number, limit: number): boolean {
    if (this.#channels.has(number) || this.#channels.size < limit) return true
    for (const channel of this.#channels.values()) {
      if (channel.expiresAt + CHANNEL_QUARANTINE <= now) this.#unbind(channel)
    }
    return this.#channels.size < limit
  }

  /** Binds or refreshes: ask {@link mayBind} before. */
  bind(
    now: Micros,
    number: number,
    peer: SocketAddress,
    permission: Permission,
    socket: RelayedSocket,
  ): void {
    const expiresAt = now + CHANNEL_LIFETIME
    const found = this.#channels.get(number)
    if (found !== undefined) {
      found.expiresAt = expiresAt
      return
    }
    const channel: Channel = { number, peer: { remote: peer }, permission, socket, expiresAt }
    if (this.#channels === noChannels) this.#channels = new Map()
    this.#channels.set(number, channel)
    permission.channels ??= new Map()
    permission.channels.set(peer.port, channel)
    this.#lastPath = undefined
  }

  #unbind(channel: Channel): void {
    const { number, peer, permission } = channel
    this.#channels.delete(number)
    permission.channels?.delete(peer.remote.port)
    if (permission.channels?.size === 0) permission.channels = undefined
    this.#lastPath = undefined
  }

  /** One address of a dual allocation ends; "MUST NOT affect" what belongs to the other family (RFC 8656 §8.1). */
  giveBack(family: 4 | 6): void {
    const gone = this.sockets.filter(({ address }) => familyOf(address.address) === family)
    this.sockets = this.sockets.filter((socket) => !gone.includes(socket))
    for (const channel of this.#channels.values()) if (gone.includes(channel.socket)) this.#unbind(channel)
    for (const address of this.#permissions.keys()) {
      if (familyOf(address) === family) this.#permissions.delete(address)
    }
    this.#lastPath = undefined
    for (const socket of gone) socket.close()
  }

  /** Does this 5-tuple own the channel? A number whose binding is over is still no other protocol's. */
  ownsChannel(number: number): boolean {
    return this.#channels.has(number)
  }

  /** ChannelData from the client (RFC 8656 §12.6): nothing but its header is read. */
  handleChannelData(now: Micros, link: ClientLink, number: number, bytes: Uint8Array): void {
    const relay = this.#relay
    const channel = this.#channels.get(number)
    const end = channelDataEnd(bytes)
    if (channel === undefined || channel.expiresAt <= now || end === -1) {
      relay.counters.droppedFromClients++
      return
    }
    if (link === this.nextLink) relay.moved(now, this)
    this.sendToPeer(now, channel.socket, channel.permission, channel.peer, bytes, CHANNEL_DATA_HEADER, end)
  }

  /** `bytes[from, to)` to the peer, whose permission has been found. */
  sendToPeer(
    now: Micros,
    socket: RelayedSocket,
    permission: Permission,
    peer: Path,
    bytes: Uint8Array,
    from: number,
    to: number,
  ): void {
    const relay = this.#relay
    const { counters } = relay
    const length = to - from
    if (
      permission.expiresAt <= now ||
      (permission.policyVersion !== relay.policyVersion && !relay.stillWelcome(this, permission, peer.remote))
    ) {
      counters.droppedFromClients++
      return
    }
    if (relay.bandwidth.metered && !relay.bandwidth.take(now, this, length)) {
      counters.droppedByBandwidth++
      return
    }
    counters.packetsToPeers++
    counters.bytesToPeers += length
    this.packetsToPeers++
    this.bytesToPeers += length
    socket.send(peer, bytes.subarray(from, to))
  }

  /** A datagram came in at one of the relayed addresses (RFC 8656 §11.3). */
  handlePeerDatagram(now: Micros, path: Path, bytes: Uint8Array): void {
    const relay = this.#relay
    const { counters } = relay
    let channel: Channel | undefined
    if (path === this.#lastPath) {
      channel = this.#lastChannel
    } else {
      channel = this.#permissions.get(path.remote.address)?.channels?.get(path.remote.port)
      this.#lastPath = path
      this.#lastChannel = channel
    }
    const permission = channel?.permission ?? this.#permissions.get(path.remote.address)
    const welcome =
      permission !== undefined &&
      permission.expiresAt > now &&
      (permission.policyVersion === relay.policyVersion || relay.stillWelcome(this, permission, path.remote))
    if (!welcome) {
      counters.droppedFromPeers++
      return
    }
    if (relay.bandwidth.metered && !relay.bandwidth.take(now, this, bytes.length)) {
      counters.droppedByBandwidth++
      return
    }
    counters.packetsFromPeers++
    counters.bytesFromPeers += bytes.length
    this.packetsFromPeers++
    this.bytesFromPeers += bytes.length
    if (channel !== undefined && channel.expiresAt > now)
      relay.toClients.channelData(this.link, channel.number, bytes)
    else relay.toClients.dataIndication(this.link, path.remote, bytes)
  }

  /**
   * A datagram to `peer` met an ICMP error (RFC 8656 §11.5). Anybody can forge one: it tells the client no more than the
   * client may ask for itself, by the peer's permission and by the policy of today, and it is told so many only.
   *
   * @param peer where the datagram went; who sent the error does not matter, nor is it told.
   */
  handlePeerIcmp(now: Micros, peer: SocketAddress, error: IcmpError): void {
    const relay = this.#relay
    const family = familyOf(peer.address)
    const permission = this.permission(now, peer.address)
    const told =
      permission !== undefined &&
      !this.ended &&
      isForClients(family, error) &&
      (permission.policyVersion === relay.policyVersion || relay.stillWelcome(this, permission, peer)) &&
      relay.icmp.take(now, this.account)
    if (!told) {
      relay.counters.droppedIcmp++
      return
    }
    const isLonger = isTooBig(family, error)
    if (isLonger) permission.narrow(now, error.data)
    relay.counters.icmpToClients++
    relay.toClients.icmpIndication(this.link, peer, isLonger ? error : { ...error, data: 0 })
  }
}
