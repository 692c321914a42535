import { setMaxListeners } from 'node:events'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { SocketAddress } from '../core/address.ts'
import { PeerError } from '../core/errors.ts'
import { Scope } from './deadline.ts'
import { asError, refusalCodes } from './errors.ts'
import { KeepAlive } from './keep-alive.ts'
import { isNodeId, type NodeId } from './node-id.ts'
import { verifyNodeInfo, type NodeInfo } from './node-info.ts'
import { readMessage, writeMessage } from './protocol.ts'
import { closed, explain, RefusedError } from './refusal.ts'
import { SecureStream } from './secure-stream.ts'

/** Milliseconds that an answer may be put off. */
const maxSilence = 60_000

const id = z.string().max(64).refine(isNodeId)
/** Base64 of a sealed signal. */
const body = z.base64().max(15_000)

/**
 * What two nodes ask each other on a control stream:
 *
 * - `announce`: "this is where I am now". Between nodes that know each other.
 * - `find`: "do you know where that node is?"
 * - `attach`: "hand me the signals that come for me, on this stream"; the record says who and where I am.
 * - `signal`: "forward this to that node". `for` is set by a helper that forwards for somebody else: it goes no further.
 * - `deliver`: "here is a signal for you".
 * - `relay`: "let me use your relay for a while".
 * - `ping`: "are you there?", to be answered after so many milliseconds
 */
const questionSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('announce'), info: z.unknown() }),
  z.object({ type: z.literal('find'), id }),
  z.object({ type: z.literal('attach'), info: z.unknown() }),
  z.object({ type: z.literal('signal'), to: id, body, for: id.optional() }),
  z.object({ type: z.literal('deliver'), body }),
  z.object({ type: z.literal('relay') }),
  z.object({ type: z.literal('ping'), after: z.int().min(0).max(maxSilence).exactOptional() }),
])

export type ControlQuestion = z.output<typeof questionSchema>

const relayGrantSchema = z.object({
  username: z.string().max(512),
  password: z.string().max(512),
  /** Seconds that the credentials are good for. */
  lifetime: z.int().min(1).max(86_400),
  /** The relay's 401 for the address that this comes from, as STUN has it: the first request answers it at once. */
  challenge: z.base64().max(2_048).exactOptional(),
})

/** Leave to use a relay for a while (RFC 8656's credentials). */
export type RelayGrant = z.output<typeof relayGrantSchema>

const frameSchema = z.union([
  z.object({ ask: z.int().min(0), question: questionSchema }),
  z.object({
    answer: z.int().min(0),
    code: z.enum(refusalCodes).optional(),
    info: z.unknown().optional(),
    relay: relayGrantSchema.optional(),
  }),
])

export interface ControlAnswer {
  readonly info?: unknown
  readonly relay?: RelayGrant
}

/** What this node does when it is asked. A thrown {@link RefusedError} is the answer; anything else ends the stream. */
export type ControlHandler = (question: ControlQuestion, channel: ControlChannel) => Promise<ControlAnswer>

export interface ControlChannelOptions {
  readonly handler: ControlHandler
  /** Milliseconds without a word from the peer after which the stream is taken for dead. */
  readonly idle: number
  /**
   * Have the peer speak after every so many milliseconds at most, 60,000 at most itself; the side that dialled does. Sooner
   * where a NAT between forgets sooner ({@link KeepAlive}). A peer that is not there is noticed within twice that.
   */
  readonly keepAlive?: number
}

/**
 * A control stream: both nodes may ask and answer, in any order, for as long as it lives. Owns the stream.
 *
 * Bounded: {@link maxOpen} questions of ours may be open, {@link maxServed} of the peer's are worked on at once (the rest
 * waits in its own stream), and what it does not read is not piled up beyond {@link maxBacklog}.
 */
export class ControlChannel {
  readonly peer: NodeId
  /** Resolves when the stream is over; the error when not in good order. */
  readonly closed: Promise<Error | undefined>
  readonly #stream: Duplex
  readonly #options: ControlChannelOptions
  readonly #open = new Map<number, Waiting>()
  readonly #ended = new AbortController()
  #resolveClosed: (error: Error | undefined) => void = () => undefined
  #nextAsk = 0
  #served = 0
  #onServed: () => void = () => undefined
  #idleTimer: NodeJS.Timeout

