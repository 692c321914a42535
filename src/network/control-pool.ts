import type { Duplex } from 'node:stream'
import type { SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { ControlChannel, type ControlHandler } from './control.ts'
import { unlessAborted } from './deadline.ts'
import type { HelperReference } from './helper-reference.ts'
import type { NodeId } from './node-id.ts'
import type { NodeInfo } from './node-info.ts'
import { SecureStream } from './secure-stream.ts'
import type { Session } from './session.ts'

export interface ControlPoolOptions {
  readonly dial: (id: NodeId, addresses: readonly SocketAddress[], signal: AbortSignal) => Promise<Duplex>
  /** What other nodes ask on streams that this one opened. */
  readonly handler: ControlHandler
  /** This node's record, for helpers. */
  readonly record: () => NodeInfo
}

/**
 * The control streams that this node opened, one per node however many ask for it. Each is kept while somebody holds it,
 * and {@link spare} ms longer. Bounded by what holds: helpers, announcements, signals under way.
 */
export class ControlPool {
  readonly #session: Session
  readonly #options: ControlPoolOptions
  readonly #entries = new Map<NodeId, Entry>()
  #stopped = false

  constructor(session: Session, options: ControlPoolOptions) {
    this.#session = session
    this.#options = options
  }

  /**
   * An open control stream to that node, there already or dialled: to `addresses`, and to those the directory knows.
   * Release it when you are done with it.
   *
   * @throws {NatworkError} why there is none; the signal's reason.
   */
  async open(
    id: NodeId,
    addresses: readonly SocketAddress[] = [],
    signal: AbortSignal = this.#session.signal,
  ): Promise<Lease> {
    if (this.#stopped) throw new UsageError('ERR_NATWORK_STOPPED', 'the network was stopped')
    let entry = this.#entries.get(id)
    if (entry === undefined) {
      entry = this.#dial(id, addresses)
      this.#entries.set(id, entry)
    }
    const held = entry
    held.holders++
    clearTimeout(held.spareTimer)
    const release = once(() => this.#release(id, held))
    try {
      const channel = await unlessAborted(held.channel, signal)
      return { channel, address: held.address, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** As {@link open}, by what a record says, and hanging on it: signals for this node come by the stream. */
  async attach(helper: HelperReference, signal?: AbortSignal): Promise<Lease> {
    const lease = await this.open(helper.id, [helper.address], signal)
    try {
      const entry = this.#entries.get(helper.id)
      if (entry !== undefined) {
        entry.attached ??= this.#tell(lease.channel)
        await entry.attached
      }
      return lease
    } catch (error) {
      lease.release()
      throw error
    }
  }

  /** The stream to that node, if one is open now. */
  get(id: NodeId): ControlChannel | undefined {
    const entry = this.#entries.get(id)
    return entry?.opened?.alive === true ? entry.opened : undefined
  }

  /** The record has changed: the helpers on which this node hangs are told. */
  refresh(): void {
    for (const entry of this.#entries.values()) {
      if (entry.attached === undefined || entry.opened === undefined) continue
      this.#tell(entry.opened).catch((error: unknown) => {
        this.#session.context.logger.debug('a helper was not told', { error: String(error) })
      })
    }
  }

  /** Ends every stream; the last words arrive first. */
  async stop(): Promise<void> {
    this.#stopped = true
    const finished: Promise<void>[] = []
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.spareTimer)
      entry.ended.abort(new UsageError('ERR_NATWORK_STOPPED', 'the network was stopped'))
      if (entry.opened !== undefined) finished.push(entry.opened.finish(lastWords))
    }
    this.#entries.clear()
    await Promise.all(finished)
  }

  #dial(id: NodeId, addresses: readonly SocketAddress[]): Entry {
    const { context, signal, timeouts } = this.#session
    const ended = new AbortController()
    const either = AbortSignal.any([signal, ended.signal])
    const connect = async (): Promise<ControlChannel> => {
      const stream = await context.connectToNode(id, () => this.#options.dial(id, addresses, either), either)
      if (stream instanceof SecureStream) entry.address = stream.remote
      const channel = new ControlChannel(stream, id, {
        handler: this.#options.handler,
        idle: timeouts.idle,
        keepAlive: timeouts.keepAlive,
      })
      entry.opened = channel
      void channel.closed.then(() => this.#forget(id, entry))
      if (either.aborted) channel.close()
      return channel
    }
    const entry: Entry = { holders: 0, ended, channel: connect(), address: undefined }
    entry.channel.catch(() => this.#forget(id, entry))
    return entry
  }

  async #tell(channel: ControlChannel): Promise<void> {
    await channel.ask({ type: 'attach', info: this.#options.record() })
  }

  #release(id: NodeId, entry: Entry): void {
    if (--entry.holders > 0 || this.#entries.get(id) !== entry) return
    entry.spareTimer = setTimeout(() => {
      this.#forget(id, entry)
      entry.ended.abort(new UsageError('ERR_NATWORK_STOPPED', 'nobody waits for it'))
      entry.opened?.close()
    }, spare)
    entry.spareTimer.unref()
  }

  #forget(id: NodeId, entry: Entry): void {
    if (this.#entries.get(id) === entry) this.#entries.delete(id)
  }
}

/** The right to use a control stream. */
export interface Lease {
  readonly channel: ControlChannel
  /** Where the node answered; undefined when the caller's own transport carries the stream. */
  readonly address: SocketAddress | undefined
  readonly release: () => void
}

/** Milliseconds for what was said to arrive when the node stops. */
const lastWords = 1_000
/** Milliseconds that a stream outlives its last holder: the next one follows soon, or never. */
const spare = 30_000

interface Entry {
  holders: number
  readonly ended: AbortController
  readonly channel: Promise<ControlChannel>
  opened?: ControlChannel
  address: SocketAddress | undefined
  attached?: Promise<void>
  spareTimer?: NodeJS.Timeout
}

function once(task: () => void): () => void {
  let done = false
  return () => {
    if (!done) task()
    done = true
  }
}
