import { SECOND, type Micros } from '../../core/machine.ts'
import { Attribute, ErrorCode, Method, type StunPeerError } from '../../stun/index.ts'
import {
  CHANNEL_LIFETIME,
  CHANNEL_QUARANTINE,
  FIRST_CHANNEL,
  LAST_CHANNEL,
  looksLikeUtp,
  PERMISSION_LIFETIME,
} from '../protocol/index.ts'
import type { Peer } from './peer.ts'
import { PATIENCE, type Permissions } from './permissions.ts'
import type { Answer, Requests } from './requests.ts'

export interface ChannelsHandler {
  /** 437: the server has no allocation for us; 400 to a refresh: it has another idea of our channels (§12.3). */
  mismatched(now: Micros, error: StunPeerError): void
  /** 437 without proof. */
  doubted(now: Micros): void
}

/**
 * Channels: bound when a peer gets enough datagrams, bound again ahead of the expiry of the permission that comes with
 * them, for as long as we send. Never 0x4100–0x41FF, which on a shared port are uTP's.
 */
export class Channels {
  readonly #requests: Requests
  readonly #permissions: Permissions
  readonly #handler: ChannelsHandler
  // By number. Bounded by LAST_CHANNEL − FIRST_CHANNEL, and by MAX_PEERS of carrier.ts.
  readonly #byNumber = new Map<number, Peer>()
  #next = FIRST_CHANNEL
  #inFlight = 0
  #nextAt: Micros = Infinity

  constructor(requests: Requests, permissions: Permissions, handler: ChannelsHandler) {
    this.#requests = requests
    this.#permissions = permissions
    this.#handler = handler
  }

  /** Whose channel this is. As soon as we have asked for one, data may come by it (RFC 8656 §12). */
  peerOf(channel: number): Peer | undefined {
    return this.#byNumber.get(channel)
  }

  /** Asks for a channel to this peer, or for the one it had. */
  bind(now: Micros, peer: Peer): void {
    if (peer.binding || now < peer.bindAfter || this.#inFlight >= MAX_IN_FLIGHT) return
    if (peer.channel === 0) {
      peer.channel = this.#freeNumber(now)
      if (peer.channel === 0) return
      this.#byNumber.set(peer.channel, peer)
    }
    peer.binding = true
    this.#inFlight++
    // Until the answer, the server may or may not have bound it.
    peer.freeAt = now + CHANNEL_LIFETIME + CHANNEL_QUARANTINE
    this.#requests.ask(now, {
      method: Method.ChannelBind,
      attributes: (builder) =>
        builder
          .uint16(Attribute.ChannelNumber, peer.channel)
          .xorAddress(Attribute.XorPeerAddress, peer.remote),
      timing: PATIENCE,
      doubted: (at) => this.#handler.doubted(at),
      done: (at, answer) => {
        this.#inFlight--
        peer.binding = false
        this.#answered(at, peer, answer)
      },
    })
  }

  handleTimeout(now: Micros): void {
    if (now < this.#nextAt) return
    this.#nextAt = Infinity
    for (const peer of this.#byNumber.values()) {
      if (peer.boundUntil <= now) peer.bound = false
      if (peer.bound && peer.refreshAt <= now && !peer.binding) {
        // Not sent to for as long as a permission lives: it goes, and comes back with the next datagrams.
        if (now - peer.usedAt < PERMISSION_LIFETIME) this.bind(now, peer)
        // In case there are too many of these at once, or the answer does not come.
        peer.refreshAt = now + RETRY
      }
      if (peer.bound) this.#nextAt = Math.min(this.#nextAt, peer.refreshAt, peer.boundUntil)
    }
  }

  /** The open requests were given up. */
  cancelled(): void {
    this.#inFlight = 0
    for (const peer of this.#byNumber.values()) peer.binding = false
    this.#nextAt = -Infinity
  }

  get nextAt(): Micros {
    return this.#nextAt
  }

  /** Takes a peer's number back. False as long as the server may remember it. */
  release(now: Micros, peer: Peer): boolean {
    if (peer.channel === 0) return true
    if (peer.binding || now < peer.freeAt) return false
    this.#byNumber.delete(peer.channel)
    peer.channel = 0
    return true
  }

  #answered(now: Micros, peer: Peer, answer: Answer): void {
    if (answer.ok) {
      peer.bound = true
      // The permission that comes with it is shorter-lived than the binding, and without it nothing passes.
      peer.boundUntil = answer.since + PERMISSION_LIFETIME
      peer.refreshAt = peer.boundUntil - REFRESH_AHEAD
      peer.freeAt = answer.since + CHANNEL_LIFETIME + CHANNEL_QUARANTINE
      this.#nextAt = Math.min(this.#nextAt, peer.refreshAt)
      this.#permissions.renewed(answer.since, now, peer.permission)
      return
    }
    const { error, status } = answer
    if (
      status === ErrorCode.AllocationMismatch ||
      (status === ErrorCode.BadRequest && peer.boundUntil > now)
    ) {
      this.#handler.mismatched(now, error)
      return
    }
    // Send indications do as well, if the peer may be reached at all.
    peer.bindAfter = now + (status === 0 ? RETRY : AFTER_REFUSAL)
  }

  /** 0 when there is none. In turn, so that a number rests as long as possible. */
  #freeNumber(now: Micros): number {
    for (let tried = FIRST_CHANNEL; tried <= LAST_CHANNEL; tried++) {
      const number = this.#next
      this.#next = number === LAST_CHANNEL ? FIRST_CHANNEL : number + 1
      if (looksLikeUtp(number)) continue
      const owner = this.#byNumber.get(number)
      if (owner === undefined || this.release(now, owner)) return number
    }
    return 0
  }
}

/** Each costs an open transaction. */
const MAX_IN_FLIGHT = 8
const REFRESH_AHEAD = 60 * SECOND
const RETRY = 5 * SECOND
const AFTER_REFUSAL = 60 * SECOND
