import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runScenario, scenarios, simulate, SimRng, SimulationError } from '../../../src/sim/index.ts'

test('a failing run says its seed, and that seed alone fails the same way again', () => {
  const seen: number[] = []
  const body = (world: { seed: number; rng(name: string): SimRng }): void => {
    seen.push(world.seed)
    if (world.rng('x').float() > 0.8) throw new Error('unlucky')
  }
  const failure = ((): SimulationError => {
    try {
      simulate(body, { seeds: 100 })
    } catch (error) {
      assert.ok(error instanceof SimulationError)
      return error
    }
    throw new Error('no run failed')
  })()
  assert.equal(failure.seed, seen.at(-1))
  assert.match(
    failure.message,
    new RegExp(`^seed ${failure.seed}: unlucky .*NATWORK_SEED=${failure.seed}\\)$`),
  )
  assert.throws(() => simulate(body, { seeds: [failure.seed] }), { seed: failure.seed })

  seen.length = 0
  process.env['NATWORK_SEED'] = String(failure.seed)
  try {
    assert.throws(() => simulate(body), { seed: failure.seed })
    assert.deepEqual(seen, [failure.seed])
    process.env['NATWORK_SEED'] = 'seven'
    assert.throws(() => simulate(body), { code: 'ERR_NATWORK_SIM_SEED' })
  } finally {
    delete process.env['NATWORK_SEED']
  }
})

test('the generator is uniform, and its streams are independent of each other', () => {
  const rng = new SimRng(1)
  const buckets = new Array<number>(16).fill(0)
  for (let i = 0; i < 160_000; i++) buckets[rng.between(0, 15)]!++
  const chi2 = buckets.reduce((sum, n) => sum + (n - 10_000) ** 2 / 10_000, 0)
  assert.ok(chi2 < 40, `χ² ${chi2} with 15 degrees of freedom`)
  const before = new SimRng(1).split('a').uint32()
  assert.equal(rng.split('a').uint32(), before, 'drawing does not move a split')
  assert.notEqual(rng.split('b').uint32(), before)
  const agreeing = Array.from({ length: 1000 }, (_, i) => new SimRng(i)).filter(
    (one) => one.split('a').uint32() >>> 31 === one.split('b').uint32() >>> 31,
  ).length
  assert.ok(agreeing > 430 && agreeing < 570, `${agreeing} of 1000 first bits agree`)
  const filled = new Uint8Array(7)
  new SimRng(3).fill(filled)
  assert.ok(new Set(filled).size > 3)
})

test('a punch exchange of two sites stays cheap: events, not seconds', () => {
  const scenario = scenarios.find((one) => one.name === 'eim-eim')!
  const { world, result } = runScenario(scenario, { seed: 1 })
  assert.ok(result.passed)
  assert.ok(world.events <= 60, `${world.events} events`)
})
