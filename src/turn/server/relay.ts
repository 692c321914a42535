import type { SocketAddress } from '../../core/address.ts'
import { formatAddress } from '../../core/address.ts'
import { SECOND, type Deadline, type Micros } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { StunBuilder } from '../../stun/codec/builder.ts'
import {
  Attribute,
  ErrorCode,
  MessageClass,
  Method,
  reasonPhrase,
  requiredAttributes,
} from '../../stun/codec/registry.ts'
import type { StunView } from '../../stun/codec/view.ts'
import type { Authentication, ServerAuth } from '../../stun/credentials/server.ts'
import { SourceLimiter, type RateLimit } from '../../stun/server/limiter.ts'
import type { AddressFamily } from '../protocol/constants.ts'
import { Agenda } from './agenda.ts'
import type { Allocation, Permission } from './allocation.ts'
import { Allocating } from './allocating.ts'
import { Bandwidth } from './bandwidth.ts'
import type { ClientLink, EndReason, Opened, PeerConnection, RelayEvent, Siblings } from './io.ts'
import { defaultLimits, sourceKey, Tally, type RelayLimits } from './limits.ts'
import { IcmpBudgets } from './icmp.ts'
import { Mobility } from './mobility.ts'
import { handleChannelBind, handleCreatePermission, handleSend } from './peers.ts'
import { PeerPolicy } from './policy.ts'
import { TcpRelaying } from './tcp.ts'
import { ToClients } from './to-clients.ts'

/** What may change while the relay runs: see {@link Relay.configure}. */
export interface RelaySettings {
  /** Who may allocate: there is no way to run without. */
  readonly auth: ServerAuth
  /** Default: {@link PeerPolicy}'s, globally reachable unicast addresses only. */
  readonly policy?: PeerPolicy
  readonly limits?: Partial<RelayLimits>
  /** Relay TCP too (RFC 6062): a way to scan ports and speak to services, so not unless asked for. */
  readonly tcp?: boolean
  /** Let clients move to another address with their allocation (RFC 8016); default true. */
  readonly mobility?: boolean
  /** Said in SOFTWARE to who has credentials; default: nothing. */
  readonly software?: string
  /** Requests of strangers: from 5-tuples without an allocation. Default: 200 per second and source network, 1,000 at once. */
  readonly rateLimit?: RateLimit | false
}

export interface RelayOptions extends RelaySettings {
  readonly rng: Rng
  /** Of the relayed transport addresses that can be had, the first by default. */
  readonly families: readonly AddressFamily[]
  /** Do the sockets leave DF set (RFC 8656 §14)? Otherwise DONT-FRAGMENT is an unknown attribute. */
  readonly dontFragment?: boolean
  /** Where this relay is one of several. */
  readonly siblings?: Siblings
}

/** Since the start. */
export interface RelayCounters {
  allocationsMade: number
  requests: number
  /** Error responses, by code. */
  readonly errors: Map<number, number>
  /** Requests dropped by the rate limit. */
  limited: number
  packetsToPeers: number
  packetsFromPeers: number
  bytesToPeers: number
  bytesFromPeers: number
  /** No channel, no permission, or a length that lies. */
  droppedFromClients: number
  /** No permission. */
  droppedFromPeers: number
  droppedByBandwidth: number
  /** ICMP errors that clients were told of. */
  icmpToClients: number
  /** ICMP errors that they were not: no permission, or too many. */
  droppedIcmp: number
  /** Peers that the policy refused, whatever the request. */
  deniedPeers: number
}

/** A request whose sender is known. */
export interface Ask {
  readonly now: Micros
  readonly link: ClientLink
  readonly view: StunView
  readonly user: Authentication & { ok: true }
}

/**
 * The TURN server (RFC 8656, RFC 6062, RFC 8016) behind all ports that clients come to. It owns no socket: requests
 * come with the {@link ClientLink} they came by, relayed sockets are asked for by {@link pollEvent} and answered with
 * {@link opened}. After each call, drain the events and look at {@link pollTimeout}.
 */
