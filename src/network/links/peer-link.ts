import { randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { isDeepStrictEqual } from 'node:util'
import { PeerError } from '../../core/errors.ts'
import { samePath, type Path } from '../../core/machine.ts'
import type {
  ExhaustiveBudget,
  IceCandidate,
  IceEvent,
  IceSession,
  LocalCandidate,
  NatHints,
} from '../../ice/index.ts'
import type { UtpStream } from '../../utp/driver/index.ts'
import type { ControlChannel } from '../control.ts'
import { asError } from '../errors.ts'
import type { NodeId } from '../node-id.ts'
import type { RelayUser } from '../relays.ts'
import type { LinkAnswer, LinkCandidates, LinkHalf, LinkMessage, LinkOffer } from '../signalling/message.ts'
import type { Signal, SignalTarget } from '../signalling/signaller.ts'
import type { ConnectionState, NodeConnection, PathUse } from './connection.ts'
import { borrowerFor } from './borrower.ts'
import { withNewestPort, withoutPort } from './gather.ts'
import { Greeting } from './greeting.ts'
import type { LinkHost } from './link-host.ts'
import { PathHistory } from './path-history.ts'
import { Totals } from './totals.ts'
import { Waiting } from './waiting.ts'

/** Milliseconds after which an offer that nobody answered is sent again, by another way where there is one. */
const offerGaps = [700, 1_500, 3_000, 5_000, 8_000] as const
/** Candidates that came before their description. */
const maxEarly = 32
/** Milliseconds until candidates are told again that nobody has taken to the peer. */
const tellAgain = 500

/**
 * The way to one other node: an ICE session that finds and watches paths, the signals that it takes, and the uTP
 * connections of both sides that follow its path. A node that is reached at a known address has a link without a session.
 */
export class PeerLink {
  readonly peer: NodeId
  readonly since = new Date()
  /** TLS of the first connection. */
  readonly greeting: Greeting
  readonly #host: LinkHost
  #session: IceSession | undefined
  /** Until it aborts, relays are borrowed for the session. */
  #borrowed = new AbortController()
  #borrower: RelayUser | undefined
  #name = ''
  #target: SignalTarget | undefined
  #prefer: ControlChannel | undefined
  /** The newest word of the peer about this session, by its clock: what is older is stale. */
  #heardAt = 0
  /** The `ufrag` of our offer that waits for its answer. */
  #offered: string | undefined
  #onAnswered: () => void = () => undefined
  #remoteUfrag: string | undefined
  #early: LinkCandidates[] = []
  /** What is known of the NAT here, as the session has it. */
  #hints: NatHints = {}
  /** Candidates, and hints, that are to be told to the peer. */
  #untold: IceCandidate[] = []
  #hintsUntold = false
  #exhaustive: ExhaustiveBudget | undefined
  #telling: NodeJS.Immediate | undefined
  #complete = false
  #restarts = 0
  #restartTimer: NodeJS.Timeout | undefined
  readonly #waiting = new Waiting()
  readonly #streams = new Set<UtpStream>()
  #timeoutsSeen = 0
  readonly #past = new Totals()
  #path: Path | undefined
  /** Where the peer most likely is before any path was found: connections begin here, and count once it is one. */
  #promised: Path | undefined
  /** The session has found it; otherwise it is where a connection came from, or was dialled to. */
  #isFound = false
  #up = new AbortController()
  readonly #history = new PathHistory()
  #idleSince: number
  #closed = false

  constructor(peer: NodeId, host: LinkHost) {
    this.peer = peer
    this.#host = host
    this.greeting = new Greeting(host.beginTls)
    this.#idleSince = host.now()
  }

  /** Aborts when the path in use is lost with none to follow it. */
  get up(): AbortSignal {
    return this.#up.signal
  }

  /** Names the session in signals, and connections that go on with its {@link greeting}: only the two nodes know it. */
  get name(): string {
    return this.#name
  }

  /** The path that data goes now. */
  get path(): Path | undefined {
    return this.#path
  }

  get session(): IceSession | undefined {
    return this.#session
  }

  /** Milliseconds for which nobody has used it; 0 while somebody does. */
  idleFor(): number {
    return this.#streams.size + this.#waiting.size > 0 ? 0 : (this.#host.now() - this.#idleSince) / 1_000
  }

  /** The connections that follow its path. */
  get streams(): Iterable<UtpStream> {
    return this.#streams
  }

  get hasStreams(): boolean {
    return this.#streams.size > 0
  }

  get connection(): NodeConnection {
    const session = this.#session
    const streams = [...this.#streams].map(({ connection }) => connection.stats)
    const path = this.#history.current
    const rtt = session?.path?.rtt ?? streams.find(({ smoothedRtt }) => smoothedRtt > 0)?.smoothedRtt
    return {
      peer: this.peer,
      state: this.#state,
      path,
      rtt: rtt === undefined ? undefined : rtt / 1_000,
      ...this.#past.with(this.#streams),
      since: this.since,
      history: this.#history.uses,
      pairs: session?.pairs ?? [],
      trace: session?.trace ?? [],
    }
  }

  get #state(): ConnectionState {
    if (this.#history.current !== undefined) return 'connected'
    const isWanted = this.#streams.size + this.#waiting.size > 0
    const wasThere = this.#history.uses.length > 0
    if (!isWanted && (wasThere || this.#session === undefined)) return 'idle'
    return wasThere ? 'interrupted' : 'connecting'
  }

  /**
   * Finds a path by signals, unless there is one. Resolves with the first that works, or that seems to; unless `proven`.
   *
   * @throws {PeerError} `ERR_NATWORK_NODE_UNREACHABLE`; a helper's RefusedError; the signal's reason.
   */
  async meet(target: SignalTarget, signal: AbortSignal, proven = false): Promise<Path> {
    signal.throwIfAborted()
    this.#target = target
    if (this.#path !== undefined && this.#session !== undefined) return this.#path
    const found = this.#waiting.wait(signal, proven)
    // Who knows that it only seemed to be there waits for what is under way.
    if (this.#session === undefined || (this.#offered === undefined && !proven)) {
      const session = this.#begin(true)
      void this.#offer()
      // The offer leaves first: everything waits for its answer.
      const offered = this.hasStreams ? Promise.resolve() : this.greeting.offer()
      void offered.then(() => session === this.#session && this.#gather())
    }
    return await found.finally(() => (this.#idleSince = this.#host.now()))
  }

  /** The stream follows the link's path from now on. Streams of both directions do. */
  add(stream: UtpStream): void {
    if (this.#streams.has(stream)) return
    this.#streams.add(stream)
    stream.once('close', () => this.#forget(stream))
    const { path } = stream.connection
    if (this.#path !== undefined && this.#session !== undefined) stream.setPath(this.#path)
    else if (this.#promised !== undefined && stream.connecting) stream.setPath(this.#promised)
    else this.#use(path, this.#kindOf(path))
  }

  /** It was not this node's after all. */
  remove(stream: UtpStream): void {
    this.#forget(stream)
  }

  /** Whether what comes by this path is the peer's: ICE has checked it, or an open connection has shown it. */
  owns(path: Path): boolean {
    const shown = this.hasStreams ? this.#path : undefined
    return this.#session?.owns(path) === true || (shown !== undefined && samePath(shown, path))
  }

  /** What a search through every port may cost for this peer, from now on. */
  searchEverything(budget: ExhaustiveBudget): void {
    this.#exhaustive = budget
    this.#session?.setExhaustive(this.#host.now(), budget)
    this.#host.wake()
  }

  /** A signal of the peer's. */
  hear({ message, sentAt, channel }: Signal<LinkMessage>, target: SignalTarget | undefined): void {
    if (target !== undefined) this.#target = target
    switch (message.type) {
      case 'offer':
        this.#hearOffer(message, sentAt, channel)
        break
      case 'answer':
        this.#hearAnswer(message, sentAt, channel)
        break
      case 'candidates':
        if (message.link === this.#name) this.#hearCandidates(message)
        break
      case 'bye':
        if (message.link === this.#name && this.#session !== undefined) {
          this.#fail(new PeerError('ERR_NATWORK_NODE_UNREACHABLE', `${this.peer}: ${message.why}`))
        }
    }
  }

  /** An event of this link's session. */
  onIce(event: IceEvent): void {
    if (event.session !== this.#session) return
    switch (event.type) {
      case 'candidate':
        this.#tellLater(event.candidate)
        break
      case 'promising':
        if (this.#path !== undefined) break
        this.#promised = event.path.path
        for (const stream of this.#streams) stream.setPath(event.path.path)
        this.#waiting.found(event.path.path, false)
        break
      case 'path':
        this.#isFound = true
        this.#promised = undefined
        this.#restarts = 0
        clearTimeout(this.#restartTimer)
        this.#use(event.path.path, event.path.kind, event.path.local.address)
        this.#waiting.found(event.path.path, true)
        break
      case 'doubted':
        this.#gatherReserve(event)
        break
      case 'disconnected':
        this.#interrupted()
        break
      case 'failed':
        // The node answers at an address that was known; nothing else was found.
        if (!this.#isFound && this.#path !== undefined) this.#endSession()
        else if (this.#path === undefined && !this.hasStreams) {
          this.#fail(
            new PeerError('ERR_NATWORK_NODE_UNREACHABLE', `no path to ${this.peer}: ${event.message}`),
          )
        } else {
          this.#interrupted()
        }
    }
  }

  /** Addresses of this machine, or what the world sees of them, have changed. */
  networkChanged(candidates: readonly LocalCandidate[]): void {
    this.#session?.networkChanged(this.#host.now(), candidates)
    this.#host.wake()
  }

  /** What is known of the NAT here has changed: a search between two hard ones may begin with it. */
  hintsChanged(): void {
    if (this.#session !== undefined) void this.#refreshHints(this.#session)
  }

  /** The helpers on which this node hangs have changed: a relay of one that is gone is no way to go. */
  helpersChanged(): void {
    this.#gather()
    // What no helper took.
    this.#tellUntold()
  }

  /** Looks at the streams: when they get no answers, the path may be dead. */
  watch(): void {
    const session = this.#session
    if (session === undefined || this.#streams.size === 0) return
    let timeouts = 0
    for (const { connection } of this.#streams) timeouts += connection.stats.timeouts
    if (timeouts > this.#timeoutsSeen) this.suspect()
    this.#timeoutsSeen = timeouts
  }

  /** What is sent gets no answer: the path is looked at now. */
  suspect(): void {
    this.#session?.suspect(this.#host.now())
    this.#host.wake()
  }

  /** Says good-bye, unless the peer did. */
  close(why: string | undefined): void {
    if (this.#closed) return
    this.#closed = true
    if (why !== undefined && this.#session !== undefined) this.#say({ type: 'bye', link: this.#name, why })
    this.#endSession()
    this.#waiting.failed(new PeerError('ERR_NATWORK_NODE_UNREACHABLE', `the link to ${this.peer} was closed`))
  }

  #begin(controlling: boolean, name = randomBytes(16).toString('hex')): IceSession {
    this.#endSession()
    const hints = this.#host.hints()
    this.#hints = withoutPort(hints)
    const session = this.#host.open(this, controlling, this.#hints)
    this.#session = session
    if (this.#exhaustive !== undefined) session.setExhaustive(this.#host.now(), this.#exhaustive)
    this.#name = name
    this.#isFound = false
    this.#complete = false
    this.#heardAt = 0
    this.#borrowed = new AbortController()
    this.#borrower = borrowerFor(session, this.#host, this.#borrowed.signal)
    if (hints !== this.#hints) void this.#refreshHints(session)
    this.#host.wake()
    return session
  }

  async #refreshHints(session: IceSession): Promise<void> {
    const fresh = await withNewestPort(this.#host.hints(), this.#host.newestPort)
    if (this.#session !== session || session.closed || isDeepStrictEqual(fresh, this.#hints)) return
    this.#hints = fresh
    session.setHints(this.#host.now(), fresh)
    this.#host.wake()
    this.#hintsUntold = true
    this.#tellLater()
  }

  /** Borrows a relay from a helper that is there now, unless there is one; what was borrowed before is kept while it lives. */
  #gather(): void {
    const { session } = this
    const user = this.#borrower
    if (session === undefined || user === undefined) return
    void this.#host.gatherMore(this, this.#target, user).then(() => {
      if (user.ended.aborted) return
      this.#complete = true
      session.endOfLocalCandidates(this.#host.now())
      this.#host.wake()
      this.#tellLater()
    })
  }

  /** The path in use may be gone, and it is the last one: a relay elsewhere may be there before that is certain. */
  #gatherReserve({ session, path: { local, remote } }: Extract<IceEvent, { type: 'doubted' }>): void {
    if (this.#borrower === undefined || this.idleFor() > 0) return
    const relays = session.localCandidates.filter(({ type }) => type === 'relay')
    const instead = [local.address, remote.address, ...relays].map(({ address }) => address)
    void this.#host.gatherMore(this, this.#target, this.#borrower, instead)
  }

  #endSession(): void {
    const session = this.#session
    this.#session = undefined
    this.#borrower = undefined
    this.#offered = undefined
    this.#remoteUfrag = undefined
    this.#promised = undefined
    this.#early = []
    this.#untold = []
    this.#borrowed.abort()
    this.greeting.end()
    clearTimeout(this.#restartTimer)
    clearImmediate(this.#telling)
    this.#telling = undefined
    if (session === undefined) return
    session.close(this.#host.now())
    this.#host.wake()
  }

  /** Sends the offer of the present credentials until it is answered, or there are others. */
  async #offer(): Promise<void> {
    const session = this.#session
    const target = this.#target
    if (session === undefined || target === undefined) return
    const ufrag = (this.#offered = session.parameters.ufrag)
    const tried = new Set<ControlChannel>()
    let failure: Error | undefined
    for (const gap of offerGaps) {
      try {
        const greeting = this.hasStreams ? {} : await this.greeting.offer()
        this.#untold = []
        const offer: LinkMessage = {
          type: 'offer',
          ...this.#description(session),
          ...greeting,
          record: this.#host.record(),
        }
        const options = { avoid: tried, prefer: this.#prefer }
        tried.add(await this.#host.send(target, offer, options))
        failure = undefined
      } catch (error) {
        failure = asError(error)
        this.#host.debug('an offer was not taken', { peer: this.peer, error: failure.message })
      }
      if (this.#offered !== ufrag || this.#session !== session) return
      // Nobody will hear it any time soon: a caller has better things to do than to wait.
      if (failure !== undefined && this.#path === undefined && !this.hasStreams) break
      await this.#answered(failure === undefined ? gap : Math.min(gap, 1_000))
      if (this.#offered !== ufrag || this.#session !== session) return
    }
    if (this.#path === undefined) {
      this.#fail(
        failure ??
          new PeerError(
            'ERR_NATWORK_NODE_UNREACHABLE',
            `${this.peer} does not answer what its helpers pass on`,
          ),
      )
    }
  }

  #answered(time: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, time)
      this.#onAnswered = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #hearOffer(offer: LinkOffer, sentAt: number, channel: ControlChannel): void {
    const known = offer.link === this.#name && this.#session !== undefined
    if (!known) {
      // Both called at once: the call of the smaller id counts, and its offer is on the way to the other side.
      const isPending = this.#offered !== undefined && this.#remoteUfrag === undefined
      if (isPending && this.#host.record().id < this.peer) return
      this.#begin(false, offer.link)
      this.#gather()
    }
    if (sentAt < this.#heardAt) return
    this.#heardAt = sentAt
    this.#prefer = channel
    const session = this.#session
    if (session === undefined) return
    this.#describe(session, offer, false)
    void this.#answer(session, offer)
  }

  async #answer(session: IceSession, offer: LinkOffer): Promise<void> {
    const greeting = await this.greeting.answer(offer)
    if (this.#session !== session || this.#remoteUfrag !== offer.parameters.ufrag) return
    this.#untold = []
    this.#say({ type: 'answer', ...this.#description(session), ...greeting, to: offer.parameters.ufrag })
  }

  #hearAnswer(answer: LinkAnswer, sentAt: number, channel: ControlChannel): void {
    const session = this.#session
    if (session === undefined || answer.link !== this.#name) return
    // To an offer that another one has replaced, or heard already.
    if (answer.to !== session.parameters.ufrag || sentAt < this.#heardAt) return
    this.#heardAt = sentAt
    this.#prefer = channel
    this.greeting.hearAnswer(answer)
    this.#describe(session, answer, true)
    this.#offered = undefined
    this.#onAnswered()
    this.#tellUntold()
  }

  #describe(
    session: IceSession,
    { parameters, candidates, hints, complete }: LinkHalf,
    sawOurs: boolean,
  ): void {
    const now = this.#host.now()
    session.setRemote(now, { ...parameters, candidates, hints, complete, sawOurs })
    this.#remoteUfrag = parameters.ufrag
    for (const late of this.#early.splice(0)) if (late.ufrag === parameters.ufrag) this.#hearCandidates(late)
    this.#host.wake()
  }

  #hearCandidates(said: LinkCandidates): void {
    const session = this.#session
    if (session === undefined) return
    if (said.ufrag !== this.#remoteUfrag) {
      if (this.#early.length < maxEarly) this.#early.push(said)
      return
    }
    const now = this.#host.now()
    for (const candidate of said.candidates) session.addRemoteCandidate(now, candidate)
    if (said.hints !== undefined) session.setRemoteHints(now, said.hints)
    if (said.complete) session.endOfRemoteCandidates(now)
    this.#host.wake()
  }

  #description(session: IceSession): LinkHalf {
    const { parameters, localCandidates } = session
    return {
      link: this.#name,
      parameters,
      candidates: [...localCandidates],
      hints: this.#hints,
      complete: this.#complete,
    }
  }

  #tellUntold(): void {
    if (this.#untold.length > 0 || this.#hintsUntold) this.#tellLater()
  }

  /** Candidates that are found in one go travel together. */
  #tellLater(candidate?: IceCandidate): void {
    if (candidate !== undefined) this.#untold.push(candidate)
    this.#telling ??= setImmediate(() => {
      this.#telling = undefined
      const session = this.#session
      // What has no answer yet is repeated, with everything known by then.
      if (session === undefined || this.#remoteUfrag === undefined) return
      const candidates = this.#untold.splice(0)
      const { ufrag } = session.parameters
      const hints = this.#hintsUntold ? { hints: this.#hints } : {}
      this.#hintsUntold = false
      this.#say({
        type: 'candidates',
        link: this.#name,
        ufrag,
        candidates,
        complete: this.#complete,
        ...hints,
      })
    })
  }

  #say(message: LinkMessage): void {
    if (this.#target === undefined) return
    this.#host.send(this.#target, message, { prefer: this.#prefer }).catch((error: unknown) => {
      const { type } = message
      this.#host.debug('a signal was not taken', { peer: this.peer, type, error: asError(error).message })
      if (message.type !== 'candidates' || message.link !== this.#name) return
      // The next helper takes them, or the peer's own comes back to it.
      this.#untold = [...message.candidates, ...this.#untold].slice(-maxEarly)
      this.#hintsUntold ||= message.hints !== undefined
      setTimeout(() => this.#tellUntold(), tellAgain).unref()
    })
  }

  /**
   * Looks for a path anew. Not at once: a path that only paused comes back by itself, and a restart would forget it; the
   * side that controls begins, the other when it hears nothing of that.
   */
  #interrupted(): void {
    this.#unuse()
    this.#host.changed(this)
    const session = this.#session
    if (session === undefined || this.#target === undefined) return
    if (!this.hasStreams && this.#waiting.size === 0) return
    const wait = (session.controlling ? 1_000 : 2_000) + Math.min(10_000, this.#restarts * 1_000)
    clearTimeout(this.#restartTimer)
    this.#restartTimer = setTimeout(() => {
      if (this.#session !== session || this.#path !== undefined || session.closed) return
      this.#restarts++
      this.#gather()
      session.restart(this.#host.now())
      this.#host.wake()
      this.#interrupted()
      void this.#offer()
    }, wait)
  }

  #fail(error: Error): void {
    this.#endSession()
    this.#unuse()
    this.#waiting.failed(error)
    this.#host.changed(this)
  }

  #use(path: Path, kind: PathUse['kind'], local = this.#host.localTowards(path.remote)): void {
    const isSame = this.#path !== undefined && samePath(this.#path, path)
    this.#path = path
    for (const stream of this.#streams) stream.setPath(path)
    if (this.#history.begin({ kind, local, remote: path.remote }, isSame)) this.#host.changed(this)
  }

  #kindOf(path: Path): PathUse['kind'] {
    const found = this.#session?.validPaths.find((one) => samePath(one.path, path))
    return found?.kind ?? (path.via?.kind === 'relay' ? 'relayed' : 'direct')
  }

  #unuse(): void {
    this.#path = undefined
    this.#history.end()
    this.#up.abort(new PeerError('ERR_NATWORK_NODE_UNREACHABLE', `the path to ${this.peer} was lost`))
    this.#up = new AbortController()
    setMaxListeners(0, this.#up.signal) // One for each connection that is being opened.
  }

  #forget(stream: UtpStream): void {
    if (!this.#streams.delete(stream)) return
    this.#past.add(stream)
    this.#timeoutsSeen = Math.max(0, this.#timeoutsSeen - stream.connection.stats.timeouts)
    this.#idleSince = this.#host.now()
    if (this.#streams.size > 0 || this.#session !== undefined) return
    this.#unuse()
    this.#host.changed(this)
  }
}
