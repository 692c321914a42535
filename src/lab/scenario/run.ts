import { setMaxListeners } from 'node:events'
import { systemRng } from '../../core/ports.ts'
import { kinds } from '../../sim/kinds.ts'
import { PunchHelper } from '../../sim/reference/helper.ts'
import type { Scenario, ScenarioResult } from '../../sim/scenario.ts'
import { Lab } from '../lab.ts'
import { Observer } from '../observer.ts'
import { Driven } from './driven.ts'
import { placesFor, type Places } from './places.ts'
import { HELPER, HELPER_PORT, Stage } from './stage.ts'

export interface RunScenariosOptions {
  readonly signal?: AbortSignal
  /** Called for each scenario as soon as it is over. */
  readonly onResult?: (result: ScenarioResult) => void
}

/**
 * Runs scenarios (natwork/sim) in a lab: the reference punch on real sockets behind real routers. Many at a time, each
 * behind routers of its own, in one lab with one helper; it takes as long as the longest of them.
 *
 * @throws {LabSystemError} where no lab can be made.
 */
export async function runScenariosInLab(
  scenarios: readonly Scenario[],
  { signal, onResult }: RunScenariosOptions = {},
): Promise<ScenarioResult[]> {
  const results: ScenarioResult[] = []
  // One listener on the caller's signal, whatever the number of labs and scenarios.
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  const onAbort = (): void => stop.abort(signal?.reason)
  signal?.throwIfAborted()
  signal?.addEventListener('abort', onAbort)
  try {
    for (const batch of batches(scenarios)) results.push(...(await runBatch(batch, stop.signal, onResult)))
    return results
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

async function runBatch(
  batch: readonly Scenario[],
  signal: AbortSignal,
  onResult: RunScenariosOptions['onResult'],
): Promise<ScenarioResult[]> {
  const places = batch.map((scenario, i) => placesFor(scenario, i))
  const sites = Object.fromEntries(places.flatMap((place) => Object.entries(place.sites)))
  await using lab = await Lab.create({ hosts: { [HELPER]: {} }, sites }, { signal })
  const observer = new Observer(lab)
  const helper = await startHelper(lab, observer)
  try {
    return await Promise.all(
      batch.map(async (scenario, i) => {
        const result = await play(scenario, new Stage(lab, observer, places[i] as Places, signal))
        onResult?.(result)
        return result
      }),
    )
  } finally {
    helper.close()
  }
}

async function startHelper(lab: Lab, observer: Observer): Promise<Driven> {
  const addresses = [lab.address(HELPER, 4), lab.address(HELPER, 6)]
  const sockets = await Promise.all(addresses.map((at) => observer.udp(HELPER, at, HELPER_PORT)))
  return new Driven<never>(new PunchHelper(systemRng), sockets)
}

async function play({ name, steps }: Scenario, stage: Stage): Promise<ScenarioResult> {
  const failures: string[] = []
  try {
    for (const [i, step] of steps.entries()) {
      const failure = await stage.play(step)
      if (failure !== undefined) failures.push(`step ${i + 1} (${step.do}): ${failure}`)
    }
  } finally {
    stage.close()
  }
  return { scenario: name, passed: failures.length === 0, failures, connectedAfter: stage.connectedAfter }
}

/** What one lab holds: it has room for so many sites with public addresses (plan.ts), and set-up has its price. */
const MAX_PUBLIC_SITES = 28
const MAX_SCENARIOS = 32

function batches(scenarios: readonly Scenario[]): Scenario[][] {
  const all: Scenario[][] = []
  let room = 0
  for (const scenario of scenarios) {
    const isPublic = [scenario.kinds.a, scenario.kinds.b].filter((kind) =>
      kinds[kind].routers.every(({ translation }) => translation === 'none'),
    )
    const last = all.at(-1)
    if (last && last.length < MAX_SCENARIOS && room >= isPublic.length) last.push(scenario)
    else {
      all.push([scenario])
      room = MAX_PUBLIC_SITES
    }
    room -= isPublic.length
  }
  return all
}
