import {
  samePath,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../core/machine.ts'
import type { Rng } from '../core/ports.ts'
import {
  Attribute,
  ErrorCode,
  MessageClass,
  Method,
  StunBuilder,
  StunView,
  TRANSACTION_ID_LENGTH,
  transactionKeyOf,
} from '../stun/codec/index.ts'
import type { IceEvent, IceSession } from './api.ts'
import { MAX_SESSIONS, MAX_TRANSACTIONS, TRANSACTION_LIFETIME } from './bounds.ts'
import type { Generation } from './check-list.ts'
import { IceUsageError } from './errors.ts'
import type { SessionHost, Transaction } from './host.ts'
import { understoodInChecks, writeError, writeSuccess } from './message.ts'
import { Session } from './session.ts'
import type { SessionOptions } from './types.ts'
import { TargetBudget } from './unverified.ts'

export interface IceMachineOptions {
  readonly rng: Rng
}

/** Since the start. */
export interface IceCounters {
  readonly checksSent: number
  readonly checksAnswered: number
  readonly checksReceived: number
  /** Requests for a session of ours with a wrong password, or none: somebody guesses, or an old one lingers. */
  readonly unauthentic: number
}

/**
 * All ICE sessions of one endpoint (RFC 8445). A Binding request is this machine's when its USERNAME begins with the
 * fragment of one of its sessions; a response, when it answers an open transaction on its very path. Everything else
 * is somebody else's: attach it before a `StunServer`, which answers every Binding request.
 *
 * Nobody without the password, which went to the peer alone, can open, move or reflect a path.
 */
export class IceMachine implements Machine<IceEvent> {
  readonly #rng: Rng
  readonly #view = new StunView()
  readonly #builder = new StunBuilder(1500)
  readonly #targets = new TargetBudget()
  /** By our fragment; bounded by MAX_SESSIONS times the generations that a restart leaves (two). */
  readonly #claims = new Map<string, { readonly session: Session; readonly generation: Generation }>()
  // Bounded by MAX_SESSIONS.
  readonly #sessions = new Set<Session>()
  /** By the first 48 bits of the id, oldest first; bounded by MAX_TRANSACTIONS. */
  readonly #transactions = new Map<number, Transaction & { readonly id: Uint8Array }>()
  // Taken in the drain after the call that made them; bounded by what that call does.
  readonly #transmits: Transmit[] = []
  readonly #events: IceEvent[] = []
  readonly #host: SessionHost
  readonly #counters = { checksSent: 0, checksAnswered: 0, checksReceived: 0, unauthentic: 0 }
  #deadline: Micros | undefined
  #nextId = 1

  constructor({ rng }: IceMachineOptions) {
    this.#rng = rng
    this.#host = {
      rng,
      builder: this.#builder,
      begin: (now, transaction) => this.#begin(now, transaction),
      transmit: (transmit) => this.#transmits.push(transmit),
      emit: (event) => this.#events.push(event),
      mayKnock: (now, address, agreed) => this.#targets.take(now, address, agreed),
      answeredFrom: (address, checks) => this.#targets.giveBack(address, checks),
      claim: (generation, session) => this.#claims.set(generation.local.ufrag, { session, generation }),
      keepOnly: (generation, session) => {
        for (const [ufrag, claim] of this.#claims) {
          if (claim.session === session && claim.generation.number < generation.number)
            this.#claims.delete(ufrag)
        }
      },
      retire: (session) => this.#retire(session),
      touch: () => {
        this.#deadline = undefined
      },
    }
  }

  get counters(): IceCounters {
    return { ...this.#counters }
  }

  get sessions(): ReadonlySet<IceSession> {
    return this.#sessions
  }

  /**
   * Begins the search for a path to one peer.
   *
   * @throws {IceUsageError} `ERR_NATWORK_ICE_STATE` when 4,096 sessions are open.
   */
  open(now: Micros, options: SessionOptions): IceSession {
    if (this.#sessions.size >= MAX_SESSIONS) {
      throw new IceUsageError(
        'ERR_NATWORK_ICE_STATE',
        `${MAX_SESSIONS} ICE sessions are open on this port: close some first`,
      )
    }
    const session = new Session(now, this.#nextId++, options, this.#host)
    this.#sessions.add(session)
    this.#deadline = undefined
    return session
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const view = this.#view
    if (!view.open(bytes) || view.method !== Method.Binding) return false
    switch (view.messageClass) {
      case MessageClass.Request:
        return this.#handleRequest(now, path, view)
      case MessageClass.Success:
      case MessageClass.Error:
        return this.#handleResponse(now, path, view)
      case MessageClass.Indication:
        return false
    }
  }

  handleTimeout(now: Micros): void {
    this.#deadline = undefined
    for (const session of this.#sessions) if (session.deadline <= now) session.handleTimeout(now)
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift()
  }

  pollEvent(): IceEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    // Asked after every datagram of the port, whosever it is: computed again only when a session has changed.
    if (this.#deadline === undefined) {
      this.#deadline = Infinity
      for (const { deadline } of this.#sessions) if (deadline < this.#deadline) this.#deadline = deadline
    }
    return this.#deadline === Infinity ? undefined : { at: this.#deadline, reason: 'ice check' }
  }

  /** RFC 8445 §7.3, RFC 8489 §9.1.3. */
  #handleRequest(now: Micros, path: Path, view: StunView): boolean {
    const username = view.text(Attribute.Username)
    const claim =
      username === undefined ? undefined : this.#claims.get(username.slice(0, username.indexOf(':')))
    if (claim === undefined) return false
    const { session, generation } = claim
    const { key } = generation.local
    if (!view.hasIntegrity(key) && !view.hasIntegritySha256(key)) {
      this.#counters.unauthentic++
      this.#answer(path, writeError(this.#builder, view, ErrorCode.Unauthenticated, undefined))
      return true
    }
    this.#counters.checksReceived++
    this.#deadline = undefined
    const unknown = view.unknownRequired(understoodInChecks)
    if (unknown.length > 0) {
      this.#answer(path, writeError(this.#builder, view, ErrorCode.UnknownAttribute, key, unknown))
      return true
    }
    const priority = view.uint32(Attribute.Priority)
    const isIce = view.has(Attribute.IceControlling) || view.has(Attribute.IceControlled)
    if (priority === undefined || !isIce) {
      this.#answer(path, writeError(this.#builder, view, ErrorCode.BadRequest, key))
      return true
    }
    // The answer is written before what the request causes, which uses the same builder, and so leaves first.
    const answerAt = this.#transmits.length
    const success = writeSuccess(this.#builder, view, key, path.remote)
    const code = session.handleRequest(now, path, view, generation)
    const data = code === undefined ? success : writeError(this.#builder, view, code, key)
    this.#transmits.splice(answerAt, 0, { path, data })
    return true
  }

  #handleResponse(now: Micros, path: Path, view: StunView): boolean {
    const transaction = this.#transactions.get(view.transactionKey)
    if (transaction === undefined || Buffer.compare(transaction.id, view.transactionId) !== 0) return false
    // §7.2.5.2.1: an answer by another way than the question's proves nothing.
    if (!samePath(transaction.path, path)) return true
    const key = transaction.generation.remote?.key
    const isAuthentic = key !== undefined && (view.hasIntegrity(key) || view.hasIntegritySha256(key))
    if (!isAuthentic) {
      this.#counters.unauthentic++
      return true
    }
    this.#transactions.delete(view.transactionKey)
    this.#deadline = undefined
    if (transaction.session.closed) return true
    if (view.messageClass === MessageClass.Success) {
      this.#counters.checksAnswered++
      transaction.session.handleSuccess(now, transaction, view)
    } else {
      const code = view.errorCode()?.code
      if (code !== undefined) transaction.session.handleErrorResponse(now, transaction, code)
    }
    return true
  }

  #answer(path: Path, data: Uint8Array): void {
    this.#transmits.push({ path, data })
  }

  #begin(now: Micros, transaction: Transaction): Uint8Array {
    this.#counters.checksSent++
    for (const [key, { sentAt }] of this.#transactions) {
      if (sentAt + TRANSACTION_LIFETIME > now && this.#transactions.size < MAX_TRANSACTIONS) break
      this.#transactions.delete(key)
    }
    const id = new Uint8Array(TRANSACTION_ID_LENGTH)
    let key: number
    do {
      this.#rng.fill(id)
      key = transactionKeyOf(id, 0)
    } while (this.#transactions.has(key))
    this.#transactions.set(key, { ...transaction, id })
    return id
  }

  #retire(session: Session): void {
    this.#sessions.delete(session)
    for (const [ufrag, claim] of this.#claims) if (claim.session === session) this.#claims.delete(ufrag)
    this.#deadline = undefined
  }
}
