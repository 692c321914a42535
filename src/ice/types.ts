import type { SocketAddress } from '../core/address.ts'
import type { Carrier, Micros, Path } from '../core/machine.ts'
import type { Nat64Prefix } from '../core/nat64.ts'
import type { Dependence, PortAllocation } from '../stun/behaviour/index.ts'

/**
 * Where a candidate comes from (RFC 8445 §5.1.1). `mapped` is a port that a router has opened on request (NAT-PMP, PCP,
 * UPnP-IGD); to other implementations it goes as `srflx`, which it is.
 */
export type CandidateType = 'host' | 'mapped' | 'srflx' | 'prflx' | 'relay'

/** A candidate as it goes to the peer: plain JSON. Component 1, UDP. */
export interface IceCandidate {
  readonly type: CandidateType
  /** An IP literal. */
  readonly address: string
  /** 1–65535. */
  readonly port: number
  /** 1–2147483647 (RFC 8445 §5.1.2). */
  readonly priority: number
  /** 1–32 of A–Z a–z 0–9 + / : the same for candidates of one type, base and server (RFC 8445 §5.1.1.3). */
  readonly foundation: string
  /** The base of a reflexive candidate, what the relay sees for a relayed one: for diagnosis alone. */
  readonly related?: SocketAddress
}

/** A candidate of our own, as gathered. The session gives it its priority and foundation. */
export interface LocalCandidate {
  readonly type: Exclude<CandidateType, 'prflx'>
  readonly address: SocketAddress
  /** The socket's own address behind a reflexive or port-mapped one; default: `address`. */
  readonly base?: SocketAddress
  /** What carries it: of `relay`, the allocation. Absent: the endpoint's own socket. */
  readonly via?: Carrier
  /** The STUN or TURN server it was learnt from. */
  readonly server?: SocketAddress
  /**
   * Of `relay`: called before the first check to an IP address, so that the relay lets its answers in (RFC 8656 §9);
   * each address once per session.
   */
  readonly permit?: (address: string) => void
}

/** What one side has found out about its NAT; goes to the peer with the candidates. IPv4 alone has NATs. All optional. */
export interface NatHints {
  readonly mapping?: Dependence
  readonly filtering?: Dependence
  readonly ports?: PortAllocation
  /** Of `sequential`: how far the ports are apart. */
  readonly step?: number
  /** The outer port of the newest flow known, best one opened for this very offer: where prediction starts. */
  readonly lastPort?: number
}

/** `renomination`: nominations may move to a better pair at any time, the last one counts; natwork always says so. */
export type IceOption = 'trickle' | 'renomination'

export interface IceParameters {
  /** 4–256 characters of A–Z a–z 0–9 + / */
  readonly ufrag: string
  /** 22–256 characters of the same. A secret: it goes to the peer alone. */
  readonly pwd: string
  readonly options?: readonly IceOption[]
}

/** The peer's half of an exchange of offer and answer. */
export interface RemoteDescription extends IceParameters {
  readonly candidates?: readonly IceCandidate[]
  readonly hints?: NatHints
  /** No more candidates will come (RFC 8838 §13). Default: false. */
  readonly complete?: boolean
  /**
   * The peer had our candidates when it sent this, so that its NAT is open for us by now: true in an answer. Default:
   * whether we are controlling.
   */
  readonly sawOurs?: boolean
}

/**
 * The search for a path between two NATs that both choose random ports, and what it may cost. A flow of ours that meets one
 * of the peer's is one of N² = 64,512², and only flows count that the other NAT still remembers: with r packets a second
 * on both sides, for T seconds, and NATs that forget after L, it fails with exp(−r²·(T² − (T − L)²) / 2N²).
 */
export interface ExhaustiveBudget {
  /** Datagrams this side sends at most, 1–1,000,000, of 148 bytes and less. */
  readonly packets: number
  /** 1–10,000. NATs remember so many flows times the seconds that they keep one, mostly 30. */
  readonly perSecond: number
}

/** 50 s, 5.6 Mbit/s, 120,000 flows in each router at a time; 98 % with NATs that forget after 30 s. */
export const defaultExhaustive: ExhaustiveBudget = { packets: 200_000, perSecond: 4_000 }

