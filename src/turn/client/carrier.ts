import type { SocketAddress } from '../../core/address.ts'
import { familyOf, formatAddress } from '../../core/address.ts'
import { canonicalIp } from '../../core/ip.ts'
import type { Carrier, Micros, Path, Transmit } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { Attribute, MessageClass, Method, StunBuilder, type StunPeerError } from '../../stun/index.ts'
import {
  CHANNEL_DATA_HEADER,
  channelDataEnd,
  channelOf,
  streamedChannelDataLength,
  writeChannelData,
} from '../protocol/index.ts'
import { Channels } from './channels.ts'
import { FrameRing } from './frames.ts'
import { Peer } from './peer.ts'
import type { Allocation } from './options.ts'
import { MAX_HELD, Permissions, type Permission } from './permissions.ts'
import type { Requests } from './requests.ts'

export interface RelayCarrierOptions {
  readonly rng: Rng
  readonly requests: Requests
  readonly reliable: boolean
  /** Whether Send indications carry DONT-FRAGMENT (RFC 8656 §14). */
  readonly dontFragment: () => boolean
  /** A datagram for the server, to be sent at once. Its bytes are overwritten after some hundred more. */
  readonly output: (now: Micros, bytes: Uint8Array) => boolean
  /** A datagram from a peer. Its bytes are the receiver's only during the call. */
  readonly input: (path: Path, bytes: Uint8Array) => void
  readonly refused: (address: string, error: StunPeerError) => void
  readonly mismatched: (now: Micros, error: StunPeerError) => void
  readonly doubted: (now: Micros) => void
}

/** Since the carrier was made. */
export interface CarrierCounters {
  sent: number
  received: number
  /** Not sent: no allocation, no permission yet, or too many peers. */
  dropped: number
}

/**
 * One allocation on one server, as what carries datagrams: a new allocation is a new carrier, since peers see it at
 * another address.
 */
export class RelayCarrier implements Carrier {
  readonly kind = 'relay'
  readonly counters: CarrierCounters = { sent: 0, received: 0, dropped: 0 }
  readonly #options: RelayCarrierOptions
  readonly #permissions: Permissions
  readonly #channels: Channels
  readonly #builder = new StunBuilder()
  readonly #frames = new FrameRing()
  readonly #transactionId = new Uint8Array(12)
  // Bounded by MAX_PEERS: the one used longest ago goes whose channel the server has forgotten.
  readonly #peers = new Map<string, Peer>()
  /** An entry lives as long as its path. */
  readonly #behind = new WeakMap<Path, Peer>()
  #isLive = false
  #isDead = false