export class Relay {
  readonly counters: RelayCounters = {
    allocationsMade: 0,
    requests: 0,
    errors: new Map(),
    limited: 0,
    packetsToPeers: 0,
    packetsFromPeers: 0,
    bytesToPeers: 0,
    bytesFromPeers: 0,
    droppedFromClients: 0,
    droppedFromPeers: 0,
    droppedByBandwidth: 0,
    icmpToClients: 0,
    droppedIcmp: 0,
    deniedPeers: 0,
  }
  readonly rng: Rng
  readonly families: readonly AddressFamily[]
  readonly dontFragment: boolean
  readonly siblings: Siblings | undefined
  readonly toClients: ToClients
  readonly bandwidth = new Bandwidth()
  readonly icmp = new IcmpBudgets()
  readonly agenda = new Agenda()
  readonly perUser = new Tally()
  readonly perSource = new Tally()
  limits: RelayLimits = defaultLimits
  policy = new PeerPolicy()
  /** Counts the policies: what an earlier one agreed to is asked anew. */
  policyVersion = 0
  tcpAllowed = false
  mobilityAllowed = true
  /** Where new clients are sent instead (300), or nowhere (508); undefined: they are served. */
  draining: { readonly alternate: SocketAddress | undefined } | undefined
  /** By id. Bounded by the limit `allocations`. */
  readonly allocations = new Map<number, Allocation>()
  #auth: ServerAuth
  #software: string | undefined
  #limiter: SourceLimiter | undefined
  /** Drained after every call; beyond MAX_EVENTS news is dropped, never a request for a socket. */
  readonly #events: RelayEvent[] = []
  readonly #allocating: Allocating
  readonly #mobility: Mobility
  readonly #tcp: TcpRelaying
  readonly #response = new StunBuilder()

  constructor(options: RelayOptions) {
    this.rng = options.rng
    this.toClients = new ToClients(options.rng)
    this.families = options.families
    this.dontFragment = options.dontFragment ?? false
    this.siblings = options.siblings
    this.#auth = options.auth
    this.#allocating = new Allocating(this)
    this.#mobility = new Mobility(this)
    this.#tcp = new TcpRelaying(this)
    this.configure(options)
  }

  /** Takes other settings: allocations stay, and what they may do is judged by the new ones from now on. */
  configure(settings: RelaySettings): void {
    const { rateLimit = { perSecond: 200, burst: 1_000 } } = settings
    this.#auth = settings.auth
    this.#software = settings.software
    this.policy = settings.policy ?? new PeerPolicy()
    this.policyVersion++
    this.limits = { ...defaultLimits, ...settings.limits }
    this.tcpAllowed = (settings.tcp ?? false) && this.siblings === undefined
    this.mobilityAllowed = (settings.mobility ?? true) && this.siblings === undefined
    this.#limiter = rateLimit === false ? undefined : new SourceLimiter(this.rng, rateLimit)
    this.bandwidth.configure(this.limits)
  }

