import { setTimeout as sleep } from 'node:timers/promises'
import type { SocketAddress } from '../core/address.ts'
import type { LocalCandidate } from '../ice/index.ts'
import { LongTermAuth } from '../stun/index.ts'
import { openRelayOverUdp, type RelayAllocation } from '../turn/index.ts'
import type { ControlChannel, RelayGrant } from './control.ts'
import { asError } from './errors.ts'
import type { NodeId } from './node-id.ts'
import type { Session } from './session.ts'

/** A helper that may relay. */
export interface RelaySource {
  readonly channel: ControlChannel
  readonly address: SocketAddress
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
/** Credentials are renewed when so many seconds are left of them. */
const renewBefore = 600

/**
 * This node's allocations on its helpers' relays, one per helper whoever uses it, made when a link first wants one.
 * Bounded by the helpers that this node hangs on.
 */
export class Relays {
  readonly #session: Session
  readonly #allocations = new Map<NodeId, Entry>()
  /** What each user has borrowed, or is about to. */
  readonly #borrowed = new WeakMap<RelayUser, Set<Entry>>()
  readonly #grants = new Map<NodeId, { readonly grant: RelayGrant; readonly until: number }>()

  constructor(session: Session) {
    this.#session = session
  }

  /** Asks for credentials before they are needed: a round trip less when they are. */
  prepare(sources: readonly RelaySource[]): void {
    for (const { channel } of sources) this.#grant(channel).catch(() => undefined)
  }

  /**
   * A relayed candidate from the first of the helpers that gives one, for as long as the user wants it, unless the user has one of
   * theirs. What it has from others stays. Resolves when there is one or none to be had; never rejects.
   */
  async borrow(sources: readonly RelaySource[], user: RelayUser): Promise<void> {
    const borrowed = this.#borrowed.get(user) ?? new Set()
    this.#borrowed.set(user, borrowed)
    for (const source of sources) {
      if (ended(user)) return
      const entry = this.#entry(source)
      if (borrowed.has(entry)) return
      borrowed.add(entry)
      entry.users++
      try {
        const relay = await entry.relay
        if (ended(user)) {
          this.#release(source.channel.peer, entry)
        } else {
          this.#lend(relay, source, user, entry)
        }
        return
      } catch (error) {
        entry.users--
        borrowed.delete(entry)
        this.#session.context.logger.debug('no relay', {
          helper: source.channel.peer,
          error: asError(error).message,
        })
      }
    }
  }

  /** This machine's own address may have changed, by which relays know it: do the allocations still stand? */
  recheck(): void {
    for (const { relay } of this.#allocations.values()) {
      relay.then((one) => one.recheck()).catch(() => undefined) // Who waits for it hears of the failure.
    }
  }

  async stop(): Promise<void> {
    const entries = [...this.#allocations.values()]
    this.#allocations.clear()
    await Promise.all(
      entries.map(async (entry) => {
        entry.ended.abort()
        await entry.relay.then((relay) => relay.close()).catch(() => undefined)
      }),
    )
  }

  #lend(relay: RelayAllocation, { channel, address }: RelaySource, user: RelayUser, entry: Entry): void {
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
        ...(mapped && { base: mapped }),
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
        this.#release(channel.peer, entry)
      },
      { once: true },
    )
    if (relay.isLive) give()
  }

  #entry(source: RelaySource): Entry {
    const id = source.channel.peer
    let entry = this.#allocations.get(id)
    if (entry === undefined) {
      const ended = new AbortController()
      entry = { users: 0, ended, permitted: new Map(), relay: this.#allocate(source, ended.signal) }
      const made = entry
      made.relay.then(
        (relay) => relay.setMaxListeners(0),
        () => this.#allocations.get(id) === made && this.#allocations.delete(id),
      )
      this.#allocations.set(id, made)
    }
    clearTimeout(entry.timer)
    return entry
  }

  #release(id: NodeId, entry: Entry): void {
    if (--entry.users > 0) return
    entry.timer = setTimeout(() => {
      if (this.#allocations.get(id) === entry) this.#allocations.delete(id)
      void entry.relay.then((relay) => relay.close()).catch(() => undefined)
    }, spare)
    entry.timer.unref()
  }

  async #allocate({ channel, address }: RelaySource, signal: AbortSignal): Promise<RelayAllocation> {
    const { username, password } = await this.#grant(channel)
    const { utp, context } = this.#session
    return await openRelayOverUdp(utp.endpoint, address, {
      auth: new LongTermAuth(username, password),
      logger: context.logger,
      signal,
    })
  }

  async #grant(channel: ControlChannel): Promise<RelayGrant> {
    const now = Date.now() / 1_000
    const known = this.#grants.get(channel.peer)
    if (known !== undefined && known.until > now + renewBefore) return known.grant
    const { relay: grant } = await channel.ask({ type: 'relay' })
    if (grant === undefined) throw new Error(`${channel.peer} gave no credentials`)
    this.#grants.set(channel.peer, { grant, until: now + grant.lifetime })
    for (const [id, { until }] of this.#grants) if (until < now) this.#grants.delete(id)
    return grant
  }
}

interface Entry {
  users: number
  readonly ended: AbortController
  readonly relay: Promise<RelayAllocation>
  /** How many users let each IP address in. Bounded by the users' candidates; the allocation takes 256 of them. */
  readonly permitted: Map<string, number>
  timer?: NodeJS.Timeout
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

// A function, since it may have become true in between.
function ended(user: RelayUser): boolean {
  return user.ended.aborted
}
