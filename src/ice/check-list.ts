import { familyOf, sameAddress, type SocketAddress } from '../core/address.ts'
import type { Carrier, Micros, Path } from '../core/machine.ts'
import { throughNat64, type Nat64Prefix } from '../core/nat64.ts'
import { scopeOf } from '../core/scope.ts'
import { pairPriority } from './candidate.ts'
import type { Credentials } from './credentials.ts'
import type { CandidateType, IceCandidate, LocalCandidate, PairReport, PairState } from './types.ts'

/**
 * Where checks leave from: the endpoint's own socket (one per family), a relay's allocation, or an extra socket. All our
 * candidates that share it are one base, since it is the kernel that chooses among a socket's source addresses: a pair
 * is a path, and no path is checked twice (RFC 8445 §6.1.2.4 prunes less).
 */
export interface Base {
  readonly via: Carrier | undefined
  readonly family: 4 | 6
  /** The best of our candidates with this base: what the peer's reports and priorities see. */
  candidate: IceCandidate
  readonly permit: LocalCandidate['permit']
  /** IP addresses that {@link permit} was called for; bounded by the remote candidates. */
  readonly permitted: Set<string>
  /** When it came. */
  readonly since: Micros
}

/** A remote candidate, as seen (`prflx`) or as named by the peer, which may come later. */
export interface Remote {
  candidate: IceCandidate
}

/** The credentials of both sides between two restarts. */
export interface Generation {
  /** 0 before the first restart. */
  readonly number: number
  readonly local: Credentials
  /** When ours were made: the peer hears of them together with the candidates of that time. */
  readonly since: Micros
  remote: Credentials | undefined
}

export class Pair {
  /** Different for every pair of a session. */
  id = 0
  readonly base: Base
  readonly remote: Remote
  readonly path: Path
  readonly generation: Generation
  readonly foundation: string
  state: PairState = 'frozen'
  /** When the next check is due; Infinity: none. */
  nextAt: Micros = Infinity
  /** Checks sent since the last answer. */
  unanswered = 0
  /** Until when checks are sent on a low TTL, while nothing was heard from there. */
  openUntil: Micros = 0
  sent = 0
  answered = 0
  heard = 0
  rtt: Micros | undefined
  lastAnswer: Micros = 0
  /** Answers since the path was last doubted. */
  steady = 0
  doubted = false
  /** As the peer sees us on it. */
  mapped: SocketAddress | undefined
  triggered = false
  revivals = 0

  constructor(base: Base, remote: Remote, path: Path, generation: Generation) {
    this.base = base
    this.remote = remote
    this.path = path
    this.generation = generation
    this.foundation = `${base.candidate.foundation}:${remote.candidate.foundation}`
  }

  get isRelayed(): boolean {
    return this.base.via?.kind === 'relay' || this.remote.candidate.type === 'relay'
  }

  get isValid(): boolean {
    return this.state === 'succeeded'
  }

  priority(controlling: boolean): number {
    const ours = this.base.candidate.priority
    const theirs = this.remote.candidate.priority
    return controlling ? pairPriority(ours, theirs) : pairPriority(theirs, ours)
  }

  /** Our end, as the peer sees it: one of our candidates, or a peer-reflexive one (§7.2.5.3.1). */
  localEnd(known: readonly IceCandidate[]): { type: CandidateType; address: SocketAddress } {
    const { type, address, port } = this.base.candidate
    const { mapped } = this
    if (mapped === undefined || this.base.via?.kind === 'relay') return { type, address: { address, port } }
    const candidate = known.find((one) => sameAddress(one, mapped))
    return { type: candidate?.type ?? 'prflx', address: mapped }
  }

  report(known: readonly IceCandidate[], selected: boolean): PairReport {
    const { candidate } = this.remote
    return {
      id: this.id,
      local: this.localEnd(known),
      remote: { type: candidate.type, address: { address: candidate.address, port: candidate.port } },
      kind: this.isRelayed ? 'relayed' : 'direct',
      state: this.state,
      selected,
      sent: this.sent,
      answered: this.answered,
      heard: this.heard,
      rtt: this.rtt,
    }
  }
}

/** The pairs of a session, and which of them is checked next (RFC 8445 §6.1.2, §6.1.4). */
export class CheckList {
  /** Bounded by bases × remote candidates: see bounds.ts. */
  readonly pairs: Pair[] = []
  /** §6.1.4.1; at most one entry per pair. */
  readonly #triggered: Pair[] = []
  #lastId = 0

  find(base: Base, at: SocketAddress, generation: Generation): Pair | undefined {
    return this.pairs.find(
      (one) => one.base === base && one.generation === generation && sameAddress(one.path.remote, at),
    )
  }

