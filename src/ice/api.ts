import type { Carrier, Micros, Path } from '../core/machine.ts'
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
  TraceEntry,
} from './types.ts'

/**
 * The search for a path to one peer, and the watch over it, made by `IceMachine.open`. After every call wake the
 * attachment of the machine, so that it is drained. What happens comes as events of the machine.
 *
 * Order of an exchange: `open` → send `parameters`, `localCandidates` and `hints` to the peer → `setRemote` with its own.
 * The peer's first checks may come before: they are answered at once.
 */
export interface IceSession {
  /** Different for every session of a machine: for logs. */
  readonly id: number
  /** Ours, for the peer. Changes with {@link restart}. */
  readonly parameters: IceParameters
  /** Ours so far, best first, for the offer or answer; those that come later are events. */
  readonly localCandidates: readonly IceCandidate[]
  readonly controlling: boolean
  readonly closed: boolean
  /** The path in use; undefined while there is none. */
  readonly path: IcePath | undefined
  /** All paths that work now, the best first: what comes in by one of these is the peer's. */
  readonly validPaths: readonly IcePath[]
  /** Every pair, for diagnosis. */
  readonly pairs: readonly PairReport[]
  /** What happened, oldest first: the last 512 entries. */
  readonly trace: readonly TraceEntry[]

  /**
   * The peer's offer or answer. Called again with other credentials, the peer has restarted (RFC 8445 §9); with the same
   * ones it only adds candidates.
   *
   * @throws {IceUsageError} `ERR_NATWORK_ICE_INVALID` for credentials that break RFC 8839 §5.4.
   */
  setRemote(now: Micros, remote: RemoteDescription): void
  /** A trickled candidate (RFC 8838). Those beyond the bounds are ignored, and the trace says so. */
  addRemoteCandidate(now: Micros, candidate: IceCandidate): void
  /** The peer has no more candidates. */
  endOfRemoteCandidates(now: Micros): void
  /** Fresher hints of the peer's, whole. */
  setRemoteHints(now: Micros, hints: NatHints): void
  /** Fresher hints of our own; the peer gets them from you. */
  setHints(now: Micros, hints: NatHints): void
  /** Searches between two random NATs too, from now on: see {@link SessionOptions.exhaustive}. */
  setExhaustive(now: Micros, budget: ExhaustiveBudget): void
  /** One of ours, found later: it comes back as a `candidate` event, for the peer. */
  addLocalCandidate(now: Micros, candidate: LocalCandidate): void
  /** A carrier is gone (a relay's allocation, a socket): its paths too. */
  removeCarrier(now: Micros, carrier: Carrier): void
  /** All of ours have been gathered: without it a session never fails for want of candidates. */
  endOfLocalCandidates(now: Micros): void
  /** One of the sockets that a `sockets` event asked for. */
  addSocket(now: Micros, carrier: Carrier): void
  /** New credentials and a new search; the path in use stays in use until a new one is there (RFC 8445 §9). */
  restart(now: Micros): void
  /**
   * An interface came or went, the machine woke up: every path is checked at once. With `current`, what this machine has
   * now: what is new is told to the peer, and what is not among it (but for relays) goes into no further offer.
   */
  networkChanged(now: Micros, current?: readonly LocalCandidate[]): void
  /** The connection on top gets no answers: the paths are checked at once, and the dead one is left within a second. */
  suspect(now: Micros): void
  /** Whether `path` is a valid one of this session. */
  owns(path: Path): boolean
  /** Whether the peer's authentic check came by `path`: so much of a session is believed unproved, no more ({@link MAX_BELIEVED}). */
  believes(path: Path): boolean
  close(now: Micros): void
}

export type IceEvent =
  /** A candidate of ours, found after {@link IceSession.localCandidates} was sent: for the peer. */
  | { readonly type: 'candidate'; readonly session: IceSession; readonly candidate: IceCandidate }
  /**
   * Nothing works yet, and our check is under way here: after the peer's authentic one had come this way, or because this is
   * the likeliest way to a peer that has opened its side. Told to the side that calls; a later one is better. What is sent here
   * now, to open a connection a round trip sooner, may reach nobody, or somebody that the peer only pretends to be.
   */
  | { readonly type: 'promising'; readonly session: IceSession; readonly path: IcePath }
  /** Data goes this way from now on. The first one is announced as soon as it works, better ones as they are found. */
  | { readonly type: 'path'; readonly session: IceSession; readonly path: IcePath }
  /**
   * The path in use does not answer, and there is no other that does. It may have paused, or be gone: a way that does not
   * share its fate (another relay) would be welcome.
   */
  | { readonly type: 'doubted'; readonly session: IceSession; readonly path: IcePath }
  /** No path works any more. The session goes on looking; a restart, or fresh candidates, help it. */
  | { readonly type: 'disconnected'; readonly session: IceSession; readonly reason: FailureReason }
  /** Everything was tried. Fresh candidates or a restart begin anew. */
  | {
      readonly type: 'failed'
      readonly session: IceSession
      readonly reason: FailureReason
      readonly message: string
    }
  /**
   * The session wants so many more local UDP sockets, as carriers: see {@link IceSession.addSocket}. The driver opens
   * what it can.
   */
  | { readonly type: 'sockets'; readonly session: IceSession; readonly count: number }
  /** This socket is not needed any more: close it. */
  | { readonly type: 'release'; readonly session: IceSession; readonly carrier: Carrier }
  | { readonly type: 'trace'; readonly session: IceSession; readonly entry: TraceEntry }
