import { SECOND, type Micros } from '../../core/machine.ts'
import { familyOf } from '../../core/address.ts'
import { Attribute, ErrorCode, Method, StunPeerError, type StunBuilder } from '../../stun/index.ts'
import { PERMISSION_LIFETIME } from '../protocol/index.ts'
import type { Peer } from './peer.ts'
import type { Answer, Requests } from './requests.ts'

/** The relay's leave to exchange datagrams with one IP address, whatever the port (RFC 8656 §9). */
export class Permission {
  readonly address: string
  /** Asked for by the application: kept until it says otherwise, used or not. */
  pinned = false
  /** Taken out of the table, to make room. */
  evicted = false
  /** Waits for its turn in a request, or for its answer. */
  asking = false
  /** Refused together with others: next time it is asked for alone, to find out which one it was. */
  alone = false
  /** When it runs out at the server. */
  until: Micros = -Infinity
  refreshAt: Micros = Infinity
  /** After a refusal or silence: not asked for again before this. */
  askAfter: Micros = -Infinity
  /** When we last sent to that address. */
  usedAt: Micros = -Infinity
  /** One datagram follows each request without waiting for its answer. */
  wentAhead = false
  /** What waits for the answer, bounded by MAX_HELD; then datagrams are dropped, as a network would. */
  held: { readonly peer: Peer; readonly data: Uint8Array }[] = []

  constructor(address: string) {
    this.address = address
  }
}

export interface PermissionsHandler {
  granted(now: Micros, permission: Permission): void
  /** The server says no; silence is no answer. */
  refused(address: string, error: StunPeerError): void
  /** 437: the server has no allocation for us. */
  mismatched(now: Micros, error: StunPeerError): void
  /** The same, without proof. */
  doubted(now: Micros): void
}

/**
 * Permissions: asked for when first needed, several in one request, one request at a time; refreshed a minute ahead of
 * expiry for as long as they are used or pinned.
 */
export class Permissions {
  readonly #requests: Requests
  readonly #handler: PermissionsHandler
  // Bounded by MAX_PERMISSIONS: the one used longest ago goes, pinned ones never.
  readonly #byAddress = new Map<string, Permission>()
  #waiting: Permission[] = []
  #inFlight = false
  /** Of the relayed addresses: others are not asked for (§10.1). */
  #families: ReadonlySet<4 | 6> = new Set()
  #nextAt: Micros = Infinity

  constructor(requests: Requests, handler: PermissionsHandler) {
    this.#requests = requests
    this.#handler = handler
  }

  get pinned(): string[] {
    return [...this.#byAddress.values()].filter(({ pinned }) => pinned).map(({ address }) => address)
  }

  /** Is it there, or on its way? Only then is what comes from that address ours (RFC 8656 §11.4). */
  has(now: Micros, address: string): boolean {
    const permission = this.#byAddress.get(address)
    return permission !== undefined && (permission.asking || permission.until > now)
  }

  /** The entry for an address; undefined when there is no room for another. */
  entry(now: Micros, address: string): Permission | undefined {
    const known = this.#byAddress.get(address)
    if (known !== undefined) return known
    if (this.#byAddress.size >= MAX_PERMISSIONS && !this.#evict()) return undefined
    const made = new Permission(address)
    made.usedAt = now
    this.#byAddress.set(address, made)
    return made
  }

  /** Whether the request for it has gone out, and not come back yet. */
  isOnItsWay(permission: Permission): boolean {
    return permission.asking && !this.#waiting.includes(permission)
  }

  unpin(address: string): void {
    const permission = this.#byAddress.get(address)
    if (permission !== undefined) permission.pinned = false
  }

  /** Needed now: asks for it unless it is there, on its way, or was refused a moment ago. */
  want(now: Micros, permission: Permission): void {
    if (permission.asking || permission.until > now || permission.askAfter > now) return
    this.#enqueue(now, permission)
  }

  /** Asks for what was wished for while nothing could be asked. */
  resume(now: Micros, families: ReadonlySet<4 | 6>): void {
    this.#families = families
    for (const permission of this.#byAddress.values()) {
      if (permission.pinned || permission.held.length > 0) this.want(now, permission)
    }
  }

  /** The open requests were given up. */
  cancelled(): void {
    this.#inFlight = false
    this.#waiting = []
    for (const permission of this.#byAddress.values()) {
      permission.asking = false
      permission.wentAhead = false
    }
    this.#nextAt = -Infinity
  }

  /** It came with a channel (RFC 8656 §12.1). */
  renewed(since: Micros, now: Micros, permission: Permission): void {
    permission.until = since + PERMISSION_LIFETIME
    permission.refreshAt = permission.until - REFRESH_AHEAD
    this.#nextAt = Math.min(this.#nextAt, permission.refreshAt)
    this.#handler.granted(now, permission)
  }

  handleTimeout(now: Micros): void {
    if (now < this.#nextAt) return
    this.#nextAt = Infinity
    for (const permission of this.#byAddress.values()) {
      const { pinned, asking, askAfter } = permission
      if (asking) continue
      if (permission.refreshAt <= now) {
        permission.refreshAt = Infinity
        if (pinned || now - permission.usedAt < PERMISSION_LIFETIME) this.#enqueue(now, permission)
      } else if (pinned && permission.until <= now && askAfter <= now) {
        this.#enqueue(now, permission)
      }
      if (permission.asking) continue
      this.#nextAt = Math.min(this.#nextAt, permission.refreshAt)
      if (pinned && permission.until <= now) this.#nextAt = Math.min(this.#nextAt, askAfter)
    }
  }

  /** When {@link handleTimeout} has something to do, at the earliest. */
  get nextAt(): Micros {
    return this.#nextAt
  }

  #enqueue(now: Micros, permission: Permission): void {
    if (!this.#families.has(familyOf(permission.address))) {
      this.#refused(now, permission, unreachable(permission.address))
      return
    }
    permission.asking = true
    this.#waiting.push(permission)
    this.#ask(now)
  }

  #ask(now: Micros): void {
    const [first] = this.#waiting
    if (this.#inFlight || first === undefined) return
    const together = first.alone ? [first] : this.#waiting.filter(({ alone }) => !alone).slice(0, PER_REQUEST)
    this.#waiting = this.#waiting.filter((one) => !together.includes(one))
    this.#inFlight = true
    this.#requests.ask(now, {
      method: Method.CreatePermission,
      attributes: (builder) => writeAddresses(builder, together),
      timing: PATIENCE,
      doubted: (at) => this.#handler.doubted(at),
      done: (at, answer) => {
        this.#inFlight = false
        this.#answered(at, together, answer)
        this.#ask(at)
      },
    })
  }