  constructor(stream: Duplex, peer: NodeId, options: ControlChannelOptions) {
    this.#stream = stream
    this.peer = peer
    this.#options = options
    setMaxListeners(0, this.#ended.signal) // One for each open question.
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve))
    stream.on('error', (error) => this.#end(error))
    stream.on('close', () => this.#end(undefined))
    this.#idleTimer = setTimeout(() => {
      this.close(new PeerError('ERR_NATWORK_TIMEOUT', `${peer} said nothing for ${options.idle} ms`))
    }, options.idle)
    void this.#read()
    if (options.keepAlive !== undefined) void this.#keepAlive(Math.min(options.keepAlive, maxSilence))
  }

  /** Where the peer is seen; undefined when the caller's own transport carries the stream. */
  get remote(): SocketAddress | undefined {
    return this.#stream instanceof SecureStream ? this.#stream.remote : undefined
  }

  /** Until {@link closed} resolves. */
  get alive(): boolean {
    return !this.#ended.signal.aborted
  }

  /** Tells the node at the other end this node's record. */
  async announce(info: NodeInfo, options?: AskOptions): Promise<void> {
    await this.ask({ type: 'announce', info }, options)
  }

  /** Asks for a node's record. @returns a verified one, or undefined when the other does not know. */
  async find(id: NodeId, options?: AskOptions): Promise<NodeInfo | undefined> {
    const { info } = await this.ask({ type: 'find', id }, options)
    if (info === undefined) return undefined
    const verified = verifyNodeInfo(info)
    if (verified.id !== id)
      throw new PeerError('ERR_NATWORK_NODE_INFO', `asked for ${id}, got ${verified.id}`)
    return verified
  }

  /**
   * @throws {RefusedError} the peer's no.
   * @throws {PeerError} `ERR_NATWORK_TIMEOUT`, `ERR_NATWORK_RESET` when the stream is over or ends.
   */
  async ask(question: ControlQuestion, { timeout = 5_000, signal }: AskOptions = {}): Promise<ControlAnswer> {
    if (this.#open.size >= maxOpen || this.#stream.writableLength > maxBacklog) {
      throw new RefusedError('ERR_NATWORK_BUSY', `${this.peer} does not take in what it is told fast enough`)
    }
    const ask = this.#nextAsk++
    const scope = new Scope(timeout, [signal, this.#ended.signal], () => {
      return new PeerError('ERR_NATWORK_TIMEOUT', `${this.peer} did not answer within ${timeout} ms`)
    })
    try {
      const answer = new Promise<ControlAnswer>((resolve, reject) => {
        this.#open.set(ask, { type: question.type, resolve, reject })
      })
      scope.signal.throwIfAborted()
      writeMessage(this.#stream, { ask, question }, maxFrame)
      return await scope.run(answer)
    } finally {
      this.#open.delete(ask)
      scope.close()
    }
  }

  /** Whether the peer answers now. Closes the stream if it does not within `timeout` ms. */
  async probe(timeout: number): Promise<boolean> {
    try {
      await this.ask({ type: 'ping' }, { timeout })
      return true
    } catch (error) {
      this.close(asError(error))
      return false
    }
  }

  /** Ends the stream in good order, or with an error at once. Idempotent. */
  close(error?: Error): void {
    if (error === undefined) {
      this.#stream.end()
      // What the peer still says is no longer heard, but its end is.
      this.#stream.resume()
      void closed(this.#stream, lingering)
      this.#end(undefined)
    } else {
      this.#stream.destroy(error)
      this.#end(error)
    }
  }

  /** Ends in good order, and resolves when the peer has everything and has ended too, or after `linger` ms. */
  async finish(linger: number): Promise<void> {
    this.close()
    await closed(this.#stream, linger)
  }

  #end(error: Error | undefined): void {
    if (!this.alive) return
    clearTimeout(this.#idleTimer)
    this.#ended.abort(error ?? new PeerError('ERR_NATWORK_RESET', `the control stream of ${this.peer} ended`))
    this.#onServed()
    this.#resolveClosed(error)
  }

  /** One answer after another that the peer puts off, and a question at once when one does not come. */
  async #keepAlive(most: number): Promise<void> {
    const keepAlive = new KeepAlive(most)
    const patience = Math.min(maxPatience, most / 2)
    while (this.alive) {
      const after = Math.round(keepAlive.silence)
      // Not the answer alone: one that comes at once, as a hurried or ill-willed peer's, is no reason to ask again at once.
      const [heard] = await Promise.all([
        this.#hears({ type: 'ping', after }, after + patience),
        sleep(after, undefined, { signal: this.#ended.signal }).catch(() => undefined),
      ])
      if (heard) keepAlive.passed()
      else if (await this.probe(most - patience)) keepAlive.missed()
    }
  }

  async #hears(question: ControlQuestion, timeout: number): Promise<boolean> {
    return await this.ask(question, { timeout }).then(
      () => true,
      () => false,
    )
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const frame = await readMessage(this.#stream, frameSchema, maxFrame)
        if (frame === undefined || !this.alive) break
        this.#idleTimer.refresh()
        if ('answer' in frame) {
          this.#answered(frame)
        } else {
          await this.#roomToServe()
          void this.#serve(frame.ask, frame.question)
        }
      }
      this.close()
    } catch (error) {
      this.close(asError(error))
    }
  }

  #answered({ answer, code, info, relay }: AnswerFrame): void {
    const waiting = this.#open.get(answer)
    // It came too late, and nobody waits any more.
    if (waiting === undefined) return
    if (code === undefined) waiting.resolve({ ...(info !== undefined && { info }), ...(relay && { relay }) })
    else waiting.reject(new RefusedError(code, explain(code, this.peer, { op: waiting.type })))
  }

  async #roomToServe(): Promise<void> {
    while (this.#served >= maxServed && this.alive) {
      await new Promise<void>((resolve) => (this.#onServed = resolve))
    }
  }

  async #serve(ask: number, question: ControlQuestion): Promise<void> {
    this.#served++
    try {
      const answer =
        question.type === 'ping'
          ? await this.#pong(question.after)
          : await this.#options.handler(question, this)
      this.#write({ answer: ask, ...answer })
    } catch (error) {
      if (error instanceof RefusedError) this.#write({ answer: ask, code: error.code })
      else this.close(asError(error))
    } finally {
      this.#served--
      this.#onServed()
    }
  }

  async #pong(after = 0): Promise<ControlAnswer> {
    // At once when the stream ends: then nothing is written.
    if (after > 0) await sleep(after, undefined, { signal: this.#ended.signal }).catch(() => undefined)
    return {}
  }

  #write(frame: object): void {
    if (!this.alive) return
    // A peer that asks without reading the answers.
    if (this.#stream.writableLength > maxBacklog) {
      this.close(new PeerError('ERR_NATWORK_BUSY', `${this.peer} does not read its answers`))
    } else {
      writeMessage(this.#stream, frame, maxFrame)
    }
  }
}

export interface AskOptions {
  /** Milliseconds, 5,000 by default. */
  readonly timeout?: number
  readonly signal?: AbortSignal
}

/** Questions of ours that may wait for their answers on one stream. */
const maxOpen = 256
/** Questions of the peer that are worked on at once. */
const maxServed = 8
/** Milliseconds that an answer which was put off may take: lost once and sent again. */
const maxPatience = 1_500
/** Bytes that may wait for a peer that reads slowly. */
const maxBacklog = 256 * 1024
/** Milliseconds for the peer to end its side too. */
const lingering = 5_000
/** Bytes of one frame: a sealed signal with all its candidates. */
const maxFrame = 16_384

interface Waiting {
  readonly type: ControlQuestion['type']
  readonly resolve: (answer: ControlAnswer) => void
  readonly reject: (error: Error) => void
}

type AnswerFrame = Extract<z.output<typeof frameSchema>, { answer: number }>