  constructor(options: RelayCarrierOptions) {
    this.#options = options
    const { requests, mismatched, doubted } = options
    this.#permissions = new Permissions(requests, {
      granted: (now, permission) => this.#release(now, permission),
      refused: options.refused,
      mismatched,
      doubted,
    })
    this.#channels = new Channels(requests, this.#permissions, { mismatched, doubted })
  }

  /** The server has the allocation: what was asked for before is asked of it now. */
  live(now: Micros, { relayed }: Allocation): void {
    this.#isLive = true
    this.#permissions.resume(now, new Set(relayed.map(({ address }) => familyOf(address))))
  }

  /** Nothing can be sent for now, and open requests were given up: what is sent is held or dropped. */
  pause(): void {
    this.#isLive = false
    this.#permissions.cancelled()
    this.#channels.cancelled()
  }

  /** The allocation is gone, and every path through it. */
  die(): void {
    this.#isDead = true
    this.#isLive = false
    this.#peers.clear()
  }

  get pinned(): string[] {
    return this.#permissions.pinned
  }

  /** Keeps a permission for this address until {@link unpin}. False when there is no room for another. */
  pin(now: Micros, address: string): boolean {
    const permission = this.#permissions.entry(now, canonicalIp(address))
    if (permission === undefined) return false
    permission.pinned = true
    if (this.#isLive) this.#permissions.want(now, permission)
    return true
  }

  unpin(address: string): void {
    this.#permissions.unpin(canonicalIp(address))
  }

  /** The path to a peer; what is sent on it finds its own way to a permission and a channel. */
  path(remote: SocketAddress): Path {
    const address = canonicalIp(remote.address)
    const at = { address, port: remote.port }
    return this.#peer(-Infinity, at) ?? { remote: at, via: this }
  }

  send(now: Micros, { path, data }: Transmit): void {
    const peer = path instanceof Peer && !path.evicted ? path : this.#peerBehind(now, path)
    if (peer === undefined || this.#isDead) {
      this.counters.dropped++
      return
    }
    peer.usedAt = now
    peer.permission.usedAt = now
    if (peer.bound && now < peer.boundUntil) {
      this.#sendChannelData(now, peer.channel, data)
      return
    }
    const permission = this.#permissionOf(now, peer)
    if (permission === undefined) {
      this.counters.dropped++
    } else if (!this.#isLive || permission.until <= now) {
      this.#hold(now, peer, permission, data)
    } else {
      if (++peer.sent >= BIND_AFTER) this.#channels.bind(now, peer)
      this.#sendIndication(now, peer, data)
    }
  }

  /** @returns false when nobody here has that channel. */
  handleChannelData(bytes: Uint8Array): boolean {
    const peer = this.#channels.peerOf(channelOf(bytes))
    if (peer === undefined || this.#isDead) return false
    const end = channelDataEnd(bytes)
    if (end === -1) return true
    this.counters.received++
    this.#options.input(peer, bytes.subarray(CHANNEL_DATA_HEADER, end))
    return true
  }

  /** A Data indication with DATA. The server must not send it without a permission; the client checks (§11.4). */
  handleData(now: Micros, from: SocketAddress, data: Uint8Array): void {
    if (this.#isDead || !this.#permissions.has(now, from.address)) return
    const peer = this.#peer(now, from)
    if (peer === undefined) return
    this.counters.received++
    this.#options.input(peer, data)
  }

  isPermitted(now: Micros, address: string): boolean {
    return this.#permissions.has(now, address)
  }

  handleTimeout(now: Micros): void {
    if (!this.#isLive) return
    this.#permissions.handleTimeout(now)
    this.#channels.handleTimeout(now)
  }

  get nextAt(): Micros {
    return this.#isLive ? Math.min(this.#permissions.nextAt, this.#channels.nextAt) : Infinity
  }

  /** For a path that somebody else made to the same place: looked up by its address once, not with every datagram. */
  #peerBehind(now: Micros, path: Path): Peer | undefined {
    const known = this.#behind.get(path)
    if (known !== undefined && !known.evicted) return known
    const peer = this.#peer(now, path.remote)
    if (peer !== undefined) this.#behind.set(path, peer)
    return peer
  }

  #peer(now: Micros, remote: SocketAddress): Peer | undefined {
    const key = formatAddress(remote)
    const known = this.#peers.get(key)
    if (known !== undefined) return known
    if (this.#isDead) return undefined
    const permission = this.#permissions.entry(now, remote.address)
    if (permission === undefined || (this.#peers.size >= MAX_PEERS && !this.#evict(now))) return undefined
    const made = new Peer(remote, this, permission, now)
    this.#peers.set(key, made)
    return made
  }

  #evict(now: Micros): boolean {
    let oldest: Peer | undefined
    for (const peer of this.#peers.values()) {
      if (peer.binding || (peer.channel !== 0 && now < peer.freeAt)) continue
      if (oldest === undefined || peer.usedAt < oldest.usedAt) oldest = peer
    }
    if (oldest === undefined || !this.#channels.release(now, oldest)) return false
    oldest.evicted = true
    return this.#peers.delete(oldest.key)
  }

  #permissionOf(now: Micros, peer: Peer): Permission | undefined {
    if (peer.permission.evicted) {
      const entry = this.#permissions.entry(now, peer.remote.address)
      if (entry === undefined) return undefined
      peer.permission = entry
      entry.usedAt = now
    }
    return peer.permission
  }

  #hold(now: Micros, peer: Peer, permission: Permission, data: Uint8Array): void {
    if (this.#isLive) this.#permissions.want(now, permission)
    const { requests } = this.#options
    const mayGoAhead = !permission.wentAhead && data.length <= MAX_AHEAD && requests.isFresh(now)
    if (mayGoAhead && this.#permissions.isOnItsWay(permission)) {
      // The server takes what comes in order: what is small and urgent does not wait for the answer.
      permission.wentAhead = true
      requests.sendBehind(this.#indication(peer, data).slice())
      this.counters.sent++
    } else if (permission.held.length < MAX_HELD && permission.askAfter <= now) {
      permission.held.push({ peer, data: Uint8Array.from(data) })
    } else {
      this.counters.dropped++
    }
  }

  #release(now: Micros, permission: Permission): void {
    const { held } = permission
    permission.held = []
    for (const { peer, data } of held) this.send(now, { path: peer, data })
  }

  #sendChannelData(now: Micros, channel: number, data: Uint8Array): void {
    const { reliable, output } = this.#options
    const { length } = data
    if (length > MAX_DATA) {
      this.counters.dropped++
      return
    }
    const frame = this.#frames.take(
      reliable ? streamedChannelDataLength(length) : CHANNEL_DATA_HEADER + length,
    )
    writeChannelData(frame, channel, data, reliable)
    if (output(now, frame)) this.counters.sent++
    else this.counters.dropped++
  }

  #sendIndication(now: Micros, peer: Peer, data: Uint8Array): void {
    if (data.length > MAX_DATA) {
      this.counters.dropped++
      return
    }
    const message = this.#indication(peer, data)
    const frame = this.#frames.take(message.length)
    frame.set(message)
    if (this.#options.output(now, frame)) this.counters.sent++
    else this.counters.dropped++
  }

  /** Its bytes are overwritten by the next. */
  #indication(peer: Peer, data: Uint8Array): Uint8Array {
    const { rng, dontFragment } = this.#options
    // New for each: some servers take a repeated one for a retransmission.
    rng.fill(this.#transactionId)
    const builder = this.#builder
      .start(Method.Send, MessageClass.Indication, this.#transactionId)
      .xorAddress(Attribute.XorPeerAddress, peer.remote)
    if (dontFragment()) builder.flag(Attribute.DontFragment)
    return builder.bytes(Attribute.Data, data).view()
  }
}

/** Peers that one allocation knows by address and port: of a permitted address, a stranger may use any port. */
const MAX_PEERS = 512
/** Send indications to one peer before it gets a channel: checks of a path that is not taken need none. */
const BIND_AFTER = 8
/** Bytes of a datagram that goes ahead of its permission: a check, a handshake's first, not a stream. */
const MAX_AHEAD = 200
/** The longest payload of a UDP datagram, less what a Send indication adds. */
const MAX_DATA = 65_400
