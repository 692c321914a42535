import { setTimeout as sleep } from 'node:timers/promises'
import type { SocketAddress } from '../core/address.ts'
import type { LocalCandidate } from '../ice/index.ts'
import { LongTermAuth, StunView } from '../stun/index.ts'
import { openRelayOverStream } from '../turn/driver/client/open.ts'
import { openRelayOverUdp, type RelayAllocation } from '../turn/index.ts'
import type { ControlChannel, RelayGrant } from './control.ts'
import { asError } from './errors.ts'
import type { NodeId } from './node-id.ts'
import type { Session } from './session.ts'
import { relayTarget, type TlsPlace } from './tls/place.ts'

/** A helper that may relay. */
export interface RelaySource {
  readonly channel: ControlChannel
  /** UDP. */
  readonly address: SocketAddress
  /** Where TLS reaches it, while UDP does not. */
  readonly tls: TlsPlace | undefined
}

/** What a link wants to hear of the relays that it borrows. */
export interface RelayUser {
  found(candidate: LocalCandidate): void
  lost(candidate: LocalCandidate): void
  /** Aborted when the link needs them no more. */
  readonly ended: AbortSignal
}

/** Milliseconds that an allocation outlives its last user; and between tries of one that failed. */
const spare = 30_000
/** Milliseconds in which a relay that is one carries the first checks, most of the time. */
const relayPatience = 2_000
/** Credentials are renewed when so many seconds are left of them. */
const renewBefore = 600

/**
 * This node's allocations on its helpers' relays, one per helper and way to it whoever uses it, made when a link first wants
 * one. Where UDP is blocked they are the only way to anybody: there they are made at once, over TLS, and kept.
 * Bounded by the helpers that this node hangs on.
 */
export class Relays {
  readonly #session: Session
  readonly #allocations = new Map<string, Entry>()
  /** Ends what keeps the allocations at helpers that are reached by TLS alone. */
  readonly #kept = new Map<ControlChannel, AbortController>()
  #keeping: Promise<unknown> = Promise.resolve()
  /** What each user has borrowed, or is about to. */
  readonly #borrowed = new WeakMap<RelayUser, Set<Entry>>()
  readonly #grants = new Map<NodeId, { readonly grant: RelayGrant; readonly until: number }>()
  /** Questions for credentials that are under way. */
  readonly #asked = new Map<ControlChannel, Promise<RelayGrant>>()

  constructor(session: Session) {
    this.#session = session
  }

