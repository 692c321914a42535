import { familyOf, formatAddress, sameAddress } from '../../core/address.ts'
import type { SocketAddress } from '../../core/address.ts'
import { UsageError } from '../../core/errors.ts'
import type { Deadline, Machine, Micros, Path, Transmit } from '../../core/machine.ts'
import { MILLISECOND, SECOND } from '../../core/machine.ts'
import { synthesize } from '../prefix64.ts'
import { decode, encode, SESSION_LENGTH } from './wire.ts'
import type { Message } from './wire.ts'

export interface PunchOptions {
  /** Eight bytes that both peers know; one is side 0, the other side 1. */
  readonly session: Uint8Array
  readonly side: 0 | 1
  /** The helper's addresses: one per family that this host has. */
  readonly helpers: readonly SocketAddress[]
  /**
   * Whether to send to the other side as soon as it is known. With false the peer only answers: what a server does
   * whose address is known. {@link PunchPeer.dial} changes it later.
   */
  readonly dials: boolean
  /** The host reaches IPv4 through NAT64 (RFC 6146): IPv4 addresses are sent to under the well-known prefix. */
  readonly nat64?: boolean
  /** Microseconds from the introduction until the peer gives up. Default: 5 s. */
  readonly patience?: Micros
  /** Microseconds between the introduction and the first punch: to play the one that comes late. Default: 0. */
  readonly late?: Micros
  /**
   * The TTL of the punches of the first second, while nothing was heard: a low one opens the own NAT and dies before
   * the other. Default: the socket's.
   */
  readonly openingTtl?: number
}

export type PunchEvent =
  /** The helper has named the other side's addresses. */
  | { readonly type: 'introduced'; readonly addresses: readonly SocketAddress[] }
  /** Datagrams go both ways on this path, proven by the other's key. */
  | { readonly type: 'connected'; readonly path: Path; readonly at: Micros }
  | { readonly type: 'data'; readonly data: Uint8Array }
  | { readonly type: 'failed'; readonly reason: string }

/**
 * The reference punch, and nothing clever: register at a helper, learn the other's address as the helper sees it, both
 * send to it at once and again, answer wherever a valid punch came from. What it cannot do needs a better method than
 * simple hole punching (RFC 5128 §3.3).
 */
export class PunchPeer implements Machine<PunchEvent> {
  readonly #options: PunchOptions
  readonly #out: Transmit[] = []
  readonly #events: PunchEvent[] = []
  /** Where to punch: what the helper named, and where valid punches came from. Bounded by {@link MAX_TARGETS}. */
  readonly #targets: Target[] = []
  #dials: boolean
  #key: Uint8Array | undefined
  /** Once connected: where the other was last heard from. */
  #path: Path | undefined
  #state: 'registering' | 'punching' | 'connected' | 'over' = 'registering'
  #registerAt: Micros = 0
  #punchAt: Micros = Infinity
  #endAt: Micros = Infinity
  #openedAt: Micros = 0

  constructor(options: PunchOptions) {
    if (options.session.length !== SESSION_LENGTH || options.helpers.length === 0) {
      throw new UsageError(
        'ERR_NATWORK_SIM_PUNCH',
        `the reference punch needs a session of ${SESSION_LENGTH} bytes and at least one helper address`,
      )
    }
    this.#options = options
    this.#dials = options.dials
  }

  /** From now on send to the other side as well, not only answer. */
  dial(now: Micros): void {
    this.#dials = true
    this.#registerAt = now
  }

