import { isDeepStrictEqual } from 'node:util'
import { runScenario } from '../../sim/run-scenario.ts'
import type { Scenario, ScenarioResult } from '../../sim/scenario.ts'
import { runScenariosInLab } from './run.ts'

/** One scenario in both worlds. */
export interface ScenarioComparison {
  readonly scenario: string
  readonly sim: ScenarioResult
  readonly lab: ScenarioResult
  /** Every step came to the same in both: where not, the simulator is wrong until shown otherwise. */
  readonly agree: boolean
}

export interface ScenarioOptions {
  /** Aborting closes the lab. */
  readonly signal?: AbortSignal
  /** Called for each scenario as soon as it is over. */
  readonly onComparison?: (comparison: ScenarioComparison) => void
}

/**
 * Runs scenarios in virtual time and in namespaces, and compares step by step.
 *
 * @throws {LabSystemError} where no lab can be made.
 */
export async function compareScenarios(
  scenarios: readonly Scenario[],
  options: ScenarioOptions = {},
): Promise<ScenarioComparison[]> {
  const simulated = new Map(scenarios.map((one) => [one.name, runScenario(one).result]))
  const comparisons: ScenarioComparison[] = []
  await runScenariosInLab(scenarios, {
    ...(options.signal && { signal: options.signal }),
    onResult: (lab) => {
      const sim = simulated.get(lab.scenario)
      if (!sim) return
      const agree = isDeepStrictEqual(sim.failures, lab.failures)
      const comparison: ScenarioComparison = { scenario: lab.scenario, sim, lab, agree }
      comparisons.push(comparison)
      options.onComparison?.(comparison)
    },
  })
  const order = scenarios.map(({ name }) => name)
  return comparisons.sort((one, other) => order.indexOf(one.scenario) - order.indexOf(other.scenario))
}
