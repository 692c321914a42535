import type { Cell, StackSummary, Times } from '../summary.ts'

/** `143`, `1.2s`, `12s`: short enough for a cell. */
export function shortTime(ms: number): string {
  if (ms < 999.5) return String(Math.round(ms))
  const seconds = ms / 1_000
  return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)}s`
}

/** `143 ms`, `1.2 s`. */
export function longTime(ms: number): string {
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`
}

export function timesText(times: Times | undefined): string {
  return times ? `median ${longTime(times.median)}, p95 ${longTime(times.p95)}` : '—'
}

/** What a screen reader says, and a tooltip shows. */
export function cellText(cell: Cell): string {
  const total = cell.runs.length
  const parts = (['direct', 'relayed', 'failed'] as const)
    .filter((verdict) => cell.counts[verdict] > 0)
    .map((verdict) => `${verdict} ${cell.counts[verdict]}/${total}`)
  const times = cell.times ? `, ${timesText(cell.times)}` : ''
  const theory = theoryOf(cell)
  return `${cell.a} → ${cell.b}: ${parts.join(', ') || 'not run'}${times}${theory ? ` (${theoryTexts[theory]})` : ''}`
}

/** Where runs and theory part: `below` is a direct path not found, `beyond` one that should not exist. */
export function theoryOf(cell: Cell): 'below' | 'beyond' | undefined {
  if (!cell.expectation || cell.state === 'missing') return undefined
  if (cell.expectation.possible) return cell.counts.direct < cell.runs.length ? 'below' : undefined
  return cell.counts.direct > 0 ? 'beyond' : undefined
}

export const theoryTexts = {
  below: 'theory allows a direct path in every run',
  beyond: 'direct although theory says no',
} as const

/** One fact worth a reader's time, and the cells it is about. */
export interface Finding {
  readonly title: string
  readonly cells: readonly Cell[]
}

/** What stands out in one stack's matrix, the worst first; what does not occur is left out. */
export function findingsOf(summary: StackSummary, others: readonly StackSummary[]): Finding[] {
  const run = summary.cells.filter((cell) => cell.state !== 'missing')
  const find = (title: string, takes: (cell: Cell) => boolean): Finding => ({
    title,
    cells: run.filter(takes),
  })
  const at = new Map(run.map((cell) => [`${cell.a} ${cell.b}`, cell]))
  const elsewhere = others.map((other) => ({
    name: other.results.header.stack,
    direct: new Set(other.cells.filter(allDirect).map((cell) => `${cell.a} ${cell.b}`)),
  }))
  const findings = [
    ...elsewhere.map(({ name, direct }) =>
      find(
        `${name} is direct in every run, ${summary.results.header.stack} is not`,
        (cell) => !allDirect(cell) && direct.has(`${cell.a} ${cell.b}`),
      ),
    ),
    find('The program’s word and the counters differ', (cell) =>
      cell.runs.some(({ claimed, verdict }) => claimed !== undefined && claimed !== verdict),
    ),
    find('Theory allows a direct path, not every run found it', (cell) => theoryOf(cell) === 'below'),
    find('Direct although theory says no', (cell) => theoryOf(cell) === 'beyond'),
    find('The runs of one cell differ', (cell) => cell.state === 'mixed'),
    find('Direct one way round only', (cell) => {
      const back = at.get(`${cell.b} ${cell.a}`)
      return allDirect(cell) && back !== undefined && back.counts.direct === 0
    }),
    {
      title: 'The slowest direct cells',
      cells: run
        .filter((cell) => allDirect(cell) && (cell.times?.median ?? 0) > SLOW_MS)
        .sort((x, y) => (y.times?.median ?? 0) - (x.times?.median ?? 0))
        .slice(0, 12),
    },
  ]
  return findings.filter(({ cells }) => cells.length > 0)
}

/** Above this a person notices. */
const SLOW_MS = 1_000

function allDirect(cell: Cell): boolean {
  return cell.state === 'direct'
}
