import { setTimeout as sleep } from 'node:timers/promises'
import { asError } from './errors.ts'
import type { HelperReference } from './helper-reference.ts'
import type { NodeId } from './node-id.ts'
import { signNodeInfo, type NodeInfo, type NodeInfoFields } from './node-info.ts'
import type { Rendezvous } from './rendezvous.ts'
import type { Session } from './session.ts'

/** A record's addresses are believed for a day, and said again every few hours. Seconds, milliseconds. */
const recordLifetime = 24 * 3_600
const publishInterval = 6 * 3_600_000

/** Milliseconds from one node that is told to the next: a helper passes twenty signals of a node per second, and offers go first. */
const pace = 100

/** What the record says besides who and when. */
export type PublishedFields = Pick<NodeInfoFields, 'addresses' | 'helpers' | 'helps' | 'tls'>

/** Keeps this node's own record, and tells it to the directory and to the nodes that are known. In the background. */
export class Publisher {
  #record: NodeInfo | undefined
  #lastSequence: number
  readonly #session: Session
  readonly #meeting: Pick<Rendezvous, 'pool' | 'announce'>
  readonly #fields: () => PublishedFields
  #timer: NodeJS.Timeout | undefined
  #publishing: Promise<void> = Promise.resolve()
  /** A publication waits for the one under way: it will take the newest record. */
  #isQueued = false

  constructor(
    session: Session,
    meeting: Pick<Rendezvous, 'pool' | 'announce'>,
    lastSequence: number,
    fields: () => PublishedFields,
  ) {
    this.#session = session
    this.#meeting = meeting
    this.#fields = fields
    this.#lastSequence = lastSequence
  }

  /** Signs the first record, and tells it. */
  start(): void {
    this.#timer = setInterval(() => this.refresh(), publishInterval)
    this.refresh()
  }

  get started(): boolean {
    return this.#record !== undefined
  }

  /** The newest one. */
  get record(): NodeInfo {
    this.#record ??= this.#sign()
    return this.#record
  }

  /** For a helper, which it names though this node may be only about to hang on it. */
  recordFor(helper: HelperReference): NodeInfo {
    const isNamed = this.record.helpers?.some(({ id }) => id === helper.id) === true
    return isNamed ? this.record : this.#sign([helper])
  }

  /** The addresses or the helpers have changed: signs anew and tells everybody. */
  refresh(): void {
    this.#record = this.#sign()
    this.#meeting.pool.refresh()
    if (this.#isQueued) return
    this.#isQueued = true
    this.#publishing = this.#publishing.then(() => {
      this.#isQueued = false
      return this.#publish()
    })
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#publishing
  }

  // The time is the sequence, so that a node which has lost its last record still exceeds it.
  #sign(first: readonly HelperReference[] = []): NodeInfo {
    const now = Date.now()
    const fields = this.#fields()
    this.#lastSequence = Math.max(this.#lastSequence + 1, now)
    return signNodeInfo(this.#session.identity, {
      ...fields,
      helpers: [...first, ...(fields.helpers ?? [])],
      sequence: this.#lastSequence,
      expires: Math.floor(now / 1_000) + recordLifetime,
    })
  }

  /** Never rejects, and ends soon after the session does. */
  async #publish(): Promise<void> {
    const { context, identity, signal } = this.#session
    const { logger } = context
    const [, nodes] = await Promise.all([
      context.updateNode(this.record, signal).catch((error: unknown) => {
        if (!signal.aborted) logger.warn('the own record was not kept', { error: asError(error).message })
      }),
      context.listNodes(signal).catch((error: unknown) => {
        if (!signal.aborted) logger.warn('no other node can be told', { error: asError(error).message })
        return []
      }),
    ])
    const told: Promise<void>[] = []
    for (const id of nodes) {
      if (id === identity.id) continue
      if (told.length > 0) await sleep(pace, undefined, { signal, ref: false }).catch(() => undefined)
      if (signal.aborted) break
      told.push(this.#tell(id))
    }
    await Promise.all(told)
  }

  async #tell(id: NodeId): Promise<void> {
    const { context, signal } = this.#session
    try {
      await this.#meeting.announce(id, this.record, signal)
    } catch (error) {
      context.logger.debug('a node could not be told', { node: id, error: asError(error).message })
    }
  }
}
