import type { Micros } from '../../core/machine.ts'
import { SEARCH_AFTER_ANSWER, SEARCH_AFTER_OFFER } from '../bounds.ts'
import type { Pair } from '../check-list.ts'
import type { Plan } from './plan.ts'

/**
 * How long a search waits while there is no path. The side that opens does not: what dies on the way harms nothing, and the
 * other one needs it first.
 */
export function patienceOf({ method }: Plan, sawOurs: boolean): Micros {
  if (method === 'open') return 0
  return sawOurs ? SEARCH_AFTER_ANSWER : SEARCH_AFTER_OFFER
}

/** The peer gets through to us, most likely we to it: our check is under way. */
export function isGettingThere({ heard, unanswered }: Pair): boolean {
  return heard > 0 && unanswered < 3
}
