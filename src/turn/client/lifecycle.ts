import type { SocketAddress } from '../../core/address.ts'
import { SECOND, type Micros, type Path } from '../../core/machine.ts'
import {
  Attribute,
  ErrorCode,
  Method,
  StunPeerError,
  StunRedirectError,
  StunResponseError,
  type StunView,
} from '../../stun/index.ts'
import { readAllocation, readTicket, writeAllocate, type Without } from './allocate.ts'
import type { Allocation, AllocationRequest } from './options.ts'
import { PATIENCE } from './permissions.ts'
import type { Answer, Requests } from './requests.ts'

/**
 * - `idle`: not asked for, or refused the first time.
 * - `waiting`: lost, and the server is left alone until `retryAt`.
 * - `moving`: from another address of ours, by mobility ticket (RFC 8016).
 * - `offline`: without a stream to the server.
 */
type State = 'idle' | 'allocating' | 'live' | 'waiting' | 'moving' | 'offline' | 'closing' | 'closed'

export interface LifecycleHandler {
  allocated(now: Micros, allocation: Allocation, isRenewal: boolean): void
  /** Nothing can be sent for now; the allocation may still stand. */
  paused(): void
  resumed(now: Micros): void
  failed(error: StunPeerError, retryAfter: Micros): void
  lost(now: Micros, error: StunPeerError | undefined): void
  silent(error: StunPeerError): void
  redirected(alternate: SocketAddress, domain: string | undefined): void
  closed(): void
}

/** One allocation's life: gets it, refreshes it, notices its loss, gets another one, gives it back. */
export class Lifecycle {
  readonly #requests: Requests
  readonly #request: AllocationRequest
  readonly #handler: LifecycleHandler
  #state: State = 'idle'
  #allocation: Allocation | undefined
  #ticket: Uint8Array | undefined
  /** What the server turned down, or can be had only once. */
  readonly #without: Without = { dontFragment: false, mobility: false, reservation: false }
  /** An allocation of an earlier run was deleted; once is enough. */
  #cleared = false
  /** There was one before: from now on it is asked for until there is one again. */
  #isRenewal = false
  #attempts = 0
  #retryAt: Micros = Infinity

  #allocatedAt: Micros = -Infinity
  #expiresAt: Micros = Infinity
  #refreshAt: Micros = Infinity
  #refreshing = false
  /** A request asks whether the allocation stands. */
  #verifying = false
  /** Refreshes in a row that nobody answered. */
  #silences = 0
  #heardAt: Micros = 0
  /** The first datagram sent since then. */
  #unansweredSince: Micros = Infinity

  constructor(requests: Requests, request: AllocationRequest, handler: LifecycleHandler) {
    this.#requests = requests
    this.#request = request
    this.#handler = handler
  }

  get allocation(): Allocation | undefined {
    return this.#allocation
  }

  /** Something came from the server. */
  heard(now: Micros): void {
    this.#heardAt = now
    this.#unansweredSince = Infinity
  }

