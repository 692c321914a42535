import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SocketAddress } from '../../core/address.ts'
import type { ControlChannel } from '../control.ts'
import type { ControlPool, HelperLease } from '../control-pool.ts'
import { asError } from '../errors.ts'
import { defaultTlsPort, type ConfiguredHelper, type HelperReference } from '../helper-reference.ts'
import type { NodeId } from '../node-id.ts'
import type { RelaySource } from '../relays.ts'
import type { Session } from '../session.ts'
import { tlsPlacesOf, tlsPlacesOfConfigured, type Places, type TlsPlace } from '../tls/place.ts'

/** A helper, as this node sees it. */
export interface HelperStatus {
  readonly id: NodeId
  /** UDP. */
  readonly address: SocketAddress
  /** How this node reaches it: by `tls` on TCP where UDP is blocked. */
  readonly transport: 'udp' | 'tls'
  /** The TCP port where it takes TLS: the one in use, or the one that it names. */
  readonly tls: number | undefined
  /** When this node began to hang on it. */
  readonly since: Date
}

/** So many helpers are enough for one to be alive. */
const wanted = 3
/** Milliseconds before a helper is tried again, doubled with each failure; each with up to half as much more, by chance. */
const firstRetry = 500
const lastRetry = 60_000
/** Milliseconds for one try: a fresh one gets through sooner after a pause of the network than one that waits. */
const attachTimeout = 5_000
/** Milliseconds for which a network is taken to block UDP still, after the last helper that was reached by TLS is lost. */
const rememberBlocked = 15_000
/** Milliseconds between tries to reach a helper by UDP again, while TLS carries its control stream. */
const upgradeInterval = 30_000
/** Milliseconds between looks at the directory for helpers while there are too few. */
const lookAgain = 30_000

/**
 * Keeps this node on up to {@link wanted} helpers: those that are configured first, then those of the directory that say they
 * help. A lost one is tried again with growing pauses, another one takes its place meanwhile.
 */
export class Helpers {
  readonly #session: Session
  readonly #pool: ControlPool
  readonly #configured: readonly ConfiguredHelper[]
  readonly #onChange: () => void
  readonly #udpWorks: () => boolean
  readonly #candidates = new Map<NodeId, Candidate>()
  readonly #current = new Map<NodeId, Current>()
  readonly #ended = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  #blockedUntil = -Infinity
  /** Ends the pause of those that wait for the next try. */
  #hurry = new AbortController()

  constructor(
    session: Session,
    pool: ControlPool,
    configured: readonly ConfiguredHelper[],
    { onChange, udpWorks }: { readonly onChange: () => void; readonly udpWorks: () => boolean },
  ) {
    this.#session = session
    this.#pool = pool
    this.#configured = configured
    this.#onChange = onChange
    this.#udpWorks = udpWorks
    for (const { id } of configured) this.#candidates.set(id, { id, failures: 0, notBefore: 0, busy: false })
  }