export interface SessionOptions {
  /** The side that asked for the connection (RFC 8445 §6.1.1). */
  readonly controlling: boolean
  readonly local: {
    readonly candidates: readonly LocalCandidate[]
    /** How this host reaches IPv4 through NAT64, where it has no IPv4 of its own: `discoverNat64` of `natwork/stun` finds it. */
    readonly nat64?: Nat64Prefix | undefined
  }
  readonly hints?: NatHints
  /** Search between two random NATs too; default: stay on the relay there. It fills the routers' tables. */
  readonly exhaustive?: ExhaustiveBudget
}

export type PathKind = 'direct' | 'relayed'

/** One way to the peer that has proved to work in both directions. */
export interface IcePath {
  readonly path: Path
  readonly kind: PathKind
  /** Smoothed round trip, µs. */
  readonly rtt: Micros
  /** Our end as the peer sees it, and of which type. */
  readonly local: { readonly type: CandidateType; readonly address: SocketAddress }
  readonly remote: { readonly type: CandidateType; readonly address: SocketAddress }
}

/**
 * `no-candidates`: the peer has named none that we could try. `no-answer`: all were tried, none answered.
 * `consent-lost`: there was a path, and it is gone.
 */
export type FailureReason = 'no-candidates' | 'no-answer' | 'consent-lost'

/** How one pair of candidates stands, for people and programs. */
export interface PairReport {
  /** Different for every pair of a session. */
  readonly id: number
  readonly local: { readonly type: CandidateType; readonly address: SocketAddress | undefined }
  readonly remote: { readonly type: CandidateType; readonly address: SocketAddress }
  readonly kind: PathKind
  readonly state: PairState
  readonly selected: boolean
  /** Checks sent, and answers to them. */
  readonly sent: number
  readonly answered: number
  /** Checks of the peer that came this way. */
  readonly heard: number
  readonly rtt: Micros | undefined
}

/** RFC 8445 §6.1.2.6; `lost`: it has succeeded, and its consent has expired since (RFC 7675). */
export type PairState = 'frozen' | 'waiting' | 'in-progress' | 'succeeded' | 'failed' | 'lost'

/** One thing that happened, plain JSON: what `--trace` prints and what {@link explain} reads. */
export type TraceEntry = { readonly at: Micros } & (
  | { readonly what: 'opened'; readonly controlling: boolean; readonly hints: NatHints }
  | { readonly what: 'local-candidate'; readonly candidate: IceCandidate }
  | { readonly what: 'remote-candidate'; readonly candidate: IceCandidate }
  | { readonly what: 'candidate-refused'; readonly candidate: IceCandidate; readonly reason: RefusalReason }
  | { readonly what: 'remote-description'; readonly hints: NatHints }
  | { readonly what: 'hints'; readonly hints: NatHints }
  | { readonly what: 'valid'; readonly pair: PairReport }
  | { readonly what: 'pair-failed'; readonly pair: PairReport }
  | { readonly what: 'nominated'; readonly pair: PairReport }
  | { readonly what: 'selected'; readonly pair: PairReport }
  | { readonly what: 'consent-lost'; readonly pair: PairReport }
  | { readonly what: 'role'; readonly controlling: boolean }
  | { readonly what: 'restarted'; readonly by: 'us' | 'peer' }
  | { readonly what: 'search'; readonly search: SearchReport }
  | { readonly what: 'disconnected'; readonly reason: FailureReason }
  | { readonly what: 'failed'; readonly reason: FailureReason }
  | { readonly what: 'closed' }
)

/** Too many from this peer, or of one IP address; not an address one can send to; a family that this host has not. */
export type RefusalReason = 'too-many' | 'unusable' | 'no-family'

/**
 * Ways through hard NATs. `probe`: ports of the peer's NAT tried from our known one; `open`: many sockets of ours open
 * their NAT towards the peer's known port; `meet`: both sides aim at the other's next ports; `search`: both sides try
 * at random; `none`: there is nothing to try.
 */
export type SearchMethod = 'probe' | 'open' | 'meet' | 'search' | 'none'

export interface SearchReport {
  readonly method: SearchMethod
  readonly state: 'started' | 'hit' | 'exhausted' | 'stopped'
  /** Datagrams sent so far, and the most there will be. */
  readonly sent: number
  readonly budget: number
  /** Local sockets in use. */
  readonly sockets: number
}