  /** Asks for credentials before they are needed, a round trip less when they are; over TLS for the whole allocation. */
  prepare(sources: readonly RelaySource[]): void {
    for (const [channel, ended] of this.#kept) {
      if (sources.some((one) => one.channel === channel && one.tls !== undefined)) continue
      this.#kept.delete(channel)
      ended.abort()
    }
    for (const source of sources) {
      const { channel, tls } = source
      for (const entry of this.#allocations.values())
        if (entry.channel.peer === channel.peer) entry.channel = channel
      if (tls === undefined) {
        this.#grant(channel).catch(() => undefined)
      } else if (!this.#kept.has(channel)) {
        const ended = new AbortController()
        this.#kept.set(channel, ended)
        this.#keeping = this.borrow([source], { found: nothing, lost: nothing, ended: ended.signal })
      }
    }
  }

  /** Resolves when the newest of the allocations that are kept is there, or cannot be had, or after `patience` ms. */
  async ready(patience: number): Promise<void> {
    await Promise.race([this.#keeping, sleep(patience, undefined, { ref: false })])
  }

  /**
   * A relayed candidate from the first of the helpers that gives one, for as long as the user wants it, unless the user has one of
   * theirs. What it has from others stays. Resolves when there is one, with the helper that gives it, or none to be had;
   * never rejects.
   */
  async borrow(sources: readonly RelaySource[], user: RelayUser): Promise<RelaySource | undefined> {
    const borrowed = this.#borrowed.get(user) ?? new Set()
    this.#borrowed.set(user, borrowed)
    for (const source of sources) {
      if (ended(user)) return undefined
      const entry = this.#entry(source)
      if (borrowed.has(entry)) return source
      borrowed.add(entry)
      entry.users++
      try {
        const relay = await entry.relay
        if (ended(user)) {
          this.#release(entry)
        } else {
          this.#lend(relay, source, user, entry)
        }
        return source
      } catch (error) {
        entry.users--
        borrowed.delete(entry)
        this.#session.context.logger.debug('no relay', {
          helper: source.channel.peer,
          error: asError(error).message,
        })
      }
    }
    return undefined
  }

  /**
   * As {@link borrow}, and from one helper after the other for as long as that leads nowhere: a relay that takes everything and
   * passes nothing on looks like any other one.
   */
  async borrowUntil(
    isFound: () => boolean,
    sources: readonly RelaySource[],
    user: RelayUser,
    patience = relayPatience,
  ): Promise<void> {
    let left = sources
    while (left.length > 0) {
      const lender = await this.borrow(left, user)
      if (lender === undefined) return
      left = left.slice(left.indexOf(lender) + 1)
      if (left.length > 0 && !(await unlessFoundSoon(isFound, patience, user.ended))) return
    }
  }

  /** This machine's own address may have changed, by which relays know it: do the allocations still stand? */
  recheck(): void {
    for (const { relay } of this.#allocations.values()) {
      relay.then((one) => one.recheck()).catch(() => undefined) // Who waits for it hears of the failure.
    }
  }

  async stop(): Promise<void> {
    for (const ended of this.#kept.values()) ended.abort()
    this.#kept.clear()
    const entries = [...this.#allocations.values()]
    this.#allocations.clear()
    await Promise.all(
      entries.map(async (entry) => {
        entry.ended.abort()
        await entry.relay.then((relay) => relay.close()).catch(() => undefined)
      }),
    )
  }

  #lend(relay: RelayAllocation, { address, tls }: RelaySource, user: RelayUser, entry: Entry): void {
    let lent: LocalCandidate | undefined
    /** Bounded by the candidates of one ICE session. */
    const permitted = new Set<string>()
    const permit = (peer: string): void => {
      if (permitted.has(peer)) return
      const others = entry.permitted.get(peer) ?? 0
      try {
        if (others === 0) relay.permit([peer])
        entry.permitted.set(peer, others + 1)
        permitted.add(peer)
      } catch (error) {
        this.#session.context.logger.debug('a relay lets no more peers in', {
          error: asError(error).message,
        })
      }
    }
    const give = (): void => {
      const { mapped } = relay.allocation
      const { via } = relay.path(address)
      if (via === undefined) return
      lent = {
        type: 'relay',
        address: relay.relayed,
        via,
        server: address,
        // Over TLS it is TCP's outer address, which tells nothing of this port.
        ...(mapped && tls === undefined && { base: mapped }),
        permit,
      }
      user.found(lent)
    }
    const take = (): void => {
      if (lent !== undefined) user.lost(lent)
      lent = undefined
    }
    relay.on('lost', take).on('renewed', give)
    user.ended.addEventListener(
      'abort',
      () => {
        relay.off('lost', take).off('renewed', give)
        forbid(relay, entry, permitted)
        this.#release(entry)
      },
      { once: true },
    )
    if (relay.isLive) give()
  }