  #answered(now: Micros, together: readonly Permission[], answer: Answer): void {
    for (const permission of together) {
      permission.asking = false
      permission.wentAhead = false
    }
    if (answer.ok) {
      for (const permission of together) {
        permission.alone = false
        this.renewed(answer.since, now, permission)
      }
      return
    }
    const { error, status } = answer
    if (status === ErrorCode.AllocationMismatch) {
      this.#handler.mismatched(now, error)
      return
    }
    for (const permission of together) {
      if (status !== 0 && together.length > 1) {
        permission.alone = true
        this.#enqueue(now, permission)
        continue
      }
      if (status === 0) this.#rest(now, permission, AFTER_SILENCE)
      else this.#refused(now, permission, error)
    }
  }

  #refused(now: Micros, permission: Permission, error: StunPeerError): void {
    this.#rest(now, permission, AFTER_REFUSAL)
    this.#handler.refused(permission.address, error)
  }

  #rest(now: Micros, permission: Permission, span: Micros): void {
    permission.held = []
    permission.askAfter = now + span
    if (permission.until > now) permission.refreshAt = permission.askAfter
    if (permission.pinned || permission.until > now)
      this.#nextAt = Math.min(this.#nextAt, permission.askAfter)
  }

  #evict(): boolean {
    let oldest: Permission | undefined
    for (const permission of this.#byAddress.values()) {
      if (permission.pinned || permission.asking) continue
      if (oldest === undefined || permission.usedAt < oldest.usedAt) oldest = permission
    }
    if (oldest === undefined) return false
    oldest.evicted = true
    return this.#byAddress.delete(oldest.address)
  }
}

/** Over UDP: silence after 9.5 s. Over a stream 10 s, where a lost packet costs the same. */
export const PATIENCE = { rc: 5, rm: 4, ti: 10 * SECOND }
/** Addresses that one allocation may exchange datagrams with. */
export const MAX_PERMISSIONS = 256
/** Datagrams kept for one address until the relay lets them through: a handshake's first, not a stream. */
export const MAX_HELD = 8
/** IPv6 addresses of 24 bytes each, with credentials, in the 548 bytes that pass everywhere. */
const PER_REQUEST = 8
/** "will be ignored and can be any arbitrary value" (§10.1); some servers refuse 0. */
const ANY_PORT = 9
const REFRESH_AHEAD = 60 * SECOND
const AFTER_SILENCE = SECOND
/** 403, 443, 508 …: the answer will be the same for a while (§7.4 says a minute of the last). */
const AFTER_REFUSAL = 60 * SECOND

function unreachable(address: string): StunPeerError {
  return new StunPeerError(
    'ERR_NATWORK_STUN_INVALID_RESPONSE',
    `the relay gave no IPv${familyOf(address)} address to reach ${address} from: ask for the family "both"`,
  )
}

function writeAddresses(builder: StunBuilder, permissions: readonly Permission[]): void {
  for (const { address } of permissions)
    builder.xorAddress(Attribute.XorPeerAddress, { address, port: ANY_PORT })
}
