import type { SocketAddress } from '../../core/address.ts'
import { formatAddress, sameAddress } from '../../core/address.ts'
import {
  samePath,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { StunBuilder } from '../codec/builder.ts'
import { Attribute, ErrorCode, MessageClass, Method, requiredAttributes } from '../codec/registry.ts'
import { StunView, TRANSACTION_ID_LENGTH, transactionKeyOf } from '../codec/view.ts'
import { StunPeerError, StunRedirectError, StunResponseError, StunUsageError } from '../errors.ts'
import { RtoCache } from './rto.ts'
import {
  REDIRECT_MEMORY,
  StunTransaction,
  defaultTiming,
  type StunClientEvent,
  type StunRequest,
  type Timing,
} from './transaction.ts'

export interface StunClientOptions {
  readonly rng: Rng
  /** Sent with every request as SOFTWARE; it tells servers and eavesdroppers what you run. Default: not sent. */
  readonly software?: string
  readonly timing?: Partial<Timing>
  /** Open transactions in all; default 256. */
  readonly maxTransactions?: number
  /** Open transactions with one transport address; default 10 (RFC 8489 §6.2). */
  readonly maxPerServer?: number
}

/**
 * The client side of STUN (RFC 8489 §6): sends requests, repeats them over UDP, answers challenges (401, 438), follows
 * protected redirections (300), repeats after 5xx, and matches responses. One of it serves any number of paths: a
 * shared UDP port, TCP and TLS connections (`reliable`).
 *
 * A datagram is this machine's only when it is a response to an open transaction, on the path of the request.
 */
export class StunClient implements Machine<StunClientEvent> {
  readonly #rng: Rng
  readonly #software: string | undefined
  readonly #timing: Timing
  readonly #maxTransactions: number
  readonly #maxPerServer: number
  readonly #rtos: RtoCache
  readonly #builder = new StunBuilder()
  readonly #view = new StunView()
  // Bounded by maxTransactions.
  readonly #open = new Set<StunTransaction>()
  /** By the first 48 bits of the transaction id, those that wait for a response. */
  readonly #byKey = new Map<number, StunTransaction>()
  // Bounded by what is open: one datagram per transaction and turn, and indications of the caller's own.
  #transmits: Transmit[] = []
  #events: StunClientEvent[] = []

  constructor(options: StunClientOptions) {
    this.#rng = options.rng
    this.#software = options.software
    this.#timing = { ...defaultTiming, ...options.timing }
    this.#maxTransactions = options.maxTransactions ?? 256
    this.#maxPerServer = options.maxPerServer ?? 10
    this.#rtos = new RtoCache(this.#timing.rto)
  }

  /** How many transactions are open. */
  get size(): number {
    return this.#open.size
  }

  /**
   * Begins a transaction. It ends with exactly one event, `response` (a success response) or `failed`, unless
   * {@link cancel} comes first.
   *
   * @throws {StunUsageError} `ERR_NATWORK_STUN_BUSY` when too many are open; `ERR_NATWORK_STUN_ENCODE` when an
   * attribute does not fit.
   */
  request(now: Micros, request: StunRequest): StunTransaction {
    let towards = 0
    for (const { path } of this.#open) if (samePath(path, request.path)) towards++
    if (this.#open.size >= this.#maxTransactions || towards >= this.#maxPerServer) {
      throw new StunUsageError(
        'ERR_NATWORK_STUN_BUSY',
        `${this.#open.size} STUN transactions are open, ${towards} of them with this server: wait for some to end`,
      )
    }
    const transaction = new StunTransaction(request)
    this.#begin(now, transaction)
    this.#open.add(transaction)
    return transaction
  }

  /** Sends an indication, once: nothing comes back (§6.3.2). A Binding indication keeps a NAT's mapping alive. */
  indicate(path: Path, method: number, attributes?: (builder: StunBuilder) => void): void {
    const id = new Uint8Array(TRANSACTION_ID_LENGTH)
    this.#rng.fill(id)
    this.#builder.start(method, MessageClass.Indication, id)
    attributes?.(this.#builder)
    this.#transmits.push({ path, data: this.#builder.fingerprint().copy() })
  }

  /** Ends a transaction without an event. A response that still comes is not this machine's any more. */
  cancel(transaction: StunTransaction): void {
    this.#close(transaction)
  }

  /** The connection behind `path` is gone: its transactions fail (§6.2.2). */
  disconnected(path: Path, cause?: unknown): void {
    for (const transaction of [...this.#open]) {
      if (!samePath(transaction.path, path)) continue
      const error = new StunPeerError(
        'ERR_NATWORK_STUN_CONNECTION',
        'the connection to the STUN server ended before it answered',
        { cause },
      )
      this.#fail(transaction, error)
    }
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const view = this.#view
    if (!view.open(bytes)) return false
    if (view.messageClass !== MessageClass.Success && view.messageClass !== MessageClass.Error) return false
    const transaction = this.#byKey.get(view.transactionKey)
    if (transaction === undefined || !matches(transaction, view, path)) return false
    this.#respond(now, transaction, path)
    return true
  }

  handleTimeout(now: Micros): void {
    for (const transaction of [...this.#open]) {
      while (transaction.nextAt <= now && this.#open.has(transaction)) this.#expire(now, transaction)
    }
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift()
  }

  pollEvent(): StunClientEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    let at = Infinity
    for (const { nextAt } of this.#open) at = Math.min(at, nextAt)
    return at === Infinity ? undefined : { at, reason: 'stun transaction' }
  }

  /** One attempt: a new transaction id, a new message, sent for the first time. */
  #begin(now: Micros, transaction: StunTransaction): void {
    const { request, path } = transaction
    const timing = { ...this.#timing, ...request.timing }
    this.#forget(transaction)
    do {
      this.#rng.fill(transaction.id)
      transaction.key = transactionKeyOf(transaction.id, 0)
    } while (this.#byKey.has(transaction.key))

    const builder = this.#builder.start(request.method, MessageClass.Request, transaction.id)
    if (this.#software !== undefined) builder.text(Attribute.Software, this.#software)
    request.attributes?.(builder)
    transaction.signature = transaction.auth?.sign(builder)
    if (request.fingerprint ?? true) builder.fingerprint()
    transaction.message = builder.copy()

    this.#byKey.set(transaction.key, transaction)
    transaction.startedAt = now
    transaction.sent = 0
    transaction.resting = false
    transaction.interval = request.timing?.rto ?? this.#rtos.rto(now, path.remote.address)
    transaction.visited.set(formatAddress(path.remote), now)
    this.#send(now, transaction, timing)
  }

  #send(now: Micros, transaction: StunTransaction, timing: Timing): void {
    this.#transmits.push({ path: transaction.path, data: transaction.message })
    transaction.sent++
    if (transaction.request.reliable === true) {
      transaction.nextAt = now + timing.ti
    } else if (transaction.sent < timing.rc) {
      transaction.nextAt = now + transaction.interval
      transaction.interval *= 2
    } else {
      // Rm is in units of the first RTO: 500 ms, doubled rc − 1 times since.
      transaction.nextAt = now + (timing.rm * transaction.interval) / 2 ** (timing.rc - 1)
    }
  }

  #expire(now: Micros, transaction: StunTransaction): void {
    const timing = { ...this.#timing, ...transaction.request.timing }
    if (transaction.resting) {
      this.#restart(now, transaction)
    } else if (transaction.request.reliable !== true && transaction.sent < timing.rc) {
      // Due when it was due, not when we got to it: a late timer does not stretch the whole schedule.
      this.#send(transaction.nextAt, transaction, timing)
    } else if (transaction.violated) {
      this.#fail(transaction, integrityError())
    } else {
      const seconds = ((now - transaction.startedAt) / 1e6).toFixed(1)
      this.#fail(
        transaction,
        new StunPeerError(
          'ERR_NATWORK_STUN_TIMEOUT',
          `no answer from the STUN server in ${seconds} s to ${transaction.sent} request(s): ` +
            'is the address right, and does a firewall let it through?',
        ),
      )
    }
  }

  /** The view holds a response to this transaction, from the right place. */
  #respond(now: Micros, transaction: StunTransaction, path: Path): void {
    const view = this.#view
    const verdict = transaction.auth?.examine(view, transaction.signature) ?? 'accept'
    if (verdict === 'discard') {
      transaction.violated = true
      if (transaction.request.reliable === true) this.#fail(transaction, integrityError())
      return
    }
    if (verdict === 'bid-down') {
      this.#fail(
        transaction,
        new StunPeerError(
          'ERR_NATWORK_STUN_BID_DOWN',
          'the STUN server’s list of password algorithms was removed on the way: somebody is tampering with the path',
        ),
      )
      return
    }
    const rtt = transaction.sent === 1 ? now - transaction.startedAt : undefined
    if (rtt !== undefined) this.#rtos.measured(now, transaction.path.remote.address, rtt)
    if (verdict === 'retry' && transaction.challenges++ < MAX_CHALLENGES) {
      this.#restart(now, transaction)
      return
    }
    const unknown = view.unknownRequired(transaction.request.understood ?? understoodInResponses)
    if (unknown.length > 0 && !onlyUnderstood(unknown)) {
      this.#fail(transaction, invalidError('it has attributes that must be understood and are not'))
    } else if (view.messageClass === MessageClass.Error) {
      this.#respondError(now, transaction)
    } else if (view.method === Method.Binding && view.mappedAddress() === undefined) {
      this.#fail(transaction, invalidError('it says no mapped address'))
    } else {
      this.#close(transaction)
      this.#events.push({ type: 'response', transaction, response: copyOf(view), path, rtt })
    }
  }

  #respondError(now: Micros, transaction: StunTransaction): void {
    const view = this.#view
    const error = view.errorCode()
    if (error === undefined) {
      this.#fail(transaction, invalidError('it says no error code'))
    } else if (error.code === ErrorCode.TryAlternate) {
      this.#redirect(now, transaction)
    } else if (error.code >= 500 && error.code < 600 && transaction.serverErrors < MAX_SERVER_ERRORS) {
      // §6.3.4 allows four more tries and says nothing of their pace: that of retransmissions.
      transaction.serverErrors++
      this.#forget(transaction)
      transaction.resting = true
      const rto = transaction.request.timing?.rto ?? this.#rtos.rto(now, transaction.path.remote.address)
      transaction.nextAt = now + rto * 2 ** (transaction.serverErrors - 1)
    } else {
      this.#fail(transaction, new StunResponseError(error.code, error.reason, view.unknownAttributes()))
    }
  }

  /** §10, as strict as §14.8: only a response under message integrity may send us elsewhere. */
  #redirect(now: Micros, transaction: StunTransaction): void {
    const view = this.#view
    const alternate = alternateServer(view, transaction.path.remote)
    const domain = view.text(Attribute.AlternateDomain)
    const authenticated = transaction.signature !== undefined
    const refuse = (message: string): void =>
      this.#fail(transaction, new StunRedirectError(message, { alternate, domain, authenticated }))
    if (alternate === undefined) {
      refuse('the STUN server names no alternate server')
      return
    }
    if (!authenticated) {
      refuse('the STUN server sends us elsewhere without proof that it is the server: not followed')
      return
    }
    const seenAt = transaction.visited.get(formatAddress(alternate)) ?? -Infinity
    if (now - seenAt < REDIRECT_MEMORY || transaction.visited.size > MAX_REDIRECTS) {
      refuse('the STUN servers send us in a circle')
      return
    }
    const { redirect, reliable } = transaction.request
    const path =
      redirect !== undefined ? redirect(alternate) : reliable === true ? undefined : { remote: alternate }
    if (path === undefined) {
      refuse('the STUN server sends us to another one')
      return
    }
    transaction.path = path
    transaction.auth = transaction.auth?.fresh()
    transaction.challenges = 0
    this.#restart(now, transaction)
  }

  /** Bytes of a server may have led here: what cannot be encoded ends the transaction, it does not throw. */
  #restart(now: Micros, transaction: StunTransaction): void {
    try {
      this.#begin(now, transaction)
    } catch (cause) {
      this.#fail(transaction, invalidError('it cannot be answered', cause))
    }
  }

  #fail(transaction: StunTransaction, error: StunPeerError): void {
    this.#close(transaction)
    this.#events.push({ type: 'failed', transaction, error })
  }

  #close(transaction: StunTransaction): void {
    this.#open.delete(transaction)
    this.#forget(transaction)
    transaction.nextAt = Infinity
  }

  /** No response is waited for any more. */
  #forget(transaction: StunTransaction): void {
    if (this.#byKey.get(transaction.key) === transaction) this.#byKey.delete(transaction.key)
  }
}