  #entry(source: RelaySource): Entry {
    const key = `${source.channel.peer} ${source.tls === undefined ? 'udp' : 'tls'}`
    let entry = this.#allocations.get(key)
    if (entry === undefined) {
      const ended = new AbortController()
      const relay = this.#allocate(source, ended.signal)
      entry = { key, channel: source.channel, users: 0, ended, permitted: new Map(), relay }
      const made = entry
      relay.then(
        (one) => this.#renewLater(made, one.setMaxListeners(0)),
        () => this.#forget(made),
      )
      this.#allocations.set(key, made)
    }
    clearTimeout(entry.timer)
    return entry
  }

  /** Credentials end after some hours: an allocation that is still in use goes on with newer ones, or is asked for with them. */
  #renewLater(entry: Entry, relay: RelayAllocation): void {
    let timer: NodeJS.Timeout | undefined
    let used = this.#grants.get(entry.channel.peer)?.grant
    const renew = async (): Promise<void> => {
      clearTimeout(timer)
      try {
        const grant = await this.#grant(entry.channel)
        if (grant !== used) relay.setCredentials(authOf(grant))
        used = grant
        schedule()
      } catch (error) {
        const { peer } = entry.channel
        this.#session.context.logger.debug('no newer credentials', {
          helper: peer,
          error: asError(error).message,
        })
        schedule(spare)
      }
    }
    const schedule = (time?: number): void => {
      const left = (this.#grants.get(entry.channel.peer)?.until ?? 0) * 1_000 - Date.now()
      clearTimeout(timer)
      if (isOver) return
      timer = setTimeout(() => void renew(), time ?? Math.max(left - renewBefore * 1_000, left / 2))
      timer.unref()
    }
    let isOver = false
    // A machine that slept for longer finds its allocation gone.
    relay.on('lost', () => void renew())
    relay.once('close', () => {
      isOver = true
      clearTimeout(timer)
    })
    schedule()
  }

  #forget(entry: Entry): void {
    if (this.#allocations.get(entry.key) === entry) this.#allocations.delete(entry.key)
  }

  #release(entry: Entry): void {
    if (--entry.users > 0) return
    entry.timer = setTimeout(() => {
      this.#forget(entry)
      void entry.relay.then((relay) => relay.close()).catch(() => undefined)
    }, spare)
    entry.timer.unref()
  }

  async #allocate({ channel, address, tls }: RelaySource, signal: AbortSignal): Promise<RelayAllocation> {
    const auth = authOf(await this.#grant(channel))
    const { context } = this.#session
    const { endpoint } = this.#session.utp
    const options = { auth, logger: context.logger, signal }
    if (tls === undefined) return await openRelayOverUdp(endpoint, address, options)
    return await openRelayOverStream(relayTarget(tls, channel.peer), options, (path, bytes) =>
      endpoint.deliver(path, bytes),
    )
  }

  async #grant(channel: ControlChannel): Promise<RelayGrant> {
    const known = this.#grants.get(channel.peer)
    if (known !== undefined && known.until > Date.now() / 1_000 + renewBefore) return known.grant
    const asked = this.#asked.get(channel) ?? this.#askGrant(channel)
    this.#asked.set(channel, asked)
    try {
      return await asked
    } finally {
      this.#asked.delete(channel)
    }
  }

  async #askGrant(channel: ControlChannel): Promise<RelayGrant> {
    const { relay: grant } = await channel.ask({ type: 'relay' })
    if (grant === undefined) throw new Error(`${channel.peer} gave no credentials`)
    const now = Date.now() / 1_000
    this.#grants.set(channel.peer, { grant, until: now + grant.lifetime })
    for (const [id, { until }] of this.#grants) if (until < now) this.#grants.delete(id)
    return grant
  }
}

interface Entry {
  readonly key: string
  /** The newest one to the helper. */
  channel: ControlChannel
  users: number
  readonly ended: AbortController
  readonly relay: Promise<RelayAllocation>
  /** How many users let each IP address in. Bounded by the users' candidates; the allocation takes 256 of them. */
  readonly permitted: Map<string, number>
  timer?: NodeJS.Timeout
}

/** Credentials that know what the relay will ask; when that is too old, it asks anew. */
function authOf({ username, password, challenge }: RelayGrant): LongTermAuth {
  const auth = new LongTermAuth(username, password)
  const asked = new StunView()
  if (challenge !== undefined && asked.open(Buffer.from(challenge, 'base64'))) auth.examine(asked, undefined)
  return auth
}

/** Closes the relay to those peers that no other user of it lets in: it has room for some hundred, not for all there ever were. */
function forbid(relay: RelayAllocation, { permitted }: Entry, peers: Iterable<string>): void {
  for (const peer of peers) {
    const left = (permitted.get(peer) ?? 1) - 1
    if (left > 0) {
      permitted.set(peer, left)
    } else {
      permitted.delete(peer)
      relay.forbid([peer])
    }
  }
}

/** For the side that was called: most often the caller's relay is enough, and comes first. */
export async function unlessFoundSoon(
  isFound: () => boolean,
  time: number,
  signal: AbortSignal,
): Promise<boolean> {
  await sleep(time, undefined, { signal, ref: false }).catch(() => undefined)
  return !signal.aborted && !isFound()
}

function nothing(): void {
  // It is kept for those who come.
}

// A function, since it may have become true in between.
function ended(user: RelayUser): boolean {
  return user.ended.aborted
}