  /** Those this node hangs on now, the longest held first: what its record and tickets say. */
  get references(): HelperReference[] {
    return [...this.#current.values()].map(({ id, address, tls }) => ({
      ...{ id, address },
      ...(tls !== undefined && tls !== defaultTlsPort && { tls }),
    }))
  }

  get status(): HelperStatus[] {
    return [...this.#current.values()].map(({ id, address, transport, tls, since }) => ({
      ...{ id, address, transport, tls, since },
    }))
  }

  /** Those that may relay, and where. */
  get sources(): RelaySource[] {
    return [...this.#current.values()].map(({ channel, address, place }) => ({
      channel,
      address,
      tls: place,
    }))
  }

  /** Every helper that answers does so by TLS alone, or did until a moment ago. */
  get udpBlocked(): boolean {
    const all = [...this.#current.values()]
    if (all.length > 0) return all.every(({ transport }) => transport === 'tls')
    return performance.now() < this.#blockedUntil && !this.#udpWorks()
  }

  get channels(): ControlChannel[] {
    return [...this.#current.values()].map(({ channel }) => channel)
  }

  /** Resolves when this node hangs on a helper, when there is none to be had at once, or after `patience` ms. */
  async start(patience: number): Promise<void> {
    const first = new Promise<void>((resolve) => {
      const slots = Array.from({ length: wanted }, () => this.#slot(resolve))
      this.#running = Promise.all(slots)
    })
    if (this.#configured.length === 0) return
    const patient = new AbortController()
    await Promise.race([
      first,
      sleep(patience, undefined, { signal: AbortSignal.any([patient.signal, this.#ended.signal]) }).catch(
        () => undefined,
      ),
    ])
    patient.abort()
  }

  /** Something is wrong with the network: looks whether the helpers still answer, and tries lost ones now. */
  check(): void {
    for (const { channel } of this.#current.values()) void channel.probe(checkTimeout)
    for (const candidate of this.#candidates.values()) candidate.notBefore = 0
    this.udpAnswers()
  }

  /** Somebody answers by UDP, or may: helpers that are reached by TLS are tried that way at once. */
  udpAnswers(): void {
    this.#hurry.abort()
    this.#hurry = new AbortController()
  }

  async stop(): Promise<void> {
    this.#ended.abort()
    await this.#running
  }

  /** One of the places for a helper: fills it, waits until it is free again. */
  async #slot(onNews: () => void): Promise<void> {
    const { signal } = this.#ended
    while (!signal.aborted) {
      const candidate = await this.#next()
      if (candidate === undefined) {
        await this.#pause(this.#wait())
        continue
      }
      try {
        await this.#hang(candidate, onNews)
      } catch (error) {
        candidate.failures++
        if (this.#configured.every(({ id }) => (this.#candidates.get(id)?.failures ?? 0) > 0)) onNews()
        this.#session.context.logger.debug('a helper cannot be had', {
          helper: candidate.id,
          error: asError(error).message,
        })
      } finally {
        candidate.busy = false
        const pause = Math.min(lastRetry, firstRetry * 2 ** Math.max(0, candidate.failures - 1))
        candidate.notBefore =
          performance.now() + (candidate.failures === 0 ? 0 : pause * (1 + Math.random() / 2))
      }
    }
  }

  async #hang(candidate: Candidate, onFirst: () => void): Promise<void> {
    const { signal } = this.#ended
    const { id } = candidate
    const places = await this.#placesOf(id, signal)
    let lease = await this.#pool.attach(id, places, this.#patient())
    // A helper may come and go for months: nothing of it may stay with the signal.
    const gone = new AbortController()
    const aborted = once(signal, 'abort', { signal: gone.signal }).catch(() => undefined)
    try {
      do {
        const { channel, tls } = lease
        const { endpoint } = this.#session.utp
        this.#current.set(
          id,
          currentOf(id, lease, places, (address) => endpoint.hostAt(address)),
        )
        candidate.failures = 0
        const transport = tls === undefined ? 'udp' : 'tls'
        this.#session.context.logger.info('on a helper', { helper: id, transport })
        this.#onChange()
        onFirst()
        const better = tls === undefined ? undefined : this.#byUdp(id, places, channel)
        const replaced = await Promise.race([channel.closed, aborted, ...(better ? [better] : [])])
        if (!isLease(replaced)) break
        lease.release()
        lease = replaced
      } while (!ended(signal))
      if (ended(signal)) return
      this.#session.context.logger.info('a helper was lost', { helper: id })
      candidate.failures = 1
    } finally {
      gone.abort()
      const wasBlocked = this.udpBlocked
      this.#current.delete(id)
      if (wasBlocked) this.#blockedUntil = performance.now() + rememberBlocked
      lease.release()
      if (!signal.aborted) this.#onChange()
    }
  }

  /** A control stream by UDP, in place of the one by TLS, as soon as it can be had. Until then that one stays. */
  async #byUdp(id: NodeId, { addresses }: Places, channel: ControlChannel): Promise<HelperLease | undefined> {
    const { signal } = this.#ended
    // What answers STUN by then was only slow; else it is most likely blocked.
    await this.#pause(this.#udpWorks() ? firstRetry : upgradeInterval)
    while (isOpen(channel) && !ended(signal)) {
      try {
        const lease = await this.#pool.replace(id, { addresses, tls: [], only: 'udp' }, this.#patient())
        if (isOpen(channel)) return lease
        // It was lost meanwhile, and another way is looked for.
        lease.release()
      } catch (error) {
        const why = asError(error).message
        this.#session.context.logger.debug('still no UDP to a helper', { helper: id, error: why })
      }
      await this.#pause(upgradeInterval)
    }
    return undefined
  }

  #patient(): AbortSignal {
    return AbortSignal.any([this.#ended.signal, AbortSignal.timeout(attachTimeout)])
  }

  /** The best candidate that may be tried now, taken for the slot that asks. */
  async #next(): Promise<Candidate | undefined> {
    return this.#take() ?? ((await this.#lookAround()) ? this.#take() : undefined)
  }

  #take(): Candidate | undefined {
    const now = performance.now()
    const [best] = [...this.#candidates.values()]
      .filter(({ busy, notBefore }) => !busy && notBefore <= now)
      .sort((a, b) => a.failures - b.failures)
    if (best !== undefined) best.busy = true
    return best
  }

  /** Adds what the directory knows. Bounded by what `listNodes` is asked for. */
  async #lookAround(): Promise<boolean> {
    const { context, identity } = this.#session
    const { signal } = this.#ended
    try {
      for (const id of await context.listNodes(signal)) {
        if (this.#candidates.has(id) || id === identity.id) continue
        const info = await context.getNode(id, signal)
        if (info?.helps !== true || info.addresses.length === 0) continue
        this.#candidates.set(id, { id, failures: 0, notBefore: 0, busy: false })
        return true
      }
    } catch (error) {
      if (!signal.aborted) {
        context.logger.debug('no helper can be looked up', { error: asError(error).message })
      }
    }
    return false
  }

  async #placesOf(id: NodeId, signal: AbortSignal): Promise<Places> {
    const configured = this.#configured.find((one) => one.id === id)
    if (configured !== undefined) {
      const bound = this.#session.utp.address.address
      // Where only an HTTP proxy leads out, names may mean nothing here, but something there.
      const addresses = await resolve(configured, bound).catch(() => [])
      return { addresses, tls: tlsPlacesOfConfigured(configured) }
    }
    const info = await this.#session.context.getNode(id, signal)
    const [address] = info?.addresses ?? []
    if (address === undefined) throw new Error(`no address of ${id} is known`)
    return { addresses: [address], tls: tlsPlacesOf(info).slice(0, 1) }
  }

  /** Milliseconds until the next candidate may be tried. */
  #wait(): number {
    const now = performance.now()
    const idle = [...this.#candidates.values()].filter(({ busy }) => !busy)
    return Math.max(10, Math.min(lookAgain, ...idle.map(({ notBefore }) => notBefore - now)))
  }

  async #pause(time: number): Promise<void> {
    const signal = AbortSignal.any([this.#ended.signal, this.#hurry.signal])
    await sleep(time, undefined, { signal, ref: false }).catch(() => undefined)
  }
}

/** Milliseconds for a helper to answer when there is reason to doubt. */
const checkTimeout = 1_500

interface Candidate {
  readonly id: NodeId
  failures: number
  notBefore: number
  busy: boolean
}

interface Current extends HelperStatus {
  readonly channel: ControlChannel
  /** Where TLS reaches it, while UDP does not. */
  readonly place: TlsPlace | undefined
}

/** @throws {Error} when nothing says at which UDP address others find it. */
function currentOf(
  id: NodeId,
  { channel, address, tls, info }: HelperLease,
  places: Places,
  hostAt: (address: SocketAddress) => SocketAddress,
): Current {
  const at = address ?? places.addresses[0] ?? info?.addresses[0]
  if (at === undefined) throw new Error(`no UDP address of ${id} is known`)
  return {
    ...{ id, address: hostAt(at), since: new Date(), channel, place: tls },
    transport: tls === undefined ? 'udp' : 'tls',
    tls: tls?.port ?? info?.tls,
  }
}

function isLease(value: HelperLease | Error | unknown[] | undefined): value is HelperLease {
  return value !== undefined && 'channel' in value
}

// Functions, since it may have changed in between.
function ended(signal: AbortSignal): boolean {
  return signal.aborted
}

function isOpen(channel: ControlChannel): boolean {
  return channel.alive
}

async function resolve({ host, port }: ConfiguredHelper, bound: string): Promise<SocketAddress[]> {
  if (isIP(host) !== 0) return [{ address: host, port }]
  const family = bound === '::' ? 0 : bound.includes(':') ? 6 : 4
  const { address } = await lookup(host, { family })
  return [{ address, port }]
}
