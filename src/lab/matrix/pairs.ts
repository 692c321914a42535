import { checkKind } from '../topology.ts'
import { kindNames } from '../../sim/kinds.ts'
import { LabUsageError } from '../errors.ts'
import type { Pair } from './runner.ts'

/** What to run, as people write it. */
export interface PairChoice {
  /** Kinds separated by commas: every ordered pair of them. */
  readonly kinds?: string
  /** Pairs `A+B` separated by commas. */
  readonly pairs?: string
}

/**
 * The pairs chosen: those of `kinds`, then `pairs` that are not among them; every pair there is when nothing is chosen.
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_UNKNOWN_KIND`
 */
export function choosePairs({ kinds, pairs }: PairChoice): Pair[] {
  const named = kinds === undefined ? (pairs === undefined ? kindNames : []) : words(kinds).map(checkKind)
  const all: Pair[] = named.flatMap((a) => named.map((b): Pair => [a, b]))
  for (const word of words(pairs ?? '')) {
    const [a, b, ...more] = word.split('+')
    if (a === undefined || b === undefined || more.length > 0) {
      throw new LabUsageError(
        'ERR_NATWORK_LAB_UNKNOWN_KIND',
        `"${word}" is not a pair: write symmetric+full-cone`,
      )
    }
    all.push([checkKind(a), checkKind(b)])
  }
  return [...new Map(all.map((pair) => [pair.join('+'), pair])).values()]
}

function words(text: string): string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '')
}
