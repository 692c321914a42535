import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { renderPage } from '../../../src/lab/matrix/report/page.ts'
import { longTime, shortTime } from '../../../src/lab/matrix/report/words.ts'
import { writeReport } from '../../../src/lab/matrix/report/write.ts'
import { parseResults, type Results, type RunRecord } from '../../../src/lab/matrix/results.ts'
import { groupOf, groups, summarize, timesOf, type StackSummary } from '../../../src/lab/matrix/summary.ts'
import { kindNames } from '../../../src/sim/kinds.ts'
import { header, runOf } from './fixtures.ts'

const small: Results = {
  header,
  runs: [
    runOf('symmetric', 'none', 1, 'failed', { reason: 'no answer' }),
    runOf('none', 'none', 1, 'direct'),
    runOf('none', 'none', 3, 'direct'),
    runOf('none', 'none', 2, 'direct'),
    runOf('none', 'symmetric', 1, 'direct'),
    runOf('none', 'symmetric', 2, 'relayed', { claimed: 'direct' }),
  ],
}

test('a summary counts cells and runs, sorts runs, and knows what was not run', () => {
  const { kinds, cells, totals } = summarize(small)
  assert.deepEqual(kinds, ['none', 'symmetric'])
  assert.deepEqual(
    cells.map(({ a, b, state }) => `${a} ${b} ${state}`),
    ['none none direct', 'none symmetric mixed', 'symmetric none failed', 'symmetric symmetric missing'],
  )
  assert.deepEqual(cells[0]?.times, { median: 200, p95: 300 })
  assert.deepEqual(
    cells[0].runs.map(({ run }) => run),
    [1, 2, 3],
  )
  assert.equal(cells[2]?.times, undefined)
  assert.equal(totals.cells, 3)
  assert.deepEqual([totals.direct, totals.mixed, totals.relayed, totals.failed], [1, 1, 0, 1])
  assert.deepEqual(totals.runs, { direct: 4, relayed: 1, failed: 1 })
})

test('median and p95 are values that occurred (nearest rank)', () => {
  assert.equal(timesOf([undefined]), undefined)
  assert.deepEqual(timesOf([5]), { median: 5, p95: 5 })
  assert.deepEqual(timesOf([4, 1, 3, 2]), { median: 2, p95: 4 })
  assert.deepEqual(timesOf(Array.from({ length: 100 }, (_, i) => i + 1)), { median: 50, p95: 95 })
})

test('every kind has a group, and the groups follow each other in the rows', () => {
  const all = summarize({ header, runs: kindNames.map((kind) => runOf(kind, 'none', 1, 'direct')) })
  const order = all.kinds.map((kind) => groups.findIndex(({ name }) => name === groupOf(kind)))
  assert.deepEqual(order, [...order].sort())
  assert.deepEqual(new Set(order).size, groups.length)
  assert.equal(groupOf('cgn-symmetric'), 'hard')
  assert.equal(groupOf('tls-only'), 'blocked')
})

test('times are short in cells', () => {
  assert.equal(shortTime(143.4), '143')
  assert.equal(shortTime(999.4), '999')
  assert.equal(shortTime(999.6), '1.0s')
  assert.equal(shortTime(9_960), '10s')
  assert.equal(longTime(1_234), '1.2 s')
})

