// What the documentation shows runs.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

const root = new URL('../../../', import.meta.url).pathname
const run = (file: string): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, ['--import', 'tsx', file], { cwd: root, encoding: 'utf8' })

for (const [example, expected] of [
  ['sim-ping', /^ten answers/],
  ['sim-machine', /every 5 s: the pushes arrive\n.*every 15 s: nothing arrives/],
] as const) {
  test(`examples/${example}.ts runs`, () => {
    const { status, stdout, stderr } = run(join(root, 'examples', `${example}.ts`))
    assert.equal(status, 0, stderr)
    assert.match(stdout, expected)
  })
}

test('the ten lines of docs/sim.md run', () => {
  const page = readFileSync(join(root, 'docs/sim.md'), 'utf8')
  const code = /```ts\n(import { simulate }[\s\S]*?)```/.exec(page)?.[1]
  assert.ok(code)
  const folder = mkdtempSync(join(tmpdir(), 'natwork-docs-'))
  try {
    const file = join(folder, 'ten-lines.mts')
    writeFileSync(file, code.replace('natwork/sim', join(root, 'src/sim/index.ts')))
    const { status, stderr } = run(file)
    assert.equal(status, 0, stderr)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