  /** Data went to the server. */
  sent(now: Micros): void {
    if (this.#unansweredSince === Infinity) this.#unansweredSince = now
  }

  start(now: Micros): void {
    if (this.#state === 'idle') this.#allocate(now)
  }

  /** Does the allocation still stand? */
  recheck(now: Micros): void {
    if (this.#state === 'live' && !this.#isAsking) this.#refresh(now)
  }

  disconnected(now: Micros): void {
    const before = this.#state
    if (before === 'closed') return
    this.#state = 'offline'
    this.#refreshing = false
    this.#verifying = false
    if (before === 'closing') this.#closed()
    else if (this.#allocation === undefined) return
    else if (this.#ticket === undefined) this.#lose(now, undefined)
    else this.#handler.paused()
  }

  connected(now: Micros, server: Path): void {
    if (this.#state === 'closing' || this.#state === 'closed') return
    this.#requests.cancelAll()
    this.#requests.server = server
    this.#refreshing = false
    this.#verifying = false
    if (this.#allocation !== undefined && this.#ticket !== undefined) this.#move(now)
    else this.#allocate(now)
  }

  /** 437 to whatever request: it restarted, or a NAT gave us another address. */
  mismatched(now: Micros, error: StunPeerError): void {
    if (this.#state !== 'live' && this.#state !== 'moving') return
    if (this.#state === 'live' && this.#ticket !== undefined) {
      this.#requests.cancelAll()
      this.#move(now)
    } else {
      this.#startAfresh(now, error)
    }
  }

  /**
   * Somebody says that there is no allocation, and does not prove to be the server. An Allocate request finds out
   * without risk: the server answers 437 with proof when the allocation stands, and else gives another one.
   */
  doubted(now: Micros): void {
    if (this.#state === 'live' && this.#ticket !== undefined) {
      this.#requests.cancelAll()
      this.#move(now)
    } else if ((this.#state === 'live' || this.#state === 'moving') && !this.#verifying) {
      this.#verify(now)
    }
  }

  close(now: Micros): void {
    const before = this.#state
    if (before === 'closing' || before === 'closed') return
    this.#requests.cancelAll()
    if (before === 'live' || before === 'moving') {
      this.#state = 'closing'
      this.#delete(now, () => this.#closed())
    } else {
      this.#closed()
    }
  }

  handleTimeout(now: Micros): void {
    if (this.#state === 'waiting') {
      if (now >= this.#retryAt) this.#allocate(now)
    } else if (this.#allocation !== undefined && this.#state !== 'closing') {
      if (now >= this.#expiresAt) this.#expired(now)
      else if (this.#state === 'live' && !this.#isAsking && now >= this.#checkAt()) this.#refresh(now)
    }
  }

  /** When {@link handleTimeout} has something to do. */
  get nextAt(): Micros {
    if (this.#state === 'waiting') return this.#retryAt
    if (this.#allocation === undefined || this.#state === 'closing') return Infinity
    return this.#state === 'live' && !this.#isAsking
      ? Math.min(this.#expiresAt, this.#checkAt())
      : this.#expiresAt
  }

  get #isAsking(): boolean {
    return this.#refreshing || this.#verifying
  }

  /**
   * A minute ahead of expiry (RFC 8656 §8); sooner when the server has been silent. A server that restarted says
   * nothing to data: only a request tells. Refreshing is also what keeps a NAT's mapping.
   */
  #checkAt(): Micros {
    const idle =
      this.#unansweredSince === Infinity ? this.#heardAt + KEEPALIVE : this.#unansweredSince + SUSPICIOUS
    return Math.min(this.#refreshAt, this.#silences > 0 ? Infinity : idle)
  }

  #allocate(now: Micros): void {
    this.#state = 'allocating'
    this.#requests.ask(now, {
      method: Method.Allocate,
      attributes: (builder) => writeAllocate(builder, this.#request, this.#without),
      redirect: true,
      done: (at, answer) => {
        if (answer.ok) this.#allocated(at, answer)
        else this.#refused(at, answer.error, answer.status)
      },
    })
  }

  #allocated(now: Micros, { response, since }: Answer & { ok: true }): void {
    const allocation = readAllocation(response, this.#requests.server.remote, this.#request, this.#without)
    if (allocation === undefined) {
      // "the client MUST delete the allocation" (RFC 8656 §7.3).
      this.#delete(now, () => undefined)
      this.#unavailable(now, unusable('it gives no relayed address that we asked for'), Infinity)
      return
    }
    const isRenewal = this.#isRenewal
    this.#allocation = allocation
    this.#ticket = readTicket(response)
    this.#state = 'live'
    this.#isRenewal = true
    this.#without.reservation = true
    this.#cleared = false
    this.#allocatedAt = now
    this.#stands(now, since, allocation.lifetime)
    this.#handler.allocated(now, allocation, isRenewal)
  }

  /** RFC 8656 §7.4. */
  #refused(now: Micros, error: StunPeerError, status: number): void {
    if (status === ErrorCode.AllocationMismatch && !this.#cleared) {
      // The server has an allocation for this port, of an earlier run or of a request whose answer got lost. Another
      // port is no way out on a shared one: delete what is ours, and try again.
      this.#cleared = true
      this.#delete(now, (at) => this.#allocate(at))
      return
    }
    this.#cleared = false
    if (error instanceof StunRedirectError && error.authenticated && error.alternate !== undefined) {
      this.#state = 'offline'
      this.#requests.forgetChallenge()
      this.#handler.redirected(error.alternate, error.domain)
    } else if (
      status === ErrorCode.UnknownAttribute &&
      !this.#without.dontFragment &&
      isAboutDontFragment(error)
    ) {
      this.#without.dontFragment = true
      this.#allocate(now)
    } else if (status === ErrorCode.MobilityForbidden && !this.#without.mobility) {
      this.#without.mobility = true
      this.#allocate(now)
    } else {
      this.#unavailable(now, error, restAfter(status))
    }
  }

  #unavailable(now: Micros, error: StunPeerError, rest: Micros): void {
    if (!this.#isRenewal) {
      this.#state = 'idle'
      this.#handler.failed(error, rest)
      return
    }
    const pause = Math.min(SECOND * 2 ** this.#attempts, MAX_PAUSE)
    this.#attempts = Math.min(this.#attempts + 1, 10)
    this.#state = 'waiting'
    this.#retryAt = now + Math.max(pause, Math.min(rest, HOPELESS))
  }

  #refresh(now: Micros, ticket?: Uint8Array): void {
    this.#refreshing = true
    const { lifetime } = this.#request
    this.#requests.ask(now, {
      method: Method.Refresh,
      attributes: (builder) => {
        if (lifetime !== undefined) builder.uint32(Attribute.Lifetime, lifetime)
        if (ticket !== undefined) builder.bytes(Attribute.MobilityTicket, ticket)
      },
      timing: PATIENCE,
      doubted: (at) => this.doubted(at),
      done: (at, answer) => {
        this.#refreshing = false
        if (this.#verifying) return
        if (answer.ok) this.#refreshed(at, answer.response, answer.since)
        else this.#notRefreshed(at, answer.error, answer.status)
      },
    })
  }

  #verify(now: Micros): void {
    this.#verifying = true
    this.#requests.ask(now, {
      method: Method.Allocate,
      attributes: (builder) => writeAllocate(builder, this.#request, this.#without),
      timing: PATIENCE,
      done: (at, answer) => {
        this.#verifying = false
        if (answer.ok) {
          this.#requests.cancelAll()
          this.#refreshing = false
          this.#lose(at, undefined)
          this.#allocated(at, answer)
        } else if (answer.status === ErrorCode.AllocationMismatch && this.#state === 'live') {
          this.#silences = 0
          this.heard(at)
        } else {
          this.#notRefreshed(
            at,
            answer.error,
            answer.status === ErrorCode.AllocationMismatch ? 0 : answer.status,
          )
        }
      },
    })
  }

  #refreshed(now: Micros, response: StunView, since: Micros): void {
    const lifetime = response.uint32(Attribute.Lifetime)
    this.#ticket = readTicket(response) ?? this.#ticket
    if (lifetime === 0) {
      this.mismatched(now, unusable('it ended the allocation'))
      return
    }
    const hasMoved = this.#state === 'moving'
    this.#state = 'live'
    this.#stands(now, since, lifetime ?? this.#allocation?.lifetime ?? 0)
    if (hasMoved) this.#handler.resumed(now)
  }

  #notRefreshed(now: Micros, error: StunPeerError, status: number): void {
    if (this.#state === 'moving') {
      this.#startAfresh(now, error)
    } else if (status === ErrorCode.AllocationMismatch) {
      this.mismatched(now, error)
    } else {
      // Silence may pass, and so may what the server says now: the allocation stands until it expires.
      this.#unansweredSince = Infinity
      this.#heardAt = now
      if (status === 0) {
        this.#refreshAt = now + Math.min(AFTER_SILENCE * 2 ** this.#silences, KEEPALIVE)
        if (this.#silences++ === 0) this.#handler.silent(error)
      } else {
        this.#refreshAt = now + AFTER_REFUSAL
      }
    }
  }

  /** From another address of ours (RFC 8016 §3.2.1). A ticket is good for one move, and its retransmissions. */
  #move(now: Micros): void {
    const ticket = this.#ticket
    this.#ticket = undefined
    this.#state = 'moving'
    this.#handler.paused()
    this.#refresh(now, ticket)
  }

  #stands(now: Micros, since: Micros, lifetime: number): void {
    const granted = lifetime * SECOND
    this.#silences = 0
    this.heard(now)
    this.#expiresAt = since + granted
    this.#refreshAt = Math.max(since + granted - Math.min(REFRESH_AHEAD, granted / 2), now + MIN_PAUSE)
  }

  #expired(now: Micros): void {
    if (this.#state !== 'offline') this.#startAfresh(now, undefined)
    else this.#lose(now, undefined)
  }

  #startAfresh(now: Micros, error: StunPeerError | undefined): void {
    this.#requests.cancelAll()
    this.#refreshing = false
    this.#verifying = false
    this.#lose(now, error)
    // A server that gives and takes in turn is asked ever more slowly.
    if (now - this.#allocatedAt > STABLE) this.#attempts = 0
    if (this.#attempts++ === 0) this.#allocate(now)
    else this.#unavailable(now, error ?? unusable('the allocation expired at once'), 0)
  }

  #lose(now: Micros, error: StunPeerError | undefined): void {
    this.#allocation = undefined
    this.#ticket = undefined
    this.#expiresAt = Infinity
    this.#refreshAt = Infinity
    this.#handler.lost(now, error)
  }

  #delete(now: Micros, done: (now: Micros) => void): void {
    this.#requests.ask(now, {
      method: Method.Refresh,
      attributes: (builder) => builder.uint32(Attribute.Lifetime, 0),
      timing: GOODBYE,
      // Whatever the answer: 437 is as good as success (RFC 8656 §8.3), and silence will be heard soon enough.
      doubted: (at) => {
        this.#requests.cancelAll()
        done(at)
      },
      done,
    })
  }

