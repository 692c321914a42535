// 30 s, nearly all of it waiting. The same scenarios in virtual time and behind real routers come to the same.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkScenarios, compareScenarios } from '../../src/lab/index.ts'
import { directPathPossible, pairScenario, scenarios, SIMPLE_PUNCH } from '../../src/sim/index.ts'
import type { KindName, Scenario } from '../../src/sim/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()

/**
 * Every row of the oracle that simple punching meets, beyond what the classic cases hold. No literal router here: with
 * one, both must begin within the one-way delay of 20 ms, which a busy machine does not promise.
 */
const PAIRS: readonly (readonly [KindName, KindName])[] = [
  ['none', 'symmetric-random'],
  ['symmetric-random', 'full-cone'],
  ['port-forward', 'symmetric-sequential'],
  ['symmetric-address', 'address-restricted'],
  ['symmetric-sequential', 'port-restricted'],
  ['symmetric-block', 'symmetric-address'],
  ['symmetric-preserving', 'port-restricted'],
  ['cgn-cone', 'upnp'],
  ['cgn-symmetric', 'cgn-cone'],
  ['hairpin', 'hairpin'],
  ['no-hairpin', 'no-hairpin'],
  ['client-isolation', 'client-isolation'],
  ['same-cgn', 'same-cgn'],
  ['firewall', 'short-lifetime'],
  ['firewall6', 'nat64'],
  ['nat64', 'port-restricted'],
  ['nat64', 'symmetric'],
  ['firewall6', 'none'],
  ['udp-blocked', 'dmz'],
  ['none', 'tls-only'],
]

test('sim and lab play every scenario alike, and as it is written', { skip }, async () => {
  const pairs = PAIRS.map(([a, b]): Scenario => {
    return pairScenario(a, b, directPathPossible(a, b, SIMPLE_PUNCH).possible, SIMPLE_PUNCH)
  })
  const comparisons = await compareScenarios([...scenarios, ...pairs])
  assert.deepEqual(
    comparisons.map(({ scenario }) => scenario),
    [...scenarios, ...pairs].map(({ name }) => name),
  )
  for (const { scenario, sim, lab } of comparisons) {
    assert.deepEqual(sim.failures, [], `${scenario}, simulated`)
    assert.deepEqual(lab.failures, sim.failures, `${scenario}, in the lab`)
    // 20 ms each way between the sites: nothing real is faster, and only a shared wire is shorter.
    if (
      lab.connectedAfter !== undefined &&
      !PAIRS.some(([a, b]) => a === b && scenario.endsWith(`${a}-${b}`))
    )
      assert.ok(lab.connectedAfter >= 20, `${scenario} after ${lab.connectedAfter} ms`)
  }
})

test('a scenario that is not as written fails in both, with the same words', { skip }, async () => {
  const wrong = pairScenario('symmetric', 'port-restricted', true, SIMPLE_PUNCH)
  const [comparison] = await compareScenarios([wrong])
  assert.equal(comparison?.agree, true)
  assert.equal(comparison.lab.passed, false)
  assert.deepEqual(comparison.lab.failures, ['step 3 (expect): no direct path'])
  assert.deepEqual(comparison.sim.failures, comparison.lab.failures)
})

test('aborting ends the scenarios that still run', { skip }, async () => {
  const abort = new AbortController()
  const reason = new Error('enough')
  const over: string[] = []
  const running = compareScenarios(checkScenarios(['eim-eim', 'mapping-expires']), {
    signal: abort.signal,
    onComparison: ({ scenario }) => {
      over.push(scenario)
      abort.abort(reason)
    },
  })
  await assert.rejects(running, reason)
  assert.deepEqual(over, ['eim-eim'])
})

test('an unknown scenario is named, with those there are', () => {
  assert.throws(() => checkScenarios(['eim']), {
    code: 'ERR_NATWORK_LAB_UNKNOWN_SCENARIO',
    message: /"eim"; there are: dmz-dmz, /,
  })
  assert.deepEqual(checkScenarios([]), scenarios)
})
