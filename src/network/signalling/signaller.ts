import { z } from 'zod'
import { PeerError, type NatworkError } from '../../core/errors.ts'
import type { ControlChannel } from '../control.ts'
import type { ControlPool } from '../control-pool.ts'
import { asError } from '../errors.ts'
import type { HelperReference } from '../helper-reference.ts'
import type { Identity } from '../identity.ts'
import type { NodeId } from '../node-id.ts'
import { uncompiled } from '../protocol.ts'
import { RefusedError } from '../refusal.ts'
import { placesOfReference } from '../tls/place.ts'
import { RateLimiter, type Rate } from './rate-limiter.ts'
import { ReplayWindow } from './replay-window.ts'
import { openSignal, sealSignal } from './seal.ts'

/** Where a signal goes. */
export interface SignalTarget {
  readonly id: NodeId
  /** X25519, 32 bytes. */
  readonly sealKey: Uint8Array
  readonly helpers: readonly HelperReference[]
}

/** A signal that somebody sealed for this node, once. */
export interface Signal<T> {
  readonly from: NodeId
  readonly message: T
  /** By the sender's clock: tells the order of what one node says. Unix time, milliseconds. */
  readonly sentAt: number
  /** The stream it came by: the shortest way for the answer. */
  readonly channel: ControlChannel
}

export interface SignallerOptions<T> {
  readonly identity: Identity
  readonly pool: ControlPool
  /** The control streams of the helpers on which this node hangs. */
  readonly helpers: () => readonly ControlChannel[]
  readonly schema: z.ZodType<T>
  readonly onSignal: (signal: Signal<T>) => void
  /** Why a signal was dropped, for the log. */
  readonly onDropped?: (why: string, channel: ControlChannel) => void
  /** Unix time, milliseconds. */
  readonly now?: () => number
}

/** What this node takes in, before it spends time on opening the seal. */
const perStream: Rate = { rate: 50, burst: 200 }
/** What it believes, by who signed: one node's flood leaves room for the others. */
const perSender: Rate = { rate: 10, burst: 60 }
const total: Rate = { rate: 50, burst: 200 }

/** Sends signals sealed and signed, by whatever way there is, and lets in those that hold, each once. */
export class Signaller<T> {
  readonly #options: SignallerOptions<T>
  readonly #now: () => number
  readonly #replays = new ReplayWindow()
  readonly #streams = new RateLimiter(perStream, { rate: 200, burst: 800 })
  readonly #senders = new RateLimiter(perSender, total)

  constructor(options: SignallerOptions<T>) {
    this.#options = options
    this.#now = options.now ?? (() => Date.now())
  }

