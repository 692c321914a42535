import { kindNames } from '../../sim/kinds.ts'
import { directPathPossible, SIMPLE_PUNCH } from '../../sim/oracle.ts'
import { pairScenario, type Scenario } from '../../sim/scenario.ts'
import { scenarios } from '../../sim/scenarios/classic.ts'
import { LabUsageError } from '../errors.ts'

/**
 * The scenarios of these names, in their own order; all of them for no name.
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_UNKNOWN_SCENARIO`
 */
export function checkScenarios(names: readonly string[]): readonly Scenario[] {
  const unknown = names.find((name) => !scenarios.some((one) => one.name === name))
  if (unknown !== undefined) {
    throw new LabUsageError(
      'ERR_NATWORK_LAB_UNKNOWN_SCENARIO',
      `there is no scenario "${unknown}"; there are: ${scenarios.map(({ name }) => name).join(', ')}`,
    )
  }
  return names.length === 0 ? scenarios : scenarios.filter(({ name }) => names.includes(name))
}

/** Both dial, for every ordered pair of kinds, with the oracle's word for what comes of it. */
export function pairScenarios(): Scenario[] {
  // Diagonal by diagonal: the few kinds with public addresses, which a lab has not many of, are spread out.
  return kindNames.flatMap((_, shift) =>
    kindNames.map((a, i) => {
      const b = kindNames[(i + shift) % kindNames.length] ?? a
      return pairScenario(a, b, directPathPossible(a, b, SIMPLE_PUNCH).possible, SIMPLE_PUNCH)
    }),
  )
}
