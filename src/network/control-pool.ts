import type { Duplex } from 'node:stream'
import type { SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { ControlChannel, type ControlHandler } from './control.ts'
import { unlessAborted } from './deadline.ts'
import { defaultTlsPort, type HelperReference } from './helper-reference.ts'
import type { NodeId } from './node-id.ts'
import { verifyNodeInfo, type NodeInfo } from './node-info.ts'
import { SecureStream } from './secure-stream.ts'
import type { Session } from './session.ts'
import type { Places, TlsPlace } from './tls/place.ts'
import { TcpStream } from './tls/tcp-stream.ts'

export interface ControlPoolOptions {
  readonly dial: (id: NodeId, places: Places, signal: AbortSignal) => Promise<Duplex>
  /** What other nodes ask on streams that this one opened. */
  readonly handler: ControlHandler
  /** This node's record, for that helper. */
  readonly record: (helper: HelperReference | undefined) => NodeInfo
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
   * An open control stream to that node, there already or dialled: to these places, and to those the directory knows.
   * Release it when you are done with it.
   *
   * @throws {NatworkError} why there is none; the signal's reason.
   */
  async open(
    id: NodeId,
    places: Places = nowhere,
    signal: AbortSignal = this.#session.signal,
  ): Promise<Lease> {
    if (this.#stopped) throw new UsageError('ERR_NATWORK_STOPPED', 'the network was stopped')
    let entry = this.#entries.get(id)
    if (entry === undefined) {
      entry = this.#dial(id, places)
      this.#entries.set(id, entry)
    }
    return await this.#hold(id, entry, signal)
  }

  /** As {@link open}, and hanging on it: signals for this node come by the stream. */
  async attach(id: NodeId, places: Places, signal?: AbortSignal): Promise<HelperLease> {
    return await this.#attach(id, await this.open(id, places, signal), places)
  }

  /**
   * Hangs on a helper by another stream, which takes the place of the one there is. That one ends when those who hold it
   * have let it go; when the other one cannot be had, nothing changes.
   */
  async replace(id: NodeId, places: Places, signal: AbortSignal): Promise<HelperLease> {
    const entry = this.#dial(id, places)
    const lease = await this.#hold(id, entry, signal)
    if (this.#stopped) {
      lease.release()
      throw new UsageError('ERR_NATWORK_STOPPED', 'the network was stopped')
    }
    const before = this.#entries.get(id)
    this.#entries.set(id, entry)
    if (before?.holders === 0) before.opened?.close()
    return await this.#attach(id, lease, places)
  }

  /** The stream to that node, if one is open now, and the way it goes. */
  get(id: NodeId): Pick<Lease, 'channel' | 'tls'> | undefined {
    const { opened, tls } = this.#entries.get(id) ?? {}
    return opened?.alive === true ? { channel: opened, tls } : undefined
  }

  async #hold(id: NodeId, held: Entry, signal: AbortSignal): Promise<Lease> {
    held.holders++
    clearTimeout(held.spareTimer)
    const release = once(() => this.#release(id, held))
    try {
      const channel = await unlessAborted(held.channel, signal)
      return { channel, address: held.address, tls: held.tls, release }
    } catch (error) {
      release()
      throw error
    }
  }

  async #attach(id: NodeId, lease: Lease, places: Places): Promise<HelperLease> {
    try {
      const entry = this.#entries.get(id)
      if (entry?.opened !== lease.channel) return { ...lease, info: undefined }
      entry.attached ??= this.#tell(lease.channel, (entry.helper = referenceOf(id, lease, places)))
      return { ...lease, info: await entry.attached }
    } catch (error) {
      lease.release()
      throw error
    }
  }

  /** The record has changed: the helpers on which this node hangs are told. */
  refresh(): void {
    for (const entry of this.#entries.values()) {
      const { opened, attached, helper } = entry
      if (attached === undefined || opened === undefined) continue
      this.#tell(opened, helper).catch((error: unknown) => {
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

  #dial(id: NodeId, places: Places): Entry {
    const { context, signal, timeouts } = this.#session
    const ended = new AbortController()
    const either = AbortSignal.any([signal, ended.signal])
    const connect = async (): Promise<ControlChannel> => {
      const stream = await context.connectToNode(id, () => this.#options.dial(id, places, either), either)
      if (stream instanceof SecureStream) {
        if (stream.raw instanceof TcpStream) entry.tls = stream.raw.place
        else entry.address = stream.remote
      }
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
    const entry: Entry = { holders: 0, ended, channel: connect(), address: undefined, tls: undefined }
    entry.channel.catch(() => this.#forget(id, entry))
    return entry
  }

  /**
   * The record names the helper from the first on: who asks it for this node must not take it for one without.
   *
   * @returns the helper's own record, if it says it.
   */
  async #tell(channel: ControlChannel, helper: HelperReference | undefined): Promise<NodeInfo | undefined> {
    const { info } = await channel.ask({ type: 'attach', info: this.#options.record(helper) })
    if (info === undefined) return undefined
    const verified = verifyNodeInfo(info)
    return verified.id === channel.peer ? verified : undefined
  }

  #release(id: NodeId, entry: Entry): void {
    if (--entry.holders > 0) return
    if (this.#entries.get(id) !== entry) {
      // Another one has taken its place.
      entry.ended.abort(new UsageError('ERR_NATWORK_STOPPED', 'nobody waits for it'))
      entry.opened?.close()
      return
    }
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
  /** Where it answered when the stream is TLS over TCP. */
  readonly tls: TlsPlace | undefined
  readonly release: () => void
}

export interface HelperLease extends Lease {
  /** The helper's own record; older ones do not say it. */
  readonly info: NodeInfo | undefined
}

const nowhere: Places = { addresses: [], tls: [] }

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
  tls: TlsPlace | undefined
  /** How others would find it: set when this node hangs on it, or is about to. */
  helper?: HelperReference | undefined
  attached?: Promise<NodeInfo | undefined>
  spareTimer?: NodeJS.Timeout
}

/** Undefined when it has no address of UDP. */
function referenceOf(id: NodeId, { address, tls }: Lease, places: Places): HelperReference | undefined {
  const at = address ?? places.addresses[0]
  const port = tls === undefined || tls.port === defaultTlsPort ? {} : { tls: tls.port }
  return at && { id, address: at, ...port }
}

function once(task: () => void): () => void {
  let done = false
  return () => {
    if (!done) task()
    done = true
  }
}
