import { kindNames, kinds, type KindName } from '../../sim/kinds.ts'
import { directPathPossible, type Verdict as OracleVerdict } from '../../sim/oracle.ts'
import type { Results, RunRecord } from './results.ts'
import type { Verdict } from './verdict.ts'

/** What theory says of one pair, for a stack with its abilities. */
export type Expectation = Pick<OracleVerdict, 'possible' | 'reason' | 'source'>

export interface Times {
  readonly median: number
  readonly p95: number
}

export type CellState = Verdict | 'mixed' | 'missing'

/** One ordered pair: A of this kind calls B of that kind. */
export interface Cell {
  readonly a: KindName
  readonly b: KindName
  /** `mixed`: the runs differ. `missing`: not run. */
  readonly state: CellState
  readonly counts: Readonly<Record<Verdict, number>>
  /** Until data flowed by the final path, of the runs that connected; milliseconds. */
  readonly times: Times | undefined
  /** Until the first byte came back from B, of the runs that connected; milliseconds. */
  readonly firstByte: Times | undefined
  readonly expectation: Expectation | undefined
  readonly runs: readonly RunRecord[]
}

export interface Totals {
  /** Cells that were run, and of these: every run direct, every run relayed, no run connected, anything between. */
  readonly cells: number
  readonly direct: number
  readonly relayed: number
  readonly failed: number
  readonly mixed: number
  readonly runs: Readonly<Record<Verdict, number>>
  /** Over all runs with that verdict. */
  readonly directTimes: Times | undefined
  readonly relayedTimes: Times | undefined
}

export interface StackSummary {
  readonly results: Results
  /** Kinds in the order of the page: easy ones first. */
  readonly kinds: readonly KindName[]
  /** Every pair of {@link kinds}, row by row (A), with `missing` cells where a pair was not chosen. */
  readonly cells: readonly Cell[]
  readonly totals: Totals
}

/** Sums up one stack's results, beside what the oracle says where the stack's abilities are known. */
export function summarize(results: Results): StackSummary {
  const { abilities } = results.header
  const byPair = new Map<string, RunRecord[]>()
  for (const run of results.runs) {
    const key = `${run.a} ${run.b}`
    const list = byPair.get(key)
    if (list) list.push(run)
    else byPair.set(key, [run])
  }
  const seen = new Set(results.runs.flatMap(({ a, b }) => [a, b]))
  const ordered = kindNames.filter((kind) => seen.has(kind)).sort((x, y) => groupIndex(x) - groupIndex(y))
  const cells = ordered.flatMap((a) =>
    ordered.map((b) =>
      cellOf(a, b, byPair.get(`${a} ${b}`) ?? [], abilities && directPathPossible(a, b, abilities)),
    ),
  )
  return { results, kinds: ordered, cells, totals: totalsOf(cells) }
}

function cellOf(a: KindName, b: KindName, runs: RunRecord[], expectation: Expectation | undefined): Cell {
  runs.sort((x, y) => x.run - y.run)
  const counts = countVerdicts(runs)
  const states = (['direct', 'relayed', 'failed'] as const).filter((verdict) => counts[verdict] > 0)
  return {
    a,
    b,
    state: states.length > 1 ? 'mixed' : (states[0] ?? 'missing'),
    counts,
    times: timesOf(runs.map((run) => run.pathMs)),
    firstByte: timesOf(runs.map((run) => run.firstByteMs)),
    expectation,
    runs,
  }
}

function totalsOf(cells: readonly Cell[]): Totals {
  const runs = cells.flatMap((cell) => cell.runs)
  const count = (state: CellState): number => cells.filter((cell) => cell.state === state).length
  const times = (verdict: Verdict): Times | undefined =>
    timesOf(runs.filter((run) => run.verdict === verdict).map((run) => run.pathMs))
  return {
    cells: cells.length - count('missing'),
    direct: count('direct'),
    relayed: count('relayed'),
    failed: count('failed'),
    mixed: count('mixed'),
    runs: countVerdicts(runs),
    directTimes: times('direct'),
    relayedTimes: times('relayed'),
  }
}

export function countVerdicts(runs: readonly RunRecord[]): Record<Verdict, number> {
  const counts = { direct: 0, relayed: 0, failed: 0 }
  for (const run of runs) counts[run.verdict]++
  return counts
}

/** Median and 95th percentile (nearest rank) of what is there. */
export function timesOf(values: readonly (number | undefined)[]): Times | undefined {
  const sorted = values.filter((value) => value !== undefined).sort((x, y) => x - y)
  if (sorted.length === 0) return undefined
  const rank = (share: number): number => sorted[Math.ceil(share * sorted.length) - 1] ?? 0
  return { median: rank(0.5), p95: rank(0.95) }
}

/** What a reader takes a kind for, from easy to impossible. The rows and columns of the page are in this order. */
export const groups = [
  { name: 'open', title: 'Open', summary: 'anybody’s packet comes in' },
  { name: 'easy', title: 'Easy', summary: 'one mapping for all destinations, filtered' },
  { name: 'shared', title: 'Shared', summary: 'two peers of this kind share a router or a carrier' },
  { name: 'hard', title: 'Hard', summary: 'another mapping per destination' },
  { name: 'ipv6', title: 'IPv6', summary: 'IPv6-only clients' },
  { name: 'blocked', title: 'No UDP', summary: 'UDP does not leave' },
] as const

export type GroupName = (typeof groups)[number]['name']

export function groupOf(name: KindName): GroupName {
  const { behaviour, families, shared } = kinds[name]
  if (behaviour === undefined) return 'blocked'
  if (families.includes(6)) return 'ipv6'
  if (shared !== 'nothing') return 'shared'
  if (behaviour.mapping !== 'endpoint-independent') return 'hard'
  return behaviour.filtering === 'endpoint-independent' ? 'open' : 'easy'
}

function groupIndex(name: KindName): number {
  return groups.findIndex((group) => group.name === groupOf(name))
}

/** The classes of pairs that people compare stacks by. A pair belongs to the first that takes it. */
export const pairClasses = [
  {
    title: 'A side without UDP',
    takes: (a: KindName, b: KindName) => has('blocked', a, b),
  },
  { title: 'IPv6-only side', takes: (a: KindName, b: KindName) => has('ipv6', a, b) },
  {
    title: 'Same network',
    takes: (a: KindName, b: KindName) => a === b && groupOf(a) === 'shared',
  },
  { title: 'Open × anything', takes: (a: KindName, b: KindName) => has('open', a, b) },
  {
    title: 'Easy × easy',
    takes: (a: KindName, b: KindName) => !has('hard', a, b),
  },
  {
    title: 'Easy × hard',
    takes: (a: KindName, b: KindName) => !(groupOf(a) === 'hard' && groupOf(b) === 'hard'),
  },
  { title: 'Hard × hard', takes: () => true },
] as const

export function pairClassOf(a: KindName, b: KindName): string {
  return pairClasses.find((pairClass) => pairClass.takes(a, b))?.title ?? ''
}

function has(group: GroupName, ...names: KindName[]): boolean {
  return names.some((name) => groupOf(name) === group)
}
