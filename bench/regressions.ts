import { figure, type Result } from './report.ts'

/**
 * The marks of the short form: ratios to udx-native in the same run, never absolute figures, with room for a noisy
 * machine. The full run shows where we really are.
 */
const marks = [
  { peer: 'natwork', case: 'bulk', title: 'MB/s', atLeast: 1.5 },
  { peer: 'natwork', case: 'bulk', title: 'CPU s/GB', atMost: 0.7 },
  { peer: 'natwork', case: 'roundtrips', title: 'round trips/s', atLeast: 0.4 },
  // Encrypted and over TCP at both ends, beside udx in the clear: it fails when a pipe leaves garbage again.
  { peer: 'natwork-pipe', case: 'bulk', title: 'CPU s/GB', atMost: 1 },
  { peer: 'natwork-dgram', case: 'bulk', title: 'MB/s', atLeast: 0.5 },
  { peer: 'natwork-dgram', case: 'bulk', title: 'CPU s/GB', atMost: 2.5 },
  { peer: 'natwork-dgram', case: 'roundtrips', title: 'round trips/s', atLeast: 0.25 },
] as const

/** In bulk both sides together keep more than one core busy. Where they get less, something else has the machine. */
const LEAST_CORES = 1

/** Prints one line per mark; true when all hold, or when the machine is too busy to tell. */
export function checkRegressions(results: readonly Result[]): boolean {
  const starved = results.find((one) => one.case === 'bulk' && coresOf(one) < LEAST_CORES)
  if (starved !== undefined) {
    const cores = coresOf(starved).toFixed(2)
    console.error(`no verdict: something else keeps this machine busy; ${starved.name} got ${cores} cores`)
    return true
  }
  let good = true
  for (const link of new Set(results.map((result) => result.link))) {
    for (const mark of marks) {
      const of = (peer: string): number =>
        figure(
          results.find((one) => one.link === link && one.case === mark.case && one.peer === peer),
          mark.title,
        )
      const ratio = of(mark.peer) / of('udx-native')
      const holds = 'atLeast' in mark ? ratio >= mark.atLeast : ratio <= mark.atMost
      const wanted = 'atLeast' in mark ? `≥ ${mark.atLeast}` : `≤ ${mark.atMost}`
      const verdict = holds ? 'ok' : 'REGRESSION'
      console.error(
        `${verdict}: ${link}, ${mark.peer}, ${mark.title}: ${ratio.toFixed(2)} × udx-native (mark ${wanted})`,
      )
      good &&= holds
    }
  }
  return good
}

function coresOf(result: Result): number {
  return (figure(result, 'CPU s/GB') * figure(result, 'MB/s')) / 1_000
}
