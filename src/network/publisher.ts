import type { Duplex } from 'node:stream'
import type { SocketAddress } from '../core/address.ts'
import { announce } from './control.ts'
import type { Dialler } from './dialler.ts'
import { asError } from './errors.ts'
import type { NodeId } from './node-id.ts'
import { signNodeInfo, type NodeInfo } from './node-info.ts'
import type { Session } from './session.ts'

/** A record's addresses are believed for a day, and said again every few hours. Seconds, milliseconds. */
const recordLifetime = 24 * 3_600
const publishInterval = 6 * 3_600_000

/** Keeps this node's own record, and tells it to the directory and to the nodes that are known. In the background. */
export class Publisher {
  record: NodeInfo
  readonly #session: Session
  readonly #dialler: Dialler
  readonly #addresses: () => readonly SocketAddress[]
  readonly #timer: NodeJS.Timeout
  #publishing: Promise<void>
  /** A publication waits for the one under way: it will take the newest record. */
  #isQueued = false

  constructor(
    session: Session,
    dialler: Dialler,
    lastSequence: number,
    addresses: () => readonly SocketAddress[],
  ) {
    this.#session = session
    this.#dialler = dialler
    this.#addresses = addresses
    this.record = this.#sign(lastSequence)
    this.#publishing = this.#publish()
    this.#timer = setInterval(() => {
      this.refresh()
    }, publishInterval)
  }

  /** The addresses have changed: signs anew and tells everybody. */
  refresh(): void {
    this.record = this.#sign(this.record.sequence)
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
  #sign(lastSequence: number): NodeInfo {
    const now = Date.now()
    return signNodeInfo(this.#session.identity, {
      addresses: this.#addresses(),
      sequence: Math.max(lastSequence + 1, now),
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
    let control: Duplex | undefined
    try {
      control = await context.connectToNode(id, () => this.#dialler.dialControl(id, signal), signal)
      await announce(control, this.record)
    } catch (error) {
      context.logger.debug('a node could not be told', { node: id, error: asError(error).message })
    } finally {
      control?.on('error', () => undefined).end()
      control?.resume()
    }
  }
}
