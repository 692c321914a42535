import { samePath, type Micros, type Path } from '../core/machine.ts'
import { Attribute, ErrorCode, type StunView } from '../stun/codec/index.ts'
import * as bounds from './bounds.ts'
import { priorityOf } from './candidate.ts'
import { CheckList, type Generation, type Pair } from './check-list.ts'
import type { SessionHost, Transaction } from './host.ts'
import { isLargerOrEqual, writeCheck } from './message.ts'
import { bestOf, isBetter, patienceFor } from './selection.ts'
import { UnverifiedBudget } from './unverified.ts'

/** What the session does about what the checks show. */
export interface ConnectivityOwner {
  note(now: Micros, what: 'pair-failed' | 'consent-lost' | 'nominated', pair: Pair): void
  roleSwitched(now: Micros): void
  /** A pair has begun to work. */
  valid(now: Micros, pair: Pair): void
  /** While nothing works: the first check of the peer's has come on it, or one of ours has left on a {@link isLikely likely} one. */
  promising(pair: Pair): void
  /** Whether what is sent on it now will get through, as far as one can tell before anything has. */
  isLikely(pair: Pair): boolean
  selected(now: Micros, pair: Pair): void
  /** The pair in use does not answer, and no other one works. */
  doubted(now: Micros, pair: Pair): void
  disconnected(now: Micros): void
  /** A pair is gone for good. */
  dropped(pair: Pair): void
  /** The TTL of a check to where nothing was heard from yet. */
  openingTtl(now: Micros, pair: Pair): number | undefined
  begin(now: Micros, about: CheckAbout): Uint8Array
}

export type CheckAbout = Pick<Transaction, 'pair' | 'path' | 'generation' | 'nomination' | 'controlling'>

/**
 * The checks of one session: in which order, how often, until when; what works, what is used (RFC 8445 §6–8), and
 * whether it still works (RFC 7675): the same checks measure the round trip, keep NATs open and prove consent.
 */
export class Connectivity {
  readonly list = new CheckList()
  controlling: boolean
  selected: Pair | undefined
  firstValidAt: Micros | undefined
  readonly #host: SessionHost
  readonly #owner: ConnectivityOwner
  readonly #tieBreaker = new Uint8Array(8)
  readonly #unverified = new UnverifiedBudget()
  /** What the controlling side nominated last. */
  #nominated: Pair | undefined
  /** The largest number of a nomination, sent or received. */
  #nomination = 0
  #nominating: { readonly pair: Pair; tries: number; at: Micros } | undefined
  #paceAt: Micros = 0
  /** {@link bounds.MAX_BELIEVED} */
  #believed = 0
  /** The credentials under which a likely pair was told: one is. */
  #hopedFor: Generation | undefined