/** First 401, then 438 when the nonce runs out on the way; a server that goes on is not listening. */
const MAX_CHALLENGES = 3
/** §6.3.4. */
const MAX_SERVER_ERRORS = 4
const MAX_REDIRECTS = 5

const understoodInResponses: ReadonlySet<number> = new Set([
  ...requiredAttributes,
  // RFC 3489's, from servers that answer both generations alike.
  Attribute.SourceAddress,
  Attribute.ChangedAddress,
  Attribute.ReflectedFrom,
])

const onlyUnderstood = (types: readonly number[]): boolean =>
  types.every((type) => understoodInResponses.has(type))

function matches(transaction: StunTransaction, view: StunView, path: Path): boolean {
  const { replyFrom, method } = transaction.request
  const fromThere =
    replyFrom === undefined ? samePath(transaction.path, path) : sameAddress(replyFrom, path.remote)
  return fromThere && view.method === method && Buffer.compare(transaction.id, view.transactionId) === 0
}

/** The alternate of the family we came by; any other only when there is none (§10). */
function alternateServer(view: StunView, current: SocketAddress): SocketAddress | undefined {
  let other: SocketAddress | undefined
  for (let at = view.first(); at !== -1; at = view.next(at)) {
    if (view.typeAt(at) !== Attribute.AlternateServer) continue
    const alternate = view.addressAt(at)
    if (alternate === undefined) continue
    if (alternate.address.includes(':') === current.address.includes(':')) return alternate
    other ??= alternate
  }
  return other
}

function copyOf(view: StunView): StunView {
  const copy = new StunView()
  copy.open(Uint8Array.from(view.bytes))
  return copy
}

const integrityError = (): StunPeerError =>
  new StunPeerError(
    'ERR_NATWORK_STUN_INTEGRITY',
    'the STUN server’s answers fail the integrity check: a wrong password, or somebody tampers with the path',
  )

const invalidError = (what: string, cause?: unknown): StunPeerError =>
  new StunPeerError('ERR_NATWORK_STUN_INVALID_RESPONSE', `the STUN server’s answer is unusable: ${what}`, {
    cause,
  })