  add(pair: Pair): void {
    pair.id = ++this.#lastId
    this.pairs.push(pair)
    // §6.1.2.6: of each foundation one pair is checked, and those behind it when it has shown whether that kind works.
    const isBusy = this.pairs.some(
      (one) => one.foundation === pair.foundation && (one.state === 'waiting' || one.state === 'in-progress'),
    )
    if (!isBusy) pair.state = 'waiting'
  }

  /** The oldest of those on which nothing works; when all do, the oldest that is not in use. */
  leastUseful(remotes: readonly Remote[], inUse: Remote | undefined): Remote | undefined {
    const others = remotes.filter((one) => one !== inUse)
    const isIdle = (remote: Remote): boolean =>
      !this.pairs.some((one) => one.remote === remote && one.isValid)
    return others.find(isIdle) ?? others[0]
  }

  /** Its first check is due then, unless the peer's comes before. */
  postpone(pair: Pair, until: Micros): void {
    pair.state = 'in-progress'
    pair.nextAt = until
  }

  remove(pair: Pair): void {
    const at = this.pairs.indexOf(pair)
    if (at !== -1) this.pairs.splice(at, 1)
    const queued = this.#triggered.indexOf(pair)
    if (queued !== -1) this.#triggered.splice(queued, 1)
  }

  trigger(pair: Pair): void {
    if (pair.triggered) return
    pair.triggered = true
    this.#triggered.push(pair)
  }

  /** §7.2.5.3.3: what has the foundation of a pair that works, or failed, is worth a try now. */
  unfreeze(foundation: string): void {
    for (const pair of this.pairs) {
      if (pair.state === 'frozen' && pair.foundation === foundation) pair.state = 'waiting'
    }
  }

  get hasTriggered(): boolean {
    return this.#triggered.length > 0
  }

  /** The next pair for a check: triggered ones, then repetitions that are due, then new ones by priority (§6.1.4.2). */
  next(now: Micros, controlling: boolean): Pair | undefined {
    const first = this.#triggered.shift()
    if (first !== undefined) {
      first.triggered = false
      return first
    }
    let due: Pair | undefined
    for (const pair of this.pairs) {
      if (pair.nextAt <= now && pair.nextAt < (due?.nextAt ?? Infinity)) due = pair
    }
    return due ?? this.#fresh(controlling)
  }

  get hasFresh(): boolean {
    return this.pairs.some(({ state }) => state === 'waiting' || state === 'frozen')
  }

  /** The earliest repetition. */
  get nextAt(): Micros {
    let at = Infinity
    for (const pair of this.pairs) if (pair.nextAt < at) at = pair.nextAt
    return at
  }

  /**
   * By priority; but the best relayed one goes second, since it is the one that is most likely to work at once, and
   * the first path that works is used.
   */
  #fresh(controlling: boolean): Pair | undefined {
    let fresh = this.pairs.filter(({ state }) => state === 'waiting')
    if (fresh.length === 0) {
      for (const pair of this.pairs) if (pair.state === 'frozen') pair.state = 'waiting'
      fresh = this.pairs.filter(({ state }) => state === 'waiting')
    }
    const begun = this.pairs.filter(({ sent }) => sent > 0)
    if (begun.length > 0 && !begun.some((one) => one.isRelayed)) {
      const relayed = fresh.filter((one) => one.isRelayed)
      if (relayed.length > 0) fresh = relayed
    }
    let best: Pair | undefined
    for (const pair of fresh) {
      if (best === undefined || pair.priority(controlling) > best.priority(controlling)) best = pair
    }
    return best
  }
}

/** A relay lets in only whom it was told to (RFC 8656 §9), and the peer may be the first to check. */
export function permit({ permit: tell, permitted }: Base, address: string): void {
  if (tell === undefined || permitted.has(address)) return
  permitted.add(address)
  tell(address)
}

/** The way from `base` to a candidate; undefined where there is none that can mean anything. */
export function pathTo(
  base: Base,
  { address, port }: SocketAddress,
  nat64: Nat64Prefix | undefined,
  hasLoopback: boolean,
): Path | undefined {
  const { via, family } = base
  const isTranslated = via === undefined && family === 6 && scopeOf(address) === 'global'
  const remote = throughNat64(isTranslated ? nat64 : undefined, { address, port })
  if (!canReach(base, remote, hasLoopback)) return undefined
  return via === undefined ? { remote } : { remote, via }
}

function canReach(base: Base, remote: SocketAddress, hasLoopback: boolean): boolean {
  const scope = scopeOf(remote.address)
  if (base.family !== familyOf(remote.address)) return false
  if (base.via?.kind === 'relay') return scope === 'global'
  // A peer elsewhere that names our own loopback wants us to knock at our own services.
  return scope !== 'loopback' || hasLoopback
}

/** The path with what the peer says of its far end; what goes through our own relay is known to be wrapped. */
export function marked<P extends Path | undefined>(path: P, { candidate: { type } }: Remote): P {
  return path === undefined || path.via !== undefined || type !== 'relay'
    ? path
    : { ...path, isRelayed: true }
}