  constructor(controlling: boolean, host: SessionHost, owner: ConnectivityOwner) {
    this.controlling = controlling
    this.#host = host
    this.#owner = owner
    host.rng.fill(this.#tieBreaker)
  }

  get deadline(): Micros {
    const list = this.list.hasTriggered || this.list.hasFresh ? 0 : this.list.nextAt
    return Math.min(Math.max(this.#paceAt, list), this.#nominating?.at ?? Infinity)
  }

  handleTimeout(now: Micros): void {
    while (now >= this.#paceAt) {
      const pair = this.list.next(now, this.controlling)
      if (pair === undefined) break
      if (this.#attend(now, pair)) this.#paceAt = Math.max(this.#paceAt, now - BURST) + bounds.PACE
    }
    if (now >= (this.#nominating?.at ?? Infinity)) this.#nominateAgain(now)
  }

  /** Checks a pair before all others. */
  trigger(now: Micros, pair: Pair): void {
    this.list.trigger(pair)
    this.#paceAt = Math.min(this.#paceAt, now)
  }

  /** Everything that works is checked at once. */
  suspect(now: Micros): void {
    for (const pair of this.list.pairs) if (pair.isValid && pair.unanswered === 0) this.trigger(now, pair)
  }

  /** What failed or got lost has another chance. */
  revive(now: Micros): void {
    for (const pair of this.list.pairs) {
      if (pair.state === 'failed') {
        pair.state = 'waiting'
        pair.unanswered = 0
      } else if (pair.state === 'lost') {
        pair.revivals = 0
        pair.nextAt = now
      }
    }
  }

  /** The peer's check came on this pair (§7.3.1.4); `nomination`: the number of it, 0 from a peer that counts none. */
  heard(now: Micros, pair: Pair, nomination: number | undefined): void {
    const isNews = pair.heard++ === 0
    const isNominated = nomination !== undefined && nomination >= this.#nomination && !this.controlling
    if (isNominated) {
      this.#nomination = nomination
      this.#nominated = pair
    }
    if (pair.isValid) {
      if (isNominated) this.reselect(now)
      if (pair.doubted) this.trigger(now, pair)
    } else if (pair.state !== 'in-progress' || isNews) {
      // What the peer waits for does not wait for its turn, and has some tries more.
      pair.unanswered = Math.min(pair.unanswered, HEARD_AGAIN)
      this.trigger(now, pair)
      if (isNews && this.controlling && this.selected === undefined) this.#owner.promising(pair)
    }
  }

  /** The peer's check came by this path: so much is believed, {@link bounds.MAX_BELIEVED} times. */
  believes(path: Path): boolean {
    const isHeard = this.list.pairs.some((one) => one.heard > 0 && samePath(one.path, path))
    return isHeard && this.#believed++ < bounds.MAX_BELIEVED
  }

  /** A check was answered, authentically and on its path. */
  answered(now: Micros, pair: Pair, transaction: Transaction, view: StunView): void {
    const rtt = now - transaction.sentAt
    pair.rtt = pair.rtt === undefined ? rtt : Math.round(0.75 * pair.rtt + 0.25 * rtt)
    pair.mapped = view.mappedAddress() ?? pair.mapped
    pair.unanswered = 0
    pair.revivals = 0
    pair.answered++
    pair.steady++
    pair.lastAnswer = now
    if (pair.steady >= bounds.STEADY_AFTER) pair.doubted = false
    if (!pair.isValid) this.#succeed(now, pair)
    pair.nextAt = now + (pair.doubted ? bounds.STEADY_GAP : this.#consentInterval(pair))
    if (transaction.nomination > 0 && this.#nominating?.pair === pair) this.#nominationDone(now, pair)
    this.reselect(now)
  }

  refused(now: Micros, transaction: Transaction, code: number): void {
    const { pair, controlling } = transaction
    if (code === ErrorCode.RoleConflict) {
      // §7.2.5.1; only when the roles have not been switched since.
      if (controlling === this.controlling) this.#switchRole(now)
      if (pair !== undefined) this.trigger(now, pair)
    } else if (pair?.isValid === false) {
      this.#failPair(now, pair)
    }
  }

  /** §7.3.1.1. @returns 487 when the peer is to change its role. */
  resolveRoles(now: Micros, view: StunView): number | undefined {
    const theirs = view.value(this.controlling ? Attribute.IceControlling : Attribute.IceControlled)
    if (theirs?.length !== 8) return undefined
    const weWin = isLargerOrEqual(this.#tieBreaker, theirs)
    if (this.controlling === weWin) return ErrorCode.RoleConflict
    this.#switchRole(now)
    return undefined
  }

  /** A check; of a pair, or of a search that has none yet. */
  send(
    now: Micros,
    about: Omit<CheckAbout, 'controlling'>,
    localPriority: number,
    ttl: number | undefined,
  ): void {
    const { local, remote } = about.generation
    if (remote === undefined) return
    const { controlling } = this
    const transactionId = this.#owner.begin(now, { ...about, controlling })
    const data = writeCheck(this.#host.builder, {
      transactionId,
      username: `${remote.ufrag}:${local.ufrag}`,
      key: remote.key,
      // §7.1.1: as if it were peer-reflexive.
      priority: priorityOf('prflx', (localPriority >> 8) & 0xffff),
      controlling,
      tieBreaker: this.#tieBreaker,
      nomination: about.nomination,
    })
    this.#host.transmit({ path: about.path, data, ...(ttl !== undefined && { ttl }) })
  }

  drop(pair: Pair): void {
    this.list.remove(pair)
    if (this.selected === pair) this.selected = undefined
    if (this.#nominated === pair) this.#nominated = undefined
    if (this.#nominating?.pair === pair) this.#nominating = undefined
    this.#owner.dropped(pair)
  }

  /** Pairs of earlier credentials, or those that never worked under the present ones. */
  forget(isGone: (pair: Pair) => boolean): void {
    for (const pair of this.list.pairs.filter(isGone)) this.drop(pair)
  }

  /** What carried these pairs is gone. The next best is taken; when there is none, that is said at once. */
  withdraw(now: Micros, isGone: (pair: Pair) => boolean): void {
    const before = this.selected
    this.forget(isGone)
    this.reselect(now)
    if (before !== undefined && this.selected === undefined) this.#owner.disconnected(now)
  }

  /** Takes the best of what works, when it is worth it. */
  reselect(now: Micros): void {
    const best = bestOf(this.list.pairs)
    const inUse = this.selected?.isValid === true ? this.selected : undefined
    if (best === undefined) {
      if (this.selected === undefined) return
      this.selected = undefined
      this.#owner.disconnected(now)
      return
    }
    const nominated = this.#nominated
    if (!this.controlling && nominated?.isValid === true && (!nominated.doubted || best.doubted)) {
      if (nominated !== inUse) this.#select(now, nominated)
      return
    }
    if (inUse === undefined || (inUse.doubted && !best.doubted)) {
      this.#select(now, best)
      if (this.controlling) this.#nominate(now, best)
    } else if (best !== inUse && isBetter(best, inUse)) {
      // The controlling side moves when the peer has agreed, so that both move together.
      if (this.controlling) this.#nominate(now, best)
      else this.#select(now, best)
    }
  }

  /** Its turn has come. @returns whether something was sent. */
  #attend(now: Micros, pair: Pair): boolean {
    const isLate = pair.nextAt <= now && pair.unanswered > 0
    if (pair.isValid && isLate && pair.unanswered >= bounds.DOUBT_AFTER) {
      if (!pair.doubted) this.#doubt(now, pair)
      if (now - pair.lastAnswer >= bounds.CONSENT_EXPIRY) this.#lose(now, pair)
    }
    const isOver =
      pair.state === 'lost'
        ? ++pair.revivals > bounds.REVIVE_TRIES
        : !pair.isValid && isLate && pair.unanswered >= bounds.MAX_UNANSWERED
    if (isOver || (pair.answered === 0 && !this.#mayKnock(now, pair))) {
      this.#failPair(now, pair)
      return false
    }
    if (pair.state !== 'succeeded' && pair.state !== 'lost') pair.state = 'in-progress'
    this.#check(now, pair, 0)
    pair.unanswered++
    pair.nextAt = now + gapAfter(pair)
    return true
  }

  #mayKnock(now: Micros, { path }: Pair): boolean {
    return this.#unverified.take(now) && this.#host.mayKnock(now, path.remote.address)
  }

  #check(now: Micros, pair: Pair, nomination: number): void {
    const { base, path, generation } = pair
    const ttl = pair.heard + pair.answered > 0 ? undefined : this.#owner.openingTtl(now, pair)
    pair.sent++
    this.send(now, { pair, path, generation, nomination }, base.candidate.priority, ttl)
    if (pair.sent > 1 || ttl !== undefined || !this.controlling || this.selected !== undefined) return
    if (this.#hopedFor !== generation && this.#owner.isLikely(pair)) {
      this.#hopedFor = generation
      this.#owner.promising(pair)
    }
  }

  #succeed(now: Micros, pair: Pair): void {
    pair.state = 'succeeded'
    pair.steady = 1
    pair.doubted = false
    this.firstValidAt ??= now
    this.list.unfreeze(pair.foundation)
    this.#owner.valid(now, pair)
  }

  #failPair(now: Micros, pair: Pair): void {
    pair.state = 'failed'
    pair.nextAt = Infinity
    this.list.unfreeze(pair.foundation)
    this.#owner.note(now, 'pair-failed', pair)
    if (pair.base.via?.kind === 'socket') this.drop(pair)
  }

  #doubt(now: Micros, pair: Pair): void {
    pair.doubted = true
    pair.steady = 0
    // What took the path in use may have taken those in reserve, which are looked at seldom.
    if (this.selected === pair) this.suspect(now)
    this.reselect(now)
    if (this.selected?.doubted === true) this.#owner.doubted(now, this.selected)
  }

  #lose(now: Micros, pair: Pair): void {
    pair.state = 'lost'
    this.#owner.note(now, 'consent-lost', pair)
    this.reselect(now)
  }

  #consentInterval(pair: Pair): Micros {
    // What a busy machine or a full queue held up once must not keep a relay in use.
    const mayReplaceRelay = this.selected?.isRelayed === true && !pair.isRelayed
    if (mayReplaceRelay && pair.answered < bounds.MEASURED_SOON) return bounds.STEADY_GAP
    const interval = pair === this.selected ? bounds.CONSENT_IN_USE : bounds.CONSENT_IN_RESERVE
    // RFC 7675 §5.1: 0.8–1.2 of it, so that sessions do not beat together.
    return Math.round(interval * (0.8 + (0.4 * this.#host.rng.uint32()) / 0x1_0000_0000))
  }

  #mayRenominate({ generation }: Pair): boolean {
    return generation.remote?.options?.includes('renomination') ?? false
  }

  #nominate(now: Micros, pair: Pair): void {
    if (this.#nominating?.pair === pair) return
    if (!this.#mayRenominate(pair)) {
      // A stranger takes one nomination for good (§8.1.1): a relayed path waits a while for a direct one.
      if (this.#nominated?.generation === pair.generation) return
      if (pair.isRelayed && now - (this.firstValidAt ?? now) < REGULAR_PATIENCE) return
    }
    this.#nomination++
    this.#nominating = { pair, tries: 0, at: now }
    this.#nominateAgain(now)
  }

  #nominateAgain(now: Micros): void {
    const nominating = this.#nominating
    if (nominating === undefined) return
    if (++nominating.tries > NOMINATIONS || !nominating.pair.isValid) {
      this.#nominating = undefined
      return
    }
    nominating.at = now + patienceFor(nominating.pair.rtt)
    this.#check(now, nominating.pair, this.#nomination)
  }

  #nominationDone(now: Micros, pair: Pair): void {
    this.#nominating = undefined
    this.#nominated = pair
    this.#owner.note(now, 'nominated', pair)
    if (this.selected !== pair) this.#select(now, pair)
  }

  #select(now: Micros, pair: Pair): void {
    this.selected = pair
    if (pair.unanswered === 0) pair.nextAt = now + this.#consentInterval(pair)
    this.#owner.selected(now, pair)
    // What worked under earlier credentials was kept for this moment (§9).
    this.forget((one) => one.generation.number < pair.generation.number)
  }

  #switchRole(now: Micros): void {
    this.controlling = !this.controlling
    this.#nominating = undefined
    this.#owner.roleSwitched(now)
    if (this.controlling && this.selected !== undefined) this.#nominate(now, this.selected)
  }
}

function gapAfter(pair: Pair): Micros {
  if (pair.isValid) return patienceFor(pair.rtt)
  if (pair.state === 'lost') {
    return Math.min(bounds.REVIVE_MAX, bounds.REVIVE_FIRST * (1 + pair.revivals / 4))
  }
  return bounds.CHECK_GAPS[pair.unanswered - 1] ?? bounds.LAST_WAIT
}

/** After a rest, four checks go at once. */
const BURST = 3 * bounds.PACE
/** Tries of a nomination before it is given up, and made again when the pair is still the best. */
const NOMINATIONS = 7
/** How many of its tries a pair is taken to have used up when the peer is heard on it. */
const HEARD_AGAIN = 4
/** How long a relayed path waits for its nomination with a peer that takes only one. */
const REGULAR_PATIENCE = 2_000_000
