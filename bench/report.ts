import type { Sample } from './measure.ts'
import { isOurs, tcpOf, type PeerName } from './peer.ts'

/** All samples of one peer in one case over one link, in order of the rounds. */
export interface Result {
  readonly link: string
  readonly case: string
  readonly peer: PeerName
  readonly name: string
  readonly samples: readonly Sample[]
}

interface Column {
  readonly title: string
  readonly of: (sample: Sample) => number | undefined
  /** Which is better. */
  readonly best: 'high' | 'low'
}

const sharing: readonly Column[] = [
  { title: 'MB/s', of: (sample) => sample.megabytesPerSecond, best: 'high' },
  { title: 'CPU s/GB', of: (sample) => sample.cpuPerGigabyte, best: 'low' },
  { title: 'Jain index', of: (sample) => sample.fairness, best: 'high' },
  { title: 'longest gap ms', of: (sample) => sample.longestGapMilliseconds, best: 'low' },
  { title: 'RSS MB', of: (sample) => sample.residentMegabytes, best: 'low' },
]

const columns: Record<string, readonly Column[]> = {
  bulk: [
    { title: 'MB/s', of: (sample) => sample.megabytesPerSecond, best: 'high' },
    { title: 'CPU s/GB', of: (sample) => sample.cpuPerGigabyte, best: 'low' },
    { title: 'RSS MB', of: (sample) => sample.residentMegabytes, best: 'low' },
  ],
  roundtrips: [
    { title: 'round trips/s', of: (sample) => sample.perSecond, best: 'high' },
    { title: 'median ms', of: (sample) => sample.medianMilliseconds, best: 'low' },
    { title: 'p99 ms', of: (sample) => sample.p99Milliseconds, best: 'low' },
  ],
  many: sharing,
  crowd: sharing,
  setup: [{ title: 'ms to first byte back', of: (sample) => sample.medianMilliseconds, best: 'low' }],
  idle: [{ title: 'KB per idle connection', of: (sample) => sample.kilobytesPerConnection, best: 'low' }],
}

/** The median of one figure over the rounds. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const [low = NaN, high = NaN] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]]
  return (low + high) / 2
}

export function figure(result: Result | undefined, title: string): number {
  const column = columns[result?.case ?? '']?.find((one) => one.title === title)
  if (result === undefined || column === undefined) return NaN
  const good = result.samples.filter((sample) => sample.failed === undefined)
  return median(good.map((sample) => column.of(sample) ?? NaN))
}

/** A table per link and case: medians over the rounds, and in brackets the ratio to the best other transport over UDP that is not ours. */
export function printTables(results: readonly Result[]): void {
  const titles = new Set(results.map(titleOf))
  for (const title of titles) {
    const group = results.filter((result) => titleOf(result) === title)
    const shown = columns[group[0]?.case ?? ''] ?? []
    const rows = [['', ...shown.map((column) => column.title)]]
    for (const result of group) {
      const cells = shown.map((column) => {
        const own = figure(result, column.title)
        const others = group
          .filter((other) => other !== result && !isOurs(other.peer) && tcpOf(other.peer) === undefined)
          .map((other) => figure(other, column.title))
          .filter((value) => !Number.isNaN(value))
        const best = column.best === 'high' ? Math.max(...others) : Math.min(...others)
        return others.length === 0 ? round(own) : `${round(own)} (${round(own / best)}×)`
      })
      const failures = result.samples.filter((sample) => sample.failed !== undefined).length
      const name =
        failures === 0 ? result.name : `${result.name}, ${failures} of ${result.samples.length} failed`
      rows.push([name, ...cells])
    }
    console.log(`\n${title}`)
    const widths = rows[0]?.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0))) ?? []
    for (const row of rows) {
      const line = row.map((cell, at) =>
        at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0),
      )
      console.log(`  ${line.join('   ')}`)
    }
  }
}

function titleOf(result: Result): string {
  return `${result.link}: ${result.case}`
}

function round(value: number): string {
  if (!Number.isFinite(value)) return '–'
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