  /**
   * Sends one signal: by `prefer` or an open stream to one of the target's helpers; when that does not take it soon, also by this
   * node's own helpers and by those of the target, dialled for it. The same signal may go several ways: it counts once.
   *
   * @returns the stream that took it.
   * @throws {RefusedError} a helper's no, the most telling one.
   * @throws {PeerError} `ERR_NATWORK_NODE_UNREACHABLE` when there is no helper at all.
   */
  async send(target: SignalTarget, message: T, options: SendOptions = {}): Promise<ControlChannel> {
    const { identity, pool, helpers } = this.#options
    const { prefer, avoid, signal } = options
    const sealed = sealSignal(identity, target, JSON.stringify(message), this.#now())
    const body = sealed.toString('base64')
    const open = [prefer, ...target.helpers.map(({ id }) => pool.get(id)?.channel)]
      .filter((channel) => channel !== undefined)
      .filter((channel) => channel.alive && avoid?.has(channel) !== true)
    const [first] = open
    const others = (): Promise<ControlChannel>[] =>
      [...new Set([...open, ...helpers()].filter((channel) => channel !== first))]
        .map((channel) => hand(channel, target.id, body, signal))
        .concat(
          target.helpers
            .filter(({ id }) => id !== identity.id && pool.get(id) === undefined)
            .map((helper) => this.#handTo(helper, target.id, body, signal)),
        )
    const hands: Promise<ControlChannel>[] = []
    try {
      if (first !== undefined) {
        const handed = hand(first, target.id, body, signal)
        hands.push(handed)
        const taken = await within(handed, hedge)
        if (taken) return first
      }
      hands.push(...others())
      return await Promise.any(hands)
    } catch (error) {
      signal?.throwIfAborted()
      throw worst(target.id, error)
    }
  }

  /** One that came in, from a helper or from its sender directly. Never throws. */
  receive(body: string, channel: ControlChannel): void {
    const why = this.#admit(body, channel)
    if (why !== undefined) this.#options.onDropped?.(why, channel)
  }

  #admit(body: string, channel: ControlChannel): string | undefined {
    const { identity, schema, onSignal } = this.#options
    const now = this.#now()
    if (!this.#streams.take(channel.peer, now)) return 'too many on this stream'
    const opened = openSignal(identity, Buffer.from(body, 'base64'))
    if (opened === undefined) return 'not sealed for this node, or not signed'
    if (!this.#senders.take(opened.from, now)) return `too many of ${opened.from}`
    const freshness = this.#replays.admit(opened.nonce, opened.sentAt, now)
    if (freshness === 'replayed') return `replayed, of ${opened.from}`
    if (freshness === 'clock') return `the clock of ${opened.from} is ${opened.sentAt - now} ms from ours`
    const parsed = schema.safeParse(parseJson(opened.text), uncompiled)
    if (!parsed.success) return `not understood, of ${opened.from}: ${z.prettifyError(parsed.error)}`
    onSignal({ from: opened.from, message: parsed.data, sentAt: opened.sentAt, channel })
    return undefined
  }

  async #handTo(
    helper: HelperReference,
    to: NodeId,
    body: string,
    signal: AbortSignal | undefined,
  ): Promise<ControlChannel> {
    // Hanging on it, too: the answer comes back the same way.
    const lease = await this.#options.pool.attach(helper.id, placesOfReference(helper), signal)
    try {
      return await hand(lease.channel, to, body, signal)
    } finally {
      lease.release()
    }
  }
}

async function hand(
  channel: ControlChannel,
  to: NodeId,
  body: string,
  signal: AbortSignal | undefined,
): Promise<ControlChannel> {
  const options = { timeout: handTimeout, ...(signal && { signal }) }
  if (channel.peer === to) {
    await channel.ask({ type: 'deliver', body }, options)
  } else {
    await channel.ask({ type: 'signal', to, body }, options)
  }
  return channel
}

export interface SendOptions {
  /** To be tried first: where an earlier signal of that node came from. */
  readonly prefer?: ControlChannel | undefined
  /** Streams that took signals which were never answered: not to be relied on. */
  readonly avoid?: ReadonlySet<ControlChannel>
  readonly signal?: AbortSignal
}

/** Whether it resolves in time; false when it rejects. */
async function within(task: Promise<unknown>, time: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), time)
  })
  const done = task.then(
    () => true,
    () => false,
  )
  try {
    return await Promise.race([done, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Milliseconds that the best way has for itself before the others are tried too. */
const hedge = 300
/** Milliseconds for a helper to take a signal. */
const handTimeout = 3_000

/** A typed no says more than a stream that broke. */
function worst(id: NodeId, thrown: unknown): NatworkError {
  const errors: unknown[] = thrown instanceof AggregateError ? thrown.errors : [thrown]
  const refused = errors.filter((error): error is RefusedError => error instanceof RefusedError)
  const busy = refused.find(({ code }) => code === 'ERR_NATWORK_BUSY')
  if (busy !== undefined) return busy
  const why =
    errors.length === 0
      ? 'no helper of it is known, and this node has none'
      : errors.map((error) => asError(error).message).join('; ')
  return new PeerError('ERR_NATWORK_NODE_UNREACHABLE', `no helper passes signals to ${id} (${why})`, {
    cause: thrown,
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
