import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Command } from 'commander'
import { registerLabMatrix } from '../../../src/cli/lab-matrix.ts'
import { header, runOf } from './fixtures.ts'

test('mistakes are found before anything runs', async () => {
  const usage = { code: 'ERR_NATWORK_ARGUMENT' }
  await assert.rejects(matrix('--runs', '0'), { ...usage, message: '--runs: "0" must be a number of 1–1000' })
  await assert.rejects(matrix('--loss', '91'), { ...usage, message: '--loss: "91" must be a number of 0–90' })
  await assert.rejects(matrix('--delay', '5s'), {
    ...usage,
    message: '--delay: "5s" must be a number of 0–10000',
  })
  await assert.rejects(matrix('--timeout', '1e3'), usage)
  await assert.rejects(matrix('--parallel', '9'), usage)
  await assert.rejects(matrix('--kinds', 'cone'), { code: 'ERR_NATWORK_LAB_UNKNOWN_KIND' })
  await assert.rejects(matrix('--stack', 'reference', 'nothing'), { code: 'ERR_NATWORK_LAB_ADAPTER' })
})

test('without a stack the report is written again', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'natwork-command-'))
  try {
    await assert.rejects(matrix('--out', folder), {
      message: `${folder} holds no results: run a stack first`,
    })
    await mkdir(join(folder, 'fake'))
    const lines = [header, runOf('none', 'none', 1, 'direct'), runOf('none', 'symmetric', 1, 'failed')]
    await writeFile(
      join(folder, 'fake/results.jsonl'),
      lines.map((line) => `${JSON.stringify(line)}\n`).join(''),
    )
    const { value, text } = await matrix('--out', folder)
    assert.equal(
      text,
      `fake: 1 of 2 cells direct (0 mixed, 0 relayed, 1 failed); median until direct 100 ms
${join(folder, 'report.html')}
${join(folder, 'report.json')}`,
    )
    assert.equal((value as { html: string }).html, join(folder, 'report.html'))
  } finally {
    await rm(folder, { recursive: true })
  }
})

async function matrix(...args: string[]): Promise<{ value: object; text: string }> {
  let result = { value: {}, text: '' }
  const shell = {
    stderr: { isTTY: false, columns: 80, write: () => assert.fail('progress goes to terminals only') },
    output: {
      result: (value: object, human: () => string) => {
        result = { value, text: human() }
      },
    },
    signal: new AbortController().signal,
  }
  const lab = new Command('lab')
  registerLabMatrix(lab, shell)
  await lab.parseAsync(['matrix', ...args], { from: 'user' })
  return result
}