  #closed(): void {
    this.#state = 'closed'
    this.#allocation = undefined
    this.#handler.closed()
  }
}

/** The longest silence without a question. Linux forgets an idle UDP mapping after 30 s. */
const KEEPALIVE = 25 * SECOND
/** Data unanswered for so long is worth a question: a restarted server is noticed after this and a round trip. */
const SUSPICIOUS = 4 * SECOND
const REFRESH_AHEAD = 60 * SECOND
/** Doubled each time. */
const AFTER_SILENCE = 2 * SECOND
const AFTER_REFUSAL = 15 * SECOND
/** Between refreshes, however short the lifetime that a server grants. */
const MIN_PAUSE = 2 * SECOND
/** Between attempts to get a lost allocation back. */
const MAX_PAUSE = 30 * SECOND
/** After an answer that says "never": somebody may change the server's mind. */
const HOPELESS = 300 * SECOND
const STABLE = 30 * SECOND
/** Sent three times, given up after 3.5 s. */
const GOODBYE = { rto: 500_000, rc: 3, rm: 4, ti: 3_500_000 }

/** How long RFC 8656 §7.4 wants a server left alone. */
function restAfter(status: number): Micros {
  switch (status) {
    case 0:
      return 0
    case ErrorCode.AllocationQuotaReached:
    case ErrorCode.InsufficientCapacity:
      return 60 * SECOND
    case ErrorCode.AllocationMismatch:
      return 120 * SECOND
    case ErrorCode.ServerError:
      return 30 * SECOND
    default:
      return Infinity
  }
}

function isAboutDontFragment(error: StunPeerError): boolean {
  return error instanceof StunResponseError && error.unknownAttributes.includes(Attribute.DontFragment)
}

function unusable(what: string): StunPeerError {
  return new StunPeerError(
    'ERR_NATWORK_STUN_INVALID_RESPONSE',
    `the TURN server’s answer is unusable: ${what}`,
  )
}
