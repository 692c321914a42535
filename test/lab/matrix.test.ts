// 25 s on two free cores. A real small matrix: the reference punch behind three kinds of router, every ordered pair,
// against the oracle.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { choosePairs, loadAdapter, runMatrix, writeReport } from '../../src/lab/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()

test('the reference punch is direct in exactly the pairs where theory says so', { skip }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'natwork-matrix-'))
  try {
    const { runs } = await runMatrix({
      adapter: await loadAdapter('reference'),
      pairs: choosePairs({ kinds: 'dmz,port-restricted,symmetric' }),
      runs: 1,
      timeoutMs: 60_000,
      parallel: 2,
      folder: join(folder, 'reference'),
      captures: false,
      environment: {},
    })
    assert.equal(runs.length, 9)
    for (const run of runs) {
      assert.deepEqual(Object.keys(run.conntrack).sort(), ['a-home', 'b-home'])
      if (run.verdict === 'failed') continue
      // 20 ms to the helper and back, and 40 ms between the sites: nothing real is faster.
      assert.ok((run.firstByteMs ?? 0) >= 60, `${run.a} → ${run.b} after ${run.firstByteMs} ms`)
      assert.ok(run.traffic.helperIn < 10_000)
    }
    const { stacks, html } = await writeReport(folder)
    const cells = stacks[0]?.cells.map(({ a, b, state, expectation }) => ({ a, b, state, expectation }))
    assert.equal(cells?.length, 9)
    for (const { a, b, state, expectation } of cells) {
      assert.equal(state === 'direct', expectation?.possible, `${a} → ${b}: ${state}; ${expectation?.reason}`)
    }
    assert.match(await readFile(html, 'utf8'), /reference: <strong>6<\/strong> of 9 cells direct/)
  } finally {
    await rm(folder, { recursive: true })
  }
})
