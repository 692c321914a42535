import { SECOND, type Deadline, type Micros, type Path, type Transmit } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import {
  Attribute,
  ErrorCode,
  StunClient,
  StunResponseError,
  type ClientAuth,
  type StunBuilder,
  type StunPeerError,
  StunView,
  type StunTransaction,
  type Timing,
} from '../../stun/index.ts'

/** What became of a request. */
export type Answer =
  | {
      readonly ok: true
      readonly response: StunView
      /** When the request was first sent: lifetimes are counted from there, so that ours end first. */
      readonly since: Micros
    }
  | {
      readonly ok: false
      readonly error: StunPeerError
      /** The number of the error response; 0 when there was none. */
      readonly status: number
    }

export interface Ask {
  readonly method: number
  readonly attributes: (builder: StunBuilder) => void
  readonly timing?: Partial<Timing>
  /** May a 300 be followed (RFC 8656 §7.4)? Over UDP only: a stream needs another connection. */
  readonly redirect?: boolean
  readonly done: (now: Micros, answer: Answer) => void
  /**
   * The answer was 437 without proof, and is none (RFC 8489 §9.2.5), but it is what coturn says when it has no
   * allocation: a reason to ask in another way. Called at most once.
   */
  readonly doubted?: (now: Micros) => void
}

/** The requests of one allocation to its server, and who waits for each. */
export class Requests {
  readonly #stun: StunClient
  readonly #reliable: boolean
  #server: Path
  #auth: ClientAuth | undefined
  // Bounded by the StunClient's own limit of open transactions.
  #agreedAt: Micros = -Infinity
  // Bounded by the permissions that are asked for at one time: polled with the requests.
  #behind: Transmit[] = []
  readonly #asked = new Map<StunTransaction, Ask>()
  /** Whose doubt was told. */
  readonly #doubted = new WeakSet<StunTransaction>()
  /** Credentials that others have taken the place of. */
  readonly #replaced = new WeakSet<ClientAuth>()
  readonly #view = new StunView()

  constructor(options: { rng: Rng; server: Path; auth: ClientAuth | undefined; reliable: boolean }) {
    this.#stun = new StunClient({ rng: options.rng, maxPerServer: MAX_OPEN, maxTransactions: MAX_OPEN })
    this.#server = options.server
    this.#auth = options.auth
    this.#reliable = options.reliable
  }

  /** The way to the server; after a 300 that was followed, to its alternate. */
  get server(): Path {
    return this.#server
  }

  set server(path: Path) {
    this.#server = path
  }

  /** With the server's last challenge: what signs a ConnectionBind on another connection. */
  get auth(): ClientAuth | undefined {
    return this.#auth
  }

  /** Takes the place of those that are about to end; what is under way goes on with the old ones. */
  set auth(auth: ClientAuth | undefined) {
    if (this.#auth !== undefined) this.#replaced.add(this.#auth)
    this.#auth = auth
    this.#agreedAt = -Infinity
  }

  /** Another server comes next, with a challenge of its own (RFC 8489 §10). */
  forgetChallenge(): void {
    this.#auth = this.#auth?.fresh()
  }

  ask(now: Micros, ask: Ask): void {
    const transaction = this.#stun.request(now, {
      method: ask.method,
      path: this.#server,
      attributes: ask.attributes,
      reliable: this.#reliable,
      understood: understoodInTurn,
      redirect: (alternate) => (ask.redirect === true && !this.#reliable ? { remote: alternate } : undefined),
      ...(this.#auth && { auth: this.#auth }),
      ...(ask.timing && { timing: ask.timing }),
    })
    this.#asked.set(transaction, ask)
  }

  /** The server has agreed to something within a minute: it will hardly ask for another nonce before it agrees again. */
  isFresh(now: Micros): boolean {
    return now - this.#agreedAt < FRESH
  }

  /** A message that means something only after the open requests: it goes out behind them. The bytes are kept. */
  sendBehind(data: Uint8Array): void {
    this.#behind.push({ path: this.#server, data })
  }

  /** Nobody waits for anything any more. */
  cancelAll(): void {
    this.#behind = []
    for (const transaction of this.#asked.keys()) this.#stun.cancel(transaction)
    this.#asked.clear()
  }

  /** The stream to the server ended. */
  disconnected(now: Micros, cause?: unknown): void {
    this.#stun.disconnected(this.#server, cause)
    this.#settle(now)
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    if (!this.#stun.handleDatagram(now, path, bytes)) return false
    this.#settle(now)
    for (const [transaction, { doubted }] of this.#asked) {
      if (doubted === undefined || !transaction.violated || this.#doubted.has(transaction)) continue
      if (!this.#view.open(bytes) || this.#view.errorCode()?.code !== ErrorCode.AllocationMismatch) continue
      this.#doubted.add(transaction)
      doubted(now)
      break
    }
    return true
  }

  handleTimeout(now: Micros): void {
    this.#stun.handleTimeout(now)
    this.#settle(now)
  }

  pollTransmit(): Transmit | undefined {
    return this.#stun.pollTransmit() ?? this.#behind.shift()
  }

  pollTimeout(): Deadline | undefined {
    return this.#stun.pollTimeout()
  }

  #settle(now: Micros): void {
    for (let event = this.#stun.pollEvent(); event !== undefined; event = this.#stun.pollEvent()) {
      const { transaction } = event
      const ask = this.#asked.get(transaction)
      if (!this.#asked.delete(transaction) || ask === undefined) continue
      if (event.type === 'response') {
        // After a redirection the allocation lives on the other server, with its challenge.
        this.#server = transaction.path
        if (transaction.auth !== undefined && !this.#replaced.has(transaction.auth))
          this.#auth = transaction.auth
        this.#agreedAt = now
        ask.done(now, { ok: true, response: event.response, since: transaction.startedAt })
      } else {
        const { error } = event
        ask.done(now, { ok: false, error, status: error instanceof StunResponseError ? error.status : 0 })
      }
    }
  }
}

/** Ten of them are the least that servers give a nonce. */
const FRESH = 60 * SECOND
/** One for the allocation, one for permissions, and what channels.ts and connects.ts allow themselves. */
const MAX_OPEN = 32

/** The comprehension-required attributes that RFC 8656 and RFC 6062 put into responses, besides RFC 8489's. */
export const understoodInTurn: ReadonlySet<number> = new Set([
  Attribute.XorRelayedAddress,
  Attribute.Lifetime,
  Attribute.ReservationToken,
  Attribute.ConnectionId,
  Attribute.ChannelNumber,
  Attribute.XorPeerAddress,
  Attribute.RequestedTransport,
  Attribute.RequestedAddressFamily,
  Attribute.EvenPort,
  Attribute.DontFragment,
  Attribute.Data,
])