  /**
   * Sends a datagram to where the other was last heard from.
   *
   * @throws {UsageError} `ERR_NATWORK_SIM_PUNCH` when not connected.
   */
  send(data: Uint8Array): void {
    if (!this.#path || !this.#key) throw new UsageError('ERR_NATWORK_SIM_PUNCH', 'the punch is not connected')
    this.#send(this.#path.remote, { type: 'data', key: this.#key, side: this.#options.side, data })
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const message = decode(bytes)
    if (message?.type === 'introduce') return this.#handleIntroduction(now, path, message)
    if (message?.type === 'punch') return this.#handlePunch(now, path, message)
    if (message?.type === 'data') return this.#handleData(path, message)
    return false
  }

  handleTimeout(now: Micros): void {
    if (now >= this.#endAt) this.#end()
    if (now >= this.#registerAt) {
      for (const helper of this.#options.helpers) this.#send(helper, this.#registration())
      this.#registerAt = now + (this.#key ? KEEP_ALIVE : RETRY)
    }
    if (now >= this.#punchAt) {
      for (const target of this.#targets) this.#punch(now, target)
      this.#punchAt = now + RETRY
    }
  }

  pollTransmit(): Transmit | undefined {
    return this.#out.shift()
  }

  pollEvent(): PunchEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    const at = Math.min(this.#registerAt, this.#punchAt, this.#endAt)
    if (at === Infinity) return undefined
    return { at, reason: at === this.#endAt ? 'end' : at === this.#punchAt ? 'punch' : 'register' }
  }

  #handleIntroduction(now: Micros, path: Path, { key, addresses }: Message & { type: 'introduce' }): boolean {
    if (!this.#options.helpers.some((helper) => sameAddress(helper, path.remote))) return false
    this.#key ??= key
    if (this.#registerAt > now) this.#registerAt = Math.max(this.#registerAt, now + KEEP_ALIVE)
    if (!this.#dials || addresses.length === 0 || this.#state === 'connected' || this.#state === 'over')
      return true
    const isNews = this.#state === 'registering'
    if (isNews) {
      this.#state = 'punching'
      this.#punchAt = now + (this.#options.late ?? 0)
      this.#openedAt = this.#punchAt
      this.#endAt = now + (this.#options.patience ?? 5 * SECOND)
      this.#events.push({ type: 'introduced', addresses })
    }
    for (const address of addresses) {
      const at = this.#reachable(address)
      if (this.#targets.some((one) => sameAddress(one.at, at))) continue
      const target = this.#aim(at)
      // An address of the other family that comes second does not wait for the next try: the other side has begun.
      if (target && !isNews && now >= this.#openedAt) this.#punch(now, target)
    }
    this.handleTimeout(now)
    return true
  }

  #handlePunch(now: Micros, path: Path, { key, side, heard }: Message & { type: 'punch' }): boolean {
    if (!this.#isPeer(key, side) || this.#state === 'over') return false
    const known = this.#targets.find((one) => sameAddress(one.at, path.remote))
    const target = known ?? this.#aim(path.remote)
    if (!target) return true
    target.heard = true
    if (this.#dials && this.#punchAt === Infinity) this.#punchAt = now + RETRY
    if (heard && this.#state !== 'connected') {
      this.#state = 'connected'
      this.#path = path
      this.#events.push({ type: 'connected', path, at: now })
      // The answer below may be lost: keep to this path alone, and go on for a while.
      this.#targets.splice(0, Infinity, target)
      this.#endAt = now + LINGER
      this.#punch(now, target)
    } else if (!heard) {
      this.#punch(now, target)
    }
    return true
  }

  #handleData(path: Path, { key, side, data }: Message & { type: 'data' }): boolean {
    if (!this.#isPeer(key, side) || !this.#path) return false
    this.#path = path
    this.#events.push({ type: 'data', data })
    return true
  }

  #isPeer(key: Uint8Array, side: 0 | 1): boolean {
    return side !== this.#options.side && (this.#key?.every((byte, i) => key[i] === byte) ?? false)
  }

  #end(): void {
    if (this.#state !== 'connected') {
      const tried = this.#targets.map((one) => formatAddress(one.at)).join(', ')
      this.#events.push({ type: 'failed', reason: `nothing came back from ${tried}` })
    }
    this.#state = 'over'
    this.#registerAt = this.#punchAt = this.#endAt = Infinity
  }

  #registration(): Message {
    const { session, side } = this.#options
    return { type: 'register', session, side, dials: this.#dials }
  }

  #punch(now: Micros, target: Target): void {
    if (!this.#key) return
    const message: Message = { type: 'punch', key: this.#key, side: this.#options.side, heard: target.heard }
    const isOpening = !target.heard && now < this.#openedAt + OPENING
    this.#send(target.at, message, isOpening ? this.#options.openingTtl : undefined)
  }

  #send(to: SocketAddress, message: Message, ttl?: number): void {
    this.#out.push({ path: { remote: to }, data: encode(message), ...(ttl !== undefined && { ttl }) })
  }

  #aim(at: SocketAddress): Target | undefined {
    if (this.#targets.length >= MAX_TARGETS) return undefined
    const target: Target = { at, heard: false }
    this.#targets.push(target)
    return target
  }

  #reachable(at: SocketAddress): SocketAddress {
    if (!this.#options.nat64 || familyOf(at.address) === 6) return at
    return { address: synthesize(at.address), port: at.port }
  }
}

/** Between tries of a registration or a punch. */
const RETRY = 100 * MILLISECOND
/** Between registrations that only keep the mapping towards the helper: less than the shortest lifetime. */
const KEEP_ALIVE = 4 * SECOND
/** How long a connected peer goes on answering. */
const LINGER = SECOND
/** How long punches have the opening TTL. */
const OPENING = SECOND
const MAX_TARGETS = 16

interface Target {
  readonly at: SocketAddress
  /** A valid punch came from there. */
  heard: boolean
}
