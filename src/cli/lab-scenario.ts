import type { Command } from 'commander'
import { checkScenarios, compareScenarios, pairScenarios, type ScenarioComparison } from '../lab/index.ts'
import type { ScenarioResult } from '../sim/scenario.ts'
import type { MatrixShell } from './lab-matrix.ts'

/** `natwork lab scenario`: the stories of natwork/sim, in virtual time and behind real routers. */
export function registerLabScenario(
  lab: Command,
  { output, signal }: Pick<MatrixShell, 'output' | 'signal'>,
): Command {
  return lab
    .command('scenario')
    .argument('[names...]', 'default: every scenario')
    .option('--pairs', 'both dial, for every ordered pair of kinds of router, as the oracle says (5 minutes)')
    .description('play hole punching scenarios in the simulator and behind real routers, and compare')
    .action(async (names: string[], flags: { pairs?: true }) => {
      const named = flags.pairs && names.length === 0 ? [] : checkScenarios(names)
      const comparisons = await compareScenarios([...named, ...(flags.pairs ? pairScenarios() : [])], {
        signal,
        onComparison: (one) => output.result(one, () => describe(one)),
      })
      const right = comparisons.filter(isRight).length
      const total = comparisons.length
      output.result({ total, right }, () => `${right} of ${total} scenarios went as written, in both`)
      if (right < total) process.exitCode = 1
    })
}

function isRight({ agree, sim, lab }: ScenarioComparison): boolean {
  return agree && sim.passed && lab.passed
}

function describe(comparison: ScenarioComparison): string {
  const { scenario, sim, lab } = comparison
  const word = isRight(comparison) ? 'ok   ' : 'WRONG'
  return [
    `${word} ${scenario.padEnd(28)}sim ${outcome(sim)}, lab ${outcome(lab)}`,
    ...sim.failures.map((failure) => `      sim: ${failure}`),
    ...lab.failures.map((failure) => `      lab: ${failure}`),
  ].join('\n')
}

function outcome({ connectedAfter }: ScenarioResult): string {
  return connectedAfter === undefined ? 'not connected' : `connected after ${Math.round(connectedAfter)} ms`
}