  /**
   * A STUN message from a client.
   *
   * @param view an open one.
   * @returns false when it is no message of TURN's, and nothing has changed.
   */
  handleMessage(now: Micros, link: ClientLink, view: StunView): boolean {
    const { method, messageClass } = view
    if (method === Method.Send) {
      if (messageClass === MessageClass.Indication) handleSend(this, now, link, view)
      return true
    }
    const handler = messageClass === MessageClass.Request ? this.#handlerOf(method) : undefined
    if (handler === undefined) return false
    this.counters.requests++
    const { allocation } = link
    if (allocation === undefined && !this.#withinRate(now, link)) return true
    const user = this.#authenticate(now, link, view)
    // From the 5-tuple of an allocation others' passwords are guessed no faster.
    const isOwner = user.ok && user.account === allocation?.account
    if (allocation !== undefined && !isOwner && !this.#withinRate(now, link)) return true
    if (!user.ok) {
      this.#reject(link, view, user.code, { challenge: user.challenge })
      return true
    }
    const ask: Ask = { now, link, view, user }
    const unknown = view.unknownRequired(understood)
    if (unknown.length > 0) {
      this.refuse(ask, ErrorCode.UnknownAttribute, (response) => response.unknownAttributes(unknown))
    } else {
      handler(ask)
    }
    return true
  }

  handleTimeout(now: Micros): void {
    this.agenda.sweep(now)
  }

  pollEvent(): RelayEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    const at = this.agenda.next
    return at === undefined ? undefined : { at, reason: 'expiry of allocations' }
  }

  /** The answer to the event `open`. */
  opened(now: Micros, ticket: number, opened: Opened): void {
    this.#allocating.opened(now, ticket, opened)
  }

  /** The answer to the event `connect`: the connection, or undefined when it failed. */
  connected(now: Micros, ticket: number, connection: PeerConnection | undefined): void {
    this.#tcp.connected(now, ticket, connection)
  }

  /** A peer has connected to the relayed address of a TCP allocation. */
  peerConnected(now: Micros, allocation: Allocation, connection: PeerConnection): void {
    this.#tcp.peerConnected(now, allocation, connection)
  }

  /** The TCP or TLS connection of a client has ended. */
  linkClosed(now: Micros, link: ClientLink): void {
    const { allocation } = link
    this.#allocating.linkClosed(link)
    if (allocation === undefined) return
    if (allocation.nextLink !== undefined && allocation.link === link) this.moved(now, allocation)
    else if (allocation.nextLink === link) allocation.nextLink = undefined
    // With a ticket the client can come back by another connection, until the allocation expires.
    else if (allocation.ticket === undefined) this.end(now, allocation, 'connection lost')
  }

  /** Ends everything. */
  shutDown(now: Micros): void {
    for (const allocation of [...this.allocations.values()]) this.end(now, allocation, 'shut down')
    this.#allocating.close()
  }

  /** The client has been heard on the 5-tuple it moved to (RFC 8016 §3.2.2). */
  moved(now: Micros, allocation: Allocation): void {
    this.#mobility.moved(now, allocation)
  }

  /** RFC 8016: what lets the client come back from another address. */
  giveTicket(allocation: Allocation): void {
    this.#mobility.give(allocation)
  }

  /** Ends an allocation, and closes what it holds. */
  end(_now: Micros, allocation: Allocation, reason: EndReason): void {
    if (allocation.ended) return
    allocation.ended = true
    this.agenda.leave(allocation)
    this.allocations.delete(allocation.id)
    this.#mobility.forget(allocation)
    this.bandwidth.leave(allocation)
    this.release(allocation.account, allocation.source)
    for (const socket of allocation.sockets) socket.close()
    this.#tcp.closeAll(allocation)
    for (const link of [allocation.link, allocation.nextLink]) {
      if (link === undefined) continue
      link.allocation = undefined
      link.released()
    }
    this.tell({ type: 'ended', allocation, reason })
  }

  /** Counts one allocation less. */
  release(account: string, source: string): void {
    if (this.perUser.remove(account) === 0) this.icmp.forget(account)
    this.perSource.remove(sourceKey(source))
    this.siblings?.release(account, source)
  }

  add(allocation: Allocation): void {
    this.allocations.set(allocation.id, allocation)
    this.agenda.enter(allocation)
    this.counters.allocationsMade++
    this.tell({ type: 'created', allocation })
  }

  /**
   * RFC 6062: bytes of a data connection, which cannot be dropped.
   *
   * @returns microseconds that the connection has to rest, for the bandwidth to be kept to.
   */
  carry(now: Micros, allocation: Allocation, toPeer: boolean, bytes: number): Micros {
    if (toPeer) {
      this.counters.bytesToPeers += bytes
      allocation.bytesToPeers += bytes
    } else {
      this.counters.bytesFromPeers += bytes
      allocation.bytesFromPeers += bytes
    }
    return this.bandwidth.charge(now, allocation, bytes)
  }

  /** Asks the policy of today what an earlier one allowed. */
  stillWelcome(allocation: Allocation, permission: Permission, peer: SocketAddress): boolean {
    const refusal = this.policy.refuses(peer)
    if (permission.portMatters) {
      if (refusal !== undefined) this.counters.deniedPeers++
      return refusal === undefined
    }
    if (refusal === undefined) {
      permission.policyVersion = this.policyVersion
      return true
    }
    permission.expiresAt = 0
    this.counters.deniedPeers++
    this.tell({
      type: 'refused',
      client: allocation.link.remote,
      method: Method.CreatePermission,
      code: ErrorCode.Forbidden,
      reason: refusal,
      username: allocation.username,
      allocation: allocation.id,
      peer: formatAddress(peer),
    })
    return false
  }

  /** A success response. */
  succeed({ link, view, user }: Ask, details?: (response: StunBuilder) => unknown): void {
    const response = this.#response.startResponse(view, MessageClass.Success)
    details?.(response)
    this.#finish(view, response, user)
    link.send(response.view())
  }

  /** An error response to who has credentials, and a word to the log. */
  refuse(ask: Ask, code: number, details?: (response: StunBuilder) => unknown, because?: Because): void {
    this.#reject(ask.link, ask.view, code, {
      user: ask.user,
      ...(details && { challenge: details }),
      ...because,
    })
  }

  tell(event: RelayEvent): void {
    if (this.#events.length < MAX_EVENTS || event.type === 'open' || event.type === 'connect') {
      this.#events.push(event)
    }
  }

  readonly #handlers: ReadonlyMap<number, (ask: Ask) => void> = new Map([
    [Method.Allocate, (ask: Ask) => this.#allocating.handle(ask)],
    [Method.Refresh, (ask: Ask) => this.#mobility.handleRefresh(ask)],
    [Method.CreatePermission, (ask: Ask) => handleCreatePermission(this, ask)],
    [Method.ChannelBind, (ask: Ask) => handleChannelBind(this, ask)],
    [Method.Connect, (ask: Ask) => this.#tcp.handleConnect(ask)],
    [Method.ConnectionBind, (ask: Ask) => this.#tcp.handleConnectionBind(ask)],
  ])

  #withinRate(now: Micros, link: ClientLink): boolean {
    if (this.#limiter?.take(now, link.remote.address) !== false) return true
    this.counters.limited++
    return false
  }

  #handlerOf(method: number): ((ask: Ask) => void) | undefined {
    return this.#handlers.get(method)
  }

  /** The allocation of this 5-tuple, when its owner asks; otherwise the request is answered (RFC 8656 §5). */
  allocationOf(ask: Ask): Allocation | undefined {
    const { allocation } = ask.link
    if (allocation === undefined) {
      this.refuse(ask, ErrorCode.AllocationMismatch)
      return undefined
    }
    // Time-limited credentials end sooner than what was allocated with them: newer ones of the same user do as well.
    if (allocation.account !== ask.user.account) {
      this.refuse(ask, ErrorCode.WrongCredentials, undefined, { allocation: allocation.id })
      return undefined
    }
    return allocation
  }

  /**
   * A data connection of RFC 6062 may answer the nonce of its control connection: it is the same client by another port,
   * and clients such as coturn's know no other nonce by then.
   */
  #authenticate(now: Micros, link: ClientLink, view: StunView): Authentication {
    const user = this.#auth.check(now, view, link.remote)
    if (user.ok || user.code !== ErrorCode.StaleNonce || view.method !== Method.ConnectionBind) return user
    const control = this.#tcp.controlOf(view)
    if (control?.address !== link.remote.address) return user
    const asControl = this.#auth.check(now, view, control)
    return asControl.ok ? asControl : user
  }

  #reject(
    link: ClientLink,
    view: StunView,
    code: number,
    {
      user,
      challenge,
      ...because
    }: {
      user?: Authentication & { ok: true }
      challenge?: (response: StunBuilder) => unknown
    } & Because,
  ): void {
    const { errors } = this.counters
    errors.set(code, (errors.get(code) ?? 0) + 1)
    const response = this.#response.startResponse(view, MessageClass.Error)
    // To an address that nothing vouches for, not a byte more than needed.
    const unproven = user === undefined && link.kind === 'udp'
    if (unproven) response.errorCode(code, '')
    else response.errorCode(code)
    challenge?.(response)
    this.#finish(view, response, user)
    link.send(response.view())
    // The first challenge is how everybody begins.
    if (user === undefined && !view.has(Attribute.Username) && !view.has(Attribute.Userhash)) return
    this.tell({
      type: 'refused',
      client: link.remote,
      method: view.method,
      code,
      reason: because.reason ?? reasonPhrase(code),
      ...(user && { username: user.username }),
      ...(because.allocation !== undefined && { allocation: because.allocation }),
      ...(because.peer !== undefined && { peer: because.peer }),
    })
  }

  #finish(view: StunView, response: StunBuilder, user: (Authentication & { ok: true }) | undefined): void {
    if (user !== undefined) {
      if (this.#software !== undefined) response.text(Attribute.Software, this.#software)
      user.sign(response)
    }
    if (view.hasFingerprint) response.fingerprint()
  }
}

/** Words for the log: never for the client. */
interface Because {
  readonly reason?: string
  readonly allocation?: number
  readonly peer?: string
}

/** Seconds, as LIFETIME has them. */
export const seconds = (span: Micros): number => Math.max(0, Math.round(span / SECOND))

/** News that waits: what comes above it is not told. */
const MAX_EVENTS = 10_000

/** Comprehension-required attributes that a TURN server knows, whatever the method they belong to (RFC 8489 §6.3). */
const understood: ReadonlySet<number> = new Set([
  ...requiredAttributes,
  Attribute.ChannelNumber,
  Attribute.Lifetime,
  Attribute.XorPeerAddress,
  Attribute.Data,
  Attribute.XorRelayedAddress,
  Attribute.RequestedAddressFamily,
  Attribute.EvenPort,
  Attribute.RequestedTransport,
  Attribute.DontFragment,
  Attribute.ReservationToken,
  Attribute.ConnectionId,
])
