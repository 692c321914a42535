import { familyOf, formatAddress, sameAddress, type SocketAddress } from '../core/address.ts'
import { samePath, type Carrier, type Micros, type Path } from '../core/machine.ts'
import { scopeOf } from '../core/scope.ts'
import { Attribute, type StunView } from '../stun/codec/index.ts'
import type { IceSession } from './api.ts'
import * as bounds from './bounds.ts'
import { describeCandidates, isUsable, reflexiveCandidate, type Described } from './candidate.ts'
import { marked, Pair, pathTo, permit, type Base, type Generation, type Remote } from './check-list.ts'
import { Connectivity } from './connectivity.ts'
import { newCredentials, readCredentials } from './credentials.ts'
import { IceUsageError } from './errors.ts'
import { inferOurs, inferTheirs } from './hard/infer.ts'
import { OpeningRule } from './hard/opening.ts'
import { aimOf, planSearch, type Plan } from './hard/plan.ts'
import { Search } from './hard/search.ts'
import { isGettingThere, patienceOf } from './hard/patience.ts'
import type { SessionHost, Transaction } from './host.ts'
import { NOMINATION } from './message.ts'
import { failureMessages } from './messages.ts'
import { bestFirst } from './selection.ts'
import { Tracer, type UntimedEntry } from './tracer.ts'
import type {
  ExhaustiveBudget,
  FailureReason,
  IceCandidate,
  IceParameters,
  IcePath,
  LocalCandidate,
  NatHints,
  PairReport,
  RemoteDescription,
  SessionOptions,
  TraceEntry,
} from './types.ts'

/** See {@link IceSession}. Made by `IceMachine.open`. */
export class Session implements IceSession {
  readonly id: number
  readonly #host: SessionHost
  readonly #options: SessionOptions
  readonly #tracer: Tracer
  readonly #checks: Connectivity
  readonly #opening = new OpeningRule()
  #generation: Generation
  // Bounded by MAX_RELAYS, two families of the own socket, and the sockets that were heard on.
  #bases: Base[] = []
  /** Bounded by MAX_LOCAL. */
  #local: readonly IceCandidate[] = []
  /** By address; bounded by MAX_REMOTE and MAX_REFLEXIVE. */
  readonly #remotes = new Map<string, Remote>()
  /** Checks that came before the peer's credentials; bounded by MAX_EARLY. */
  #early: { readonly path: Path; readonly priority: number; readonly nomination: number | undefined }[] = []
  #hints: NatHints
  #remoteHints: NatHints = {}
  #localComplete = false
  #remoteComplete = false
  #exhaustive: ExhaustiveBudget | undefined
  #search: Search | undefined
  #searchAt: Micros = Infinity
  #lastSearch: Micros = -Infinity
  /** When the peer was first known in this generation. */
  #startedAt: Micros = Infinity
  #failed = false
  #closed = false

