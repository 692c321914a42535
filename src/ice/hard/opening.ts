import { familyOf } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import { scopeOf } from '../../core/scope.ts'
import { OPENING, OPENING_TTL } from '../bounds.ts'
import type { Pair } from '../check-list.ts'
import type { IceCandidate, NatHints } from '../types.ts'
import { reachOf } from './plan.ts'

/**
 * When checks go out on a low TTL, while nothing has come back: they open our own NAT and die before the peer's. On an
 * unfiltered Linux router a packet that comes before its own side has sent takes the very flow that this side needs, and
 * moves its port; with both NATs opened first, nothing moves.
 *
 * Whoever sends the offer can use the full TTL at once when the answer comes: the other side has opened by then. The
 * other side waits for its check, but not for long.
 */
export class OpeningRule {
  #sawOurs = false
  #signalling: Micros = OPENING
  #isForever = false
  #isNever = false
  #isOpen = false

  /** `signalling`: what the peer took to answer, with the way to it and back. */
  begin(local: NatHints, remote: NatHints, sawOurs: boolean, signalling: Micros): void {
    this.#sawOurs = sawOurs
    this.#signalling = Math.min(signalling, OPENING)
    this.learn(local, remote)
  }

  learn(local: NatHints, remote: NatHints): void {
    const [ours, theirs] = [reachOf(local), reachOf(remote)]
    // Our packets come from a port that the peer does not know: a filter drops them, and they can only harm. Where nobody
    // knows of a filter there may be none, and the first packet gets through. If there is one after all, one port of ours is
    // spoiled: out of many that is nothing, of a sequential NAT it is the one that the peer tries first.
    const isStrange = ours === 'dependent' && theirs === 'port-filter'
    const isWorthATry = isStrange && remote.filtering === undefined && local.ports !== 'sequential'
    this.#isForever = isStrange && !isWorthATry
    this.#isOpen = theirs === 'open'
    this.#isNever = this.#isOpen || isWorthATry
  }

  /** The peer described itself after it had our description, and so has opened its side. */
  get sawOurs(): boolean {
    return this.#sawOurs
  }

  /** Until when a pair formed now is opened only. */
  until(now: Micros): Micros {
    return this.#sawOurs ? now : now + OPENING
  }

  /**
   * From when on checks may go through a relay of ours to the peer's NAT. `told`: when the peer was told of the relay; it opens
   * its side as soon as it hears, and moved ports stay moved for whatever comes later.
   */
  relayedFrom(told: Micros, { openUntil }: Pick<Pair, 'openUntil'>): Micros {
    return this.#isOpen ? -Infinity : Math.max(openUntil, told + this.#signalling)
  }

  /**
   * Whether what goes this way will get through: from our own socket to where the peer, which has opened its side, is on the
   * internet. Not where both are behind one NAT, and have a better way.
   */
  isLikely({ base, remote, isRelayed }: Pair, ours: readonly IceCandidate[]): boolean {
    const { address } = remote.candidate
    if (!this.#sawOurs || base.via !== undefined || isRelayed || scopeOf(address) !== 'global') return false
    return !ours.some((one) => one.type !== 'relay' && one.address === address)
  }

  ttl(
    now: Micros,
    { remote, isRelayed, openUntil }: Pick<Pair, 'remote' | 'isRelayed' | 'openUntil'>,
  ): number | undefined {
    // A relay has no NAT before it, and what leaves from one has another's TTL.
    const { address } = remote.candidate
    if (this.#isNever || isRelayed || familyOf(address) === 6 || scopeOf(address) !== 'global')
      return undefined
    return this.#isForever || now < openUntil ? OPENING_TTL : undefined
  }
}
