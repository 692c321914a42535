import { MILLISECOND, type Micros } from '../core/machine.ts'
import { scopeOf } from '../core/scope.ts'
import type { Pair } from './check-list.ts'

/**
 * What a path costs, in µs of round trip: a relay costs somebody's bandwidth and counts twice its time and 100 ms more;
 * a NAT on the way needs keeping alive, so that a path within one network wins when times are the same.
 */
function costOf(pair: Pair): number {
  const rtt = pair.rtt ?? UNKNOWN_RTT
  const relays = Number(pair.base.via?.kind === 'relay') + Number(pair.remote.candidate.type === 'relay')
  if (relays > 0) return 2 * rtt + relays * RELAY
  const isLocal = pair.base.via === undefined && scopeOf(pair.path.remote.address) !== 'global'
  return isLocal ? rtt : rtt + OUTSIDE
}

/** The cheapest of the valid pairs; those in doubt only when there is no other. */
export function bestOf(pairs: readonly Pair[]): Pair | undefined {
  let best: Pair | undefined
  for (const pair of pairs) if (pair.isValid && (best === undefined || isPreferred(pair, best))) best = pair
  return best
}

/** The valid ones: those in doubt last, else the cheapest first. */
export function bestFirst(pairs: readonly Pair[]): Pair[] {
  return pairs
    .filter((one) => one.isValid)
    .sort((a, b) => Number(a.doubted) - Number(b.doubted) || costOf(a) - costOf(b))
}

function isPreferred(pair: Pair, other: Pair): boolean {
  if (pair.doubted !== other.doubted) return other.doubted
  return isRenewed(pair, other) || (!isRenewed(other, pair) && costOf(pair) < costOf(other))
}

/** After a restart the new credentials count (RFC 8445 §9), unless they lead only to a relay as yet. */
function isRenewed(pair: Pair, than: Pair): boolean {
  return pair.generation.number > than.generation.number && (than.isRelayed || !pair.isRelayed)
}

/** Is it worth to move? A fifth and 2 ms better: noise in the round trips moves nothing. */
export function isBetter(pair: Pair, inUse: Pair): boolean {
  return isRenewed(pair, inUse) || costOf(pair) < 0.8 * costOf(inUse) - MARGIN
}

/** When an answer is late, and the next check is sent. */
export function patienceFor(rtt: Micros | undefined): Micros {
  return Math.min(
    2000 * MILLISECOND,
    Math.max(60 * MILLISECOND, 1.5 * (rtt ?? 100 * MILLISECOND) + 20 * MILLISECOND),
  )
}

const UNKNOWN_RTT = 500 * MILLISECOND
const RELAY = 100 * MILLISECOND
const OUTSIDE = 3 * MILLISECOND
const MARGIN = 2 * MILLISECOND