  constructor(now: Micros, id: number, options: SessionOptions, host: SessionHost) {
    this.id = id
    this.#hints = options.hints ?? {}
    this.#host = host
    this.#options = options
    this.#exhaustive = options.exhaustive
    this.#tracer = new Tracer((entry) => host.emit({ type: 'trace', session: this, entry }))
    this.#generation = { number: 0, local: newCredentials(host.rng), since: now, remote: undefined }
    host.claim(this.#generation, this)
    this.#checks = new Connectivity(options.controlling, host, {
      begin: (at, about) => host.begin(at, { ...about, session: this, sentAt: at }),
      openingTtl: (at, pair) => this.#opening.ttl(at, pair),
      valid: (at, pair) => this.#valid(at, pair),
      selected: (at, pair) => this.#selected(at, pair),
      promising: (pair) => host.emit({ type: 'promising', session: this, path: this.#describe(pair) }),
      isLikely: (pair) => this.#opening.isLikely(pair, this.#local),
      doubted: (_at, pair) => host.emit({ type: 'doubted', session: this, path: this.#describe(pair) }),
      disconnected: (at) => this.#disconnected(at),
      dropped: ({ base }) => this.#releaseUnused(base),
      note: (at, what, pair) => this.#note(at, { what, pair: this.#report(pair) }),
      roleSwitched: (at) => this.#note(at, { what: 'role', controlling: this.controlling }),
    })
    this.#note(now, { what: 'opened', controlling: options.controlling, hints: this.#hints })
    for (const one of describeCandidates(options.local.candidates)) this.#addLocal(now, one)
  }

  get parameters(): IceParameters {
    const { ufrag, pwd, options = [] } = this.#generation.local
    return { ufrag, pwd, options }
  }

  get localCandidates(): readonly IceCandidate[] {
    return this.#local
  }

  get controlling(): boolean {
    return this.#checks.controlling
  }

  get closed(): boolean {
    return this.#closed
  }

  get path(): IcePath | undefined {
    const { selected } = this.#checks
    return selected && this.#describe(selected)
  }

  get validPaths(): readonly IcePath[] {
    return bestFirst(this.#checks.list.pairs).map((one) => this.#describe(one))
  }

  get pairs(): readonly PairReport[] {
    return this.#checks.list.pairs.map((one) => this.#report(one))
  }

  get trace(): readonly TraceEntry[] {
    return this.#tracer.entries
  }

  owns(path: Path): boolean {
    return this.#checks.list.pairs.some((one) => one.isValid && samePath(one.path, path))
  }

  believes(path: Path): boolean {
    return this.#checks.believes(path)
  }

  setRemote(now: Micros, remote: RemoteDescription): void {
    this.#mustBeOpen()
    const credentials = readCredentials(remote)
    const known = this.#generation.remote
    if (known !== undefined && (known.ufrag !== credentials.ufrag || known.pwd !== credentials.pwd)) {
      this.#renew(now, 'peer')
    }
    this.#generation.remote ??= credentials
    if (this.#startedAt === Infinity) this.#startedAt = now
    const sawOurs = remote.sawOurs ?? this.controlling
    const signalling = sawOurs ? now - this.#generation.since : Infinity
    this.#opening.begin(this.#hints, remote.hints ?? this.#remoteHints, sawOurs, signalling)
    this.setRemoteHints(now, remote.hints ?? this.#remoteHints)
    // Candidates may have been trickled before this.
    for (const one of this.#remotes.values()) for (const base of this.#bases) this.#form(now, base, one)
    for (const candidate of remote.candidates ?? []) this.addRemoteCandidate(now, candidate)
    this.#remoteComplete ||= remote.complete ?? false
    const early = this.#early
    this.#early = []
    for (const { path, priority, nomination } of early) {
      this.#heard(now, path, this.#generation, priority, nomination)
    }
    this.#host.touch()
  }

  addRemoteCandidate(now: Micros, candidate: IceCandidate): void {
    this.#mustBeOpen()
    const known = this.#remotes.get(formatAddress(candidate))
    // What was seen before it was named (§7.3.1.3) has a pair with the base that it was seen on alone.
    if (known === undefined || known.candidate.type === 'prflx') this.#addRemote(now, candidate, known)
    this.#considerSearch(now)
    this.#host.touch()
  }

  endOfRemoteCandidates(): void {
    this.#remoteComplete = true
    this.#host.touch()
  }

  endOfLocalCandidates(): void {
    this.#localComplete = true
    this.#host.touch()
  }

  setRemoteHints(now: Micros, hints: NatHints): void {
    this.#remoteHints = hints
    this.#note(now, { what: 'remote-description', hints })
    this.#search?.learn(this.#plan())
    this.#considerSearch(now)
    this.#host.touch()
  }

  setHints(now: Micros, hints: NatHints): void {
    this.#hints = hints
    this.#note(now, { what: 'hints', hints })
    this.#considerSearch(now)
    this.#host.touch()
  }

  setExhaustive(now: Micros, budget: ExhaustiveBudget): void {
    this.#exhaustive = budget
    this.#considerSearch(now)
    this.#host.touch()
  }

  addLocalCandidate(now: Micros, input: LocalCandidate): void {
    this.#mustBeOpen()
    for (const described of describeCandidates([input], this.#local.length)) {
      if (!this.#addLocal(now, described)) return
      this.#host.emit({ type: 'candidate', session: this, candidate: described.candidate })
    }
    this.#host.touch()
  }

  removeCarrier(now: Micros, carrier: Carrier): void {
    const gone = this.#bases.filter(({ via }) => via === carrier).map(({ candidate }) => candidate)
    this.#bases = this.#bases.filter(({ via }) => via !== carrier)
    this.#local = this.#local.filter((one) => !gone.includes(one))
    this.#checks.withdraw(now, ({ base }) => base.via === carrier)
    this.#host.touch()
  }

  addSocket(now: Micros, carrier: Carrier): void {
    if (this.#closed || this.#search?.addSocket(now, carrier) !== true) {
      this.#host.emit({ type: 'release', session: this, carrier })
    }
    this.#host.touch()
  }

  restart(now: Micros): void {
    this.#mustBeOpen()
    this.#renew(now, 'us')
    this.#host.touch()
  }

  networkChanged(now: Micros, current?: readonly LocalCandidate[]): void {
    if (current !== undefined) {
      const isCurrent = (one: IceCandidate): boolean =>
        one.type === 'relay' || current.some(({ address }) => sameAddress(address, one))
      this.#local = this.#local.filter(isCurrent)
      for (const candidate of current) this.addLocalCandidate(now, candidate)
    }
    this.#checks.revive(now)
    this.#failed = false
    this.suspect(now)
  }

  suspect(now: Micros): void {
    this.#checks.suspect(now)
    this.#host.touch()
  }

  close(now: Micros): void {
    if (this.#closed) return
    this.#search?.stop(now, 'stopped')
    this.#checks.forget(() => true)
    this.#note(now, { what: 'closed' })
    this.#closed = true
    this.#releaseSockets()
    this.#host.retire(this)
  }

  /** @internal */
  get deadline(): Micros {
    if (this.#closed) return Infinity
    return Math.min(
      this.#checks.deadline,
      this.#search?.deadline ?? Infinity,
      this.#searchAt,
      this.#failDeadline(),
    )
  }

  /** @internal */
  handleTimeout(now: Micros): void {
    this.#checks.handleTimeout(now)
    if (now >= this.#searchAt) this.#beginSearch(now)
    this.#search?.handleTimeout(now)
    if (now >= this.#failDeadline()) this.#fail(now)
  }

  /** @internal An authentic request. @returns the code of the error that is the answer; undefined: success. */
  handleRequest(now: Micros, path: Path, view: StunView, generation: Generation): number | undefined {
    const conflict = this.#checks.resolveRoles(now, view)
    if (conflict !== undefined) return conflict
    const priority = view.uint32(Attribute.Priority) ?? 0
    const nomination = view.has(Attribute.UseCandidate) ? (view.uint32(NOMINATION) ?? 0) : undefined
    if (generation.remote !== undefined) this.#heard(now, path, generation, priority, nomination)
    else if (this.#early.length < bounds.MAX_EARLY) this.#early.push({ path, priority, nomination })
    return undefined
  }

  /** @internal The answer to one of our checks, authentic and on its path. */
  handleSuccess(now: Micros, transaction: Transaction, view: StunView): void {
    const pair = transaction.pair ?? this.#pairOf(now, transaction.path, transaction.generation)
    if (pair !== undefined && this.#checks.list.pairs.includes(pair)) {
      this.#checks.answered(now, pair, transaction, view)
    }
  }

  /** @internal */
  handleErrorResponse(now: Micros, transaction: Transaction, code: number): void {
    this.#checks.refused(now, transaction, code)
  }

  #addLocal(now: Micros, { input, candidate }: Described): boolean {
    const { via, permit } = input
    const isKnown = this.#local.some((one) => one.type === candidate.type && sameAddress(one, candidate))
    const relays = this.#bases.filter((one) => one.via?.kind === 'relay').length
    if (
      isKnown ||
      !isUsable(candidate) ||
      this.#local.length >= bounds.MAX_LOCAL ||
      (via !== undefined && relays >= bounds.MAX_RELAYS)
    ) {
      return false
    }
    this.#local = [...this.#local, candidate]
    this.#failed = false
    this.#note(now, { what: 'local-candidate', candidate })
    const family = familyOf((via === undefined ? (input.base ?? input.address) : input.address).address)
    const base = this.#bases.find((one) => one.via === via && one.family === family)
    if (base === undefined)
      this.#addBase(now, { via, family, candidate, permit, permitted: new Set(), since: now })
    else if (candidate.priority > base.candidate.priority) base.candidate = candidate
    return true
  }

  #addBase(now: Micros, base: Base): void {
    this.#bases.push(base)
    for (const remote of this.#remotes.values()) this.#form(now, base, remote)
  }

  #addRemote(now: Micros, candidate: IceCandidate, seen: Remote | undefined): void {
    const named = [...this.#remotes.values()].filter((one) => one.candidate.type !== 'prflx')
    const ofOneHost = named.filter((one) => one.candidate.address === candidate.address)
    if (!isUsable(candidate)) {
      this.#note(now, { what: 'candidate-refused', candidate, reason: 'unusable' })
      return
    }
    if (named.length >= bounds.MAX_REMOTE || ofOneHost.length >= bounds.MAX_PER_ADDRESS) {
      this.#note(now, { what: 'candidate-refused', candidate, reason: 'too-many' })
      return
    }
    const remote = seen ?? { candidate }
    remote.candidate = candidate
    this.#remotes.set(formatAddress(candidate), remote)
    this.#failed = false
    this.#note(now, { what: 'remote-candidate', candidate })
    const formed = this.#bases.filter((base) => this.#form(now, base, remote)).length
    if (formed === 0 && seen === undefined && this.#bases.length > 0) {
      this.#note(now, { what: 'candidate-refused', candidate, reason: 'no-family' })
    }
  }

  /** Forms the pair, where the two can mean anything to each other. */
  #form(now: Micros, base: Base, remote: Remote): boolean {
    const path = marked(this.#pathTo(base, remote.candidate), remote)
    if (
      this.#generation.remote === undefined ||
      path === undefined ||
      this.#checks.list.find(base, path.remote, this.#generation) !== undefined
    )
      return false
    const pair = new Pair(base, remote, path, this.#generation)
    pair.openUntil = this.#opening.until(now)
    permit(base, path.remote.address)
    this.#checks.list.add(pair)
    // A relay cannot send what only opens our side, so it waits until the peer can have opened its own: see OpeningRule.
    const isPeersNat = remote.candidate.type !== 'relay' && base.family === 4
    const from = this.#opening.relayedFrom(base.since > this.#generation.since ? base.since : -Infinity, pair)
    if (base.via?.kind === 'relay' && isPeersNat && now < from) this.#checks.list.postpone(pair, from)
    return true
  }

  #pathTo(base: Base, { address, port }: SocketAddress): Path | undefined {
    const has4 = this.#bases.some((one) => one.via === undefined && one.family === 4)
    const nat64 = has4 ? undefined : this.#options.local.nat64
    const hasLoopback = this.#local.some((one) => scopeOf(one.address) === 'loopback')
    return pathTo(base, { address, port }, nat64, hasLoopback)
  }

  /** A check of the peer's has come (§7.3.1). */
  #heard(
    now: Micros,
    path: Path,
    generation: Generation,
    priority: number,
    nomination: number | undefined,
  ): void {
    const pair = this.#pairOf(now, path, generation, priority)
    if (pair === undefined) return
    this.#failed = false
    this.#checks.heard(now, pair, nomination)
  }

  /** The pair of a path on which something authentic came in; a new one from a peer-reflexive source (§7.3.1.3). */
  #pairOf(now: Micros, path: Path, generation: Generation, priority?: number): Pair | undefined {
    const base = this.#baseOf(path)
    if (base === undefined) return undefined
    const known = this.#checks.list.find(base, path.remote, generation)
    if (known !== undefined) return known
    const remote =
      this.#remotes.get(formatAddress(path.remote)) ?? this.#addReflexive(now, path.remote, priority)
    const pair = new Pair(base, remote, marked(path, remote), generation)
    permit(base, path.remote.address)
    this.#checks.list.add(pair)
    // The peer may have moved: does what we use still work?
    const { selected } = this.#checks
    if (selected?.isRelayed === false && selected.unanswered === 0) this.#checks.trigger(now, selected)
    return pair
  }

  #baseOf({ via, remote }: Path): Base | undefined {
    const family = familyOf(remote.address)
    const known = this.#bases.find((one) => one.via === via && (via !== undefined || one.family === family))
    if (known !== undefined || via === undefined || this.#search?.sockets.has(via) !== true) return known
    const own = this.#bases.find((one) => one.via === undefined && one.family === family)
    if (own === undefined) return undefined
    const base: Base = { ...own, via }
    this.#bases.push(base)
    return base
  }

  #addReflexive(now: Micros, { address, port }: SocketAddress, priority?: number): Remote {
    const reflexive = [...this.#remotes.values()].filter(({ candidate }) => candidate.type === 'prflx')
    if (reflexive.length >= bounds.MAX_REFLEXIVE) {
      const gone = this.#checks.list.leastUseful(reflexive, this.#checks.selected?.remote)
      this.#checks.forget((one) => one.remote === gone)
      if (gone !== undefined) this.#remotes.delete(formatAddress(gone.candidate))
    }
    const candidate = reflexiveCandidate({ address, port }, priority, this.#remotes.size)
    const remote: Remote = { candidate }
    this.#remotes.set(formatAddress(candidate), remote)
    this.#note(now, { what: 'remote-candidate', candidate })
    return remote
  }

  /** New credentials (§9); what works under the old ones goes on until there is a new path. */
  #renew(now: Micros, by: 'us' | 'peer'): void {
    const number = this.#generation.number + 1
    this.#generation = { number, local: newCredentials(this.#host.rng), since: now, remote: undefined }
    this.#host.claim(this.#generation, this)
    this.#checks.forget((one) => !one.isValid)
    const used = new Set(this.#checks.list.pairs.map((one) => one.remote))
    for (const [key, remote] of this.#remotes) if (!used.has(remote)) this.#remotes.delete(key)
    this.#remoteComplete = false
    this.#failed = false
    this.#startedAt = Infinity
    this.#search?.stop(now, 'stopped')
    this.#searchAt = Infinity
    this.#note(now, { what: 'restarted', by })
  }

  #valid(now: Micros, pair: Pair): void {
    this.#note(now, { what: 'valid', pair: this.#report(pair) })
    if (this.#searchAt !== Infinity) this.#searchAt = Math.min(this.#searchAt, now)
    if (pair.isRelayed) {
      this.#considerSearch(now)
      return
    }
    this.#host.answeredFrom(pair.remote.candidate.address, this.#search?.hit(now) ?? 0)
  }

  #selected(now: Micros, pair: Pair): void {
    this.#note(now, { what: 'selected', pair: this.#report(pair) })
    this.#host.emit({ type: 'path', session: this, path: this.#describe(pair) })
    this.#host.keepOnly(pair.generation, this)
  }

  #disconnected(now: Micros): void {
    const reason = 'consent-lost'
    this.#note(now, { what: 'disconnected', reason })
    this.#host.emit({ type: 'disconnected', session: this, reason })
  }

  #considerSearch(now: Micros): void {
    const { pairs } = this.#checks.list
    const ours = inferOurs(this.#hints, this.#local, pairs)
    this.#opening.learn(ours, inferTheirs(this.#remoteHints, pairs))
    if (this.#generation.remote === undefined || this.#search?.active === true || this.#searchAt !== Infinity)
      return
    const plan = this.#plan()
    if (now - this.#lastSearch < bounds.SEARCH_EVERY || plan === undefined) return
    const hasPath = this.#checks.firstValidAt !== undefined
    this.#searchAt = now + (hasPath ? 0 : patienceOf(plan, this.#opening.sawOurs))
  }

  #plan(): Plan | undefined {
    return planSearch({
      local: inferOurs(this.#hints, this.#local, this.#checks.list.pairs),
      remote: inferTheirs(this.#remoteHints, this.#checks.list.pairs),
      named: [...this.#remotes.values()].map(({ candidate }) => candidate),
      controlling: this.controlling,
      exhaustive: this.#exhaustive,
      rng: this.#host.rng,
    })
  }

  #beginSearch(now: Micros): void {
    this.#searchAt = Infinity
    const plan = this.#plan()
    const direct = this.#checks.list.pairs.filter(({ isRelayed }) => !isRelayed)
    if (plan === undefined || direct.some(({ isValid }) => isValid)) return
    if (plan.method !== 'open' && direct.some(isGettingThere)) {
      this.#searchAt = now + bounds.SEARCH_AFTER_OFFER
      return
    }
    // Of two families the one that gets there.
    const aim = aimOf(plan)
    const own = this.#bases.find((one) => one.via === undefined && this.#pathTo(one, aim) !== undefined)
    if (own === undefined) return
    this.#lastSearch = now
    const generation = this.#generation
    this.#search = new Search(now, plan, {
      wantSockets: (count) => this.#host.emit({ type: 'sockets', session: this, count }),
      probe: (at, via, to, ttl) => {
        const path = this.#pathTo(own, to)
        if (path === undefined || !this.#host.mayKnock(at, to.address, plan.agreed)) return false
        const from = via === undefined ? path : { ...path, via }
        const about = { pair: undefined, path: from, generation, nomination: 0 }
        this.#checks.send(at, about, own.candidate.priority, ttl)
        return true
      },
      report: (at, search) => {
        this.#note(at, { what: 'search', search })
        if (search.state !== 'started') this.#releaseSockets()
      },
    })
  }

  /** Of a search that is over: the sockets that found nothing. */
  #releaseSockets(): void {
    const isUsed = (via: Carrier): boolean => this.#checks.list.pairs.some((one) => one.base.via === via)
    for (const via of this.#search?.sockets ?? []) if (!isUsed(via)) this.#release(via)
  }

  #releaseUnused({ via }: Base): void {
    if (via?.kind !== 'socket' || this.#search?.active === true) return
    if (!this.#checks.list.pairs.some((one) => one.base.via === via)) this.#release(via)
  }

  #release(carrier: Carrier): void {
    this.#bases = this.#bases.filter((one) => one.via !== carrier)
    if (this.#search?.forget(carrier) === true) this.#host.emit({ type: 'release', session: this, carrier })
  }

  /** When to give up: nothing left to try, both sides have named all, and the peer has had its time (RFC 8863 §4). */
  #failDeadline(): Micros {
    if (this.#failed || !this.#localComplete || !this.#remoteComplete) return Infinity
    if (this.#search?.active === true || this.#searchAt !== Infinity) return Infinity
    if (this.#checks.list.pairs.some(({ state }) => state !== 'failed')) return Infinity
    const isOurs = this.#generation.remote?.options?.includes('renomination') ?? false
    return this.#startedAt + (isOurs ? bounds.PAC_TIMER_OF_OURS : bounds.PAC_TIMER)
  }

  #fail(now: Micros): void {
    this.#failed = true
    const reason: FailureReason = this.#remotes.size === 0 ? 'no-candidates' : 'no-answer'
    this.#note(now, { what: 'failed', reason })
    this.#host.emit({ type: 'failed', session: this, reason, message: failureMessages[reason] })
  }

  #report(pair: Pair): PairReport {
    return pair.report(this.#local, pair === this.#checks.selected)
  }

  #describe(pair: Pair): IcePath {
    const { kind, rtt = 0, remote } = this.#report(pair)
    return { path: pair.path, kind, rtt, local: pair.localEnd(this.#local), remote }
  }

  #note(at: Micros, entry: UntimedEntry): void {
    this.#tracer.note(at, entry)
  }

  #mustBeOpen(): void {
    if (this.#closed) {
      throw new IceUsageError('ERR_NATWORK_ICE_STATE', 'the ICE session is closed: open another one')
    }
  }
}
