// 35 s. Nodes behind real nft routers meet through helpers, and a transfer goes on whatever breaks on the way. With
// NATWORK_TEST_FULL=1 every failure has a lab and 1 GiB of its own, as fast as it goes, and the marks count too (15 min).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  chooseFailures,
  failureScenarios,
  playFailure,
  slowSteps,
  type FailureScenario,
} from '../../src/lab/index.ts'
import { labUnavailable } from './available.ts'

const MiB = 1_048_576
const full = process.env['NATWORK_TEST_FULL'] === '1'
const skip = await labUnavailable()

/** One after the other in one transfer: the same failures with less to set up. */
function together(name: string, ...names: readonly string[]): FailureScenario {
  const [first, ...others] = names.map((one) => chooseFailures([one])[0]!)
  assert.ok(others.every(({ path }) => path === first!.path))
  return { ...first!, name, steps: [first!, ...others].flatMap(({ steps }) => steps) }
}

const short = [
  together(
    'port-restricted',
    'caller-reboots',
    'callee-reboots',
    'direct-blocked',
    'caller-moves',
    'blackout',
    'helpers-killed',
  ),
  ...chooseFailures(['caller-port-lost', 'relay-killed']),
]

for (const scenario of full ? failureScenarios : short) {
  const events = scenario.steps.map(({ event }) => event.do).join(', ')
  test(`${scenario.name}: ${events} in the middle of a transfer`, { skip }, async (t) => {
    const result = await playFailure(
      scenario,
      full ? { bytes: 1_024 * MiB } : { bytes: 4 * MiB, rate: 4 * MiB },
    )
    const { bytes, ms, steps, noise, failure } = result
    t.diagnostic(`${(bytes / MiB).toFixed(0)} MiB in ${(ms / 1_000).toFixed(1)} s, noise ${noise} ms`)
    for (const { event, before, after, took, stall, allowed } of steps) {
      t.diagnostic(
        `${event} (${took} ms): ${before} to ${after}, nothing for ${stall} ms (${allowed} allowed)`,
      )
    }
    assert.equal(failure, undefined)
    assert.equal(steps.length, scenario.steps.length)
    if (full) assert.deepEqual(slowSteps(result), [])
  })
}