test('the page says it all without a script, and needs nothing from outside', () => {
  const page = pageOf([summarize({ ...small, header: { ...header, abilities: ['punch'] } })])
  assert.match(page, /<h1>fake: <strong>1<\/strong> of 3 cells direct<\/h1>/)
  assert.match(page, /aria-label="none → none: direct 3\/3, median 200 ms, p95 300 ms"/)
  assert.match(
    page,
    /aria-label="none → symmetric: direct 1\/2, relayed 1\/2, median 100 ms, p95 200 ms \(theory allows/,
  )
  assert.match(page, /1<\/b> The program’s word and the counters differ/)
  assert.match(page, /<dt>Node\.js<\/dt>\s*<dd>v20<\/dd>/)
  assert.doesNotMatch(page, /(src|href)="?(https?:)?\/\//)
  assert.doesNotMatch(page, /@import|url\(/)
})

test('several stacks: all in the headline, compared by class of pair, and what the other one has', () => {
  const other = {
    header: { ...header, stack: 'other' },
    runs: [runOf('symmetric', 'none', 1, 'direct'), runOf('none', 'none', 1, 'direct')],
  }
  const page = pageOf([summarize(small), summarize(other)])
  assert.match(page, /fake <strong>1<\/strong> of 3, other <strong>2<\/strong> of 2/)
  assert.match(page, /<b>1<\/b> other is direct in every run, fake is not/)
  assert.match(page, /role="tab"\s+id="tab-1"/)
  assert.match(page, /<th scope="row">Open × anything<\/th>/)
  assert.match(page, /over the 2 pairs that every stack ran/)
  // none × symmetric was run by one of them only: 3 direct runs and 1 failed are left of the first.
  assert.match(page, /aria-label="3 direct, 1 failed"/)
  assert.match(page, /aria-label="2 direct"/)
})

test('whatever a program prints stays text', () => {
  const evil = `</script><img src=x onerror=alert(1)>"'&<!--`
  const run = runOf('none', 'none', 1, 'failed', {
    reason: evil,
    local: evil,
    remote: evil,
    details: { evil },
    logs: { a: evil, [evil]: evil },
    conntrack: { [evil]: evil },
    captures: { [evil]: evil },
  })
  const results: Results = {
    header: { ...header, stack: evil, description: evil, stackVersion: evil, environment: { [evil]: evil } },
    runs: [run],
  }
  const page = pageOf([summarize(results), summarize(small)])
  assert.doesNotMatch(page, /<img/)
  // Every element that was opened as a script is one of ours.
  const scripts = [...page.matchAll(/<script([^>]*)>/g)].map(([, attributes]) => attributes ?? '')
  assert.equal(scripts.length, 1 + 1 + 3 + 1)
  for (const attributes of scripts) {
    assert.match(attributes, /^( type="(application\/json|text\/plain)" id="[a-z0-9-]+")?$/)
  }
  assert.equal(page.match(/<\/script>/g)?.length, scripts.length)
  assert.equal(page.match(/<!--/g), null)
  assert.equal(detail(page, 'cell-0-0').runs[0]?.logs['a'], evil)
  // The page's own script may put text into the document as text only.
  assert.doesNotMatch(
    page.slice(page.lastIndexOf('<script>')),
    /innerHTML|outerHTML|insertAdjacent|document\.write|eval\(/,
  )
})

test('captures and logs are embedded while there is room, interesting cells first', () => {
  // Hexadecimal digits of hashes: nothing to compress but the alphabet.
  const digest = (i: number): string => createHash('sha512').update(String(i)).digest('hex')
  const log = { a: Array.from({ length: 40 }, (_, i) => digest(i)).join('') }
  const withLog = (run: RunRecord): RunRecord => ({ ...run, logs: log, captures: { a: 'captures/x.pcap' } })
  const results = {
    header,
    runs: [
      withLog(runOf('none', 'none', 1, 'direct')),
      withLog(runOf('none', 'symmetric', 1, 'direct', { claimed: 'relayed' })),
    ],
  }
  const bytes = new Uint8Array([1, 2, 3])
  const options = { generated: header.started, stacks: [summarize(results)], readCapture: () => bytes }
  const roomy = renderPage(options)
  assert.deepEqual(detail(roomy, 'cell-0-0').runs[0]?.logs, log)
  assert.deepEqual(detail(roomy, 'cell-0-0').runs[0]?.captures, { a: { data: 'AQID' } })
  const tight = renderPage({ ...options, detailBytes: 4_000 })
  assert.deepEqual(detail(tight, 'cell-0-1').runs[0]?.logs, log)
  assert.deepEqual(detail(tight, 'cell-0-0').runs[0]?.logs, {})
  assert.deepEqual(detail(tight, 'cell-0-0').runs[0]?.captures, { a: { file: 'captures/x.pcap' } })
})

test('a report is about every stack below a folder', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'natwork-report-'))
  try {
    await assert.rejects(writeReport(folder), {
      code: 'ERR_NATWORK_LAB_RESULTS',
      message: /holds no results/,
    })
    for (const stack of ['one', 'two']) {
      await mkdir(join(folder, stack))
      const lines = [{ ...header, stack }, ...small.runs, 'cut off'].map((line) => JSON.stringify(line))
      await writeFile(join(folder, stack, 'results.jsonl'), lines.join('\n'))
    }
    const { html, json, stacks } = await writeReport(folder)
    assert.equal(stacks.length, 2)
    assert.match(await readFile(html, 'utf8'), /^<!doctype html>/)
    const data = JSON.parse(await readFile(json, 'utf8')) as { stacks: { cells: { runs: object[] }[] }[] }
    assert.equal(data.stacks[0]?.cells.length, 3)
    assert.equal('logs' in (data.stacks[0].cells[0]?.runs[0] ?? {}), false)
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('results that are none are refused', () => {
  assert.equal(parseResults(''), undefined)
  assert.equal(parseResults('{"type":"matrix"}'), undefined)
  assert.equal(parseResults(`${JSON.stringify(header)}\n{"type":"run"}\nnull\n`)?.runs.length, 0)
})

function pageOf(stacks: readonly StackSummary[]): string {
  return renderPage({ stacks, generated: header.started, readCapture: () => undefined })
}

function detail(page: string, id: string): { runs: { logs: Record<string, string>; captures: object }[] } {
  const packed = new RegExp(`id="${id}">([^<]*)<`).exec(page)?.[1] ?? ''
  return JSON.parse(gunzipSync(Buffer.from(packed, 'base64')).toString()) as ReturnType<typeof detail>
}
