import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SocketAddress } from '../../core/address.ts'
import type { ControlChannel } from '../control.ts'
import type { ControlPool } from '../control-pool.ts'
import { asError } from '../errors.ts'
import type { ConfiguredHelper, HelperReference } from '../helper-reference.ts'
import type { NodeId } from '../node-id.ts'
import type { RelaySource } from '../relays.ts'
import type { Session } from '../session.ts'

/** A helper, as this node sees it. */
export interface HelperStatus {
  readonly id: NodeId
  readonly address: SocketAddress
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
  readonly #candidates = new Map<NodeId, Candidate>()
  readonly #current = new Map<NodeId, Current>()
  readonly #ended = new AbortController()
  #running: Promise<unknown> = Promise.resolve()
  /** Ends the pause of those that wait for the next try. */
  #hurry = new AbortController()

  constructor(
    session: Session,
    pool: ControlPool,
    configured: readonly ConfiguredHelper[],
    onChange: () => void,
  ) {
    this.#session = session
    this.#pool = pool
    this.#configured = configured
    this.#onChange = onChange
    for (const { id } of configured) this.#candidates.set(id, { id, failures: 0, notBefore: 0, busy: false })
  }

  /** Those this node hangs on now, the longest held first: what its record and tickets say. */
  get references(): HelperReference[] {
    return [...this.#current.values()].map(({ id, address }) => ({ id, address }))
  }

  get status(): HelperStatus[] {
    return [...this.#current.values()].map(({ id, address, since }) => ({ id, address, since }))
  }

  /** Those that may relay, and where. */
  get sources(): RelaySource[] {
    return [...this.#current.values()].map(({ channel, address }) => ({ channel, address }))
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
    const address = await this.#addressOf(id, signal)
    const patient = AbortSignal.any([signal, AbortSignal.timeout(attachTimeout)])
    const lease = await this.#pool.attach({ id, address }, patient)
    try {
      const { channel } = lease
      const { endpoint } = this.#session.utp
      const current = { id, address: endpoint.hostAt(lease.address ?? address), since: new Date(), channel }
      this.#current.set(id, current)
      candidate.failures = 0
      this.#session.context.logger.info('on a helper', { helper: id })
      this.#onChange()
      onFirst()
      const ended = new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
      await Promise.race([channel.closed, ended])
      if (signal.aborted) return
      this.#session.context.logger.info('a helper was lost', { helper: id })
      candidate.failures = 1
    } finally {
      this.#current.delete(id)
      lease.release()
      if (!signal.aborted) this.#onChange()
    }
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

  async #addressOf(id: NodeId, signal: AbortSignal): Promise<SocketAddress> {
    const configured = this.#configured.find((one) => one.id === id)
    if (configured !== undefined) return resolve(configured, this.#session.utp.address.address)
    const [address] = (await this.#session.context.getNode(id, signal))?.addresses ?? []
    if (address === undefined) throw new Error(`no address of ${id} is known`)
    return address
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
}

async function resolve({ host, port }: ConfiguredHelper, bound: string): Promise<SocketAddress> {
  if (isIP(host) !== 0) return { address: host, port }
  const family = bound === '::' ? 0 : bound.includes(':') ? 6 : 4
  const { address } = await lookup(host, { family })
  return { address, port }
}
