import type { ControlPool } from './control-pool.ts'
import { asError } from './errors.ts'
import type { HelperReference } from './helper-reference.ts'
import type { NodeId } from './node-id.ts'
import { signNodeInfo, type NodeInfo, type NodeInfoFields } from './node-info.ts'
import type { Session } from './session.ts'

/** A record's addresses are believed for a day, and said again every few hours. Seconds, milliseconds. */
const recordLifetime = 24 * 3_600
const publishInterval = 6 * 3_600_000

/** What the record says besides who and when. */
export type PublishedFields = Pick<NodeInfoFields, 'addresses' | 'helpers' | 'helps' | 'tls'>

/** Keeps this node's own record, and tells it to the directory and to the nodes that are known. In the background. */
export class Publisher {
  #record: NodeInfo | undefined
  #lastSequence: number
  readonly #session: Session
  readonly #pool: ControlPool
  readonly #fields: () => PublishedFields
  #timer: NodeJS.Timeout | undefined
  #publishing: Promise<void> = Promise.resolve()
  /** A publication waits for the one under way: it will take the newest record. */
  #isQueued = false

  constructor(session: Session, pool: ControlPool, lastSequence: number, fields: () => PublishedFields) {
    this.#session = session
    this.#pool = pool
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
    this.#pool.refresh()
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
    await Promise.all(nodes.filter((id) => id !== identity.id).map((id) => this.#tell(id)))
  }

  async #tell(id: NodeId): Promise<void> {
    const { context, signal } = this.#session
    try {
      const { channel, release } = await this.#pool.open(id, undefined, signal)
      try {
        await channel.announce(this.record, { signal })
      } finally {
        release()
      }
    } catch (error) {
      context.logger.debug('a node could not be told', { node: id, error: asError(error).message })
    }
  }
}
