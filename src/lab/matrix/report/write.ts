import { readFileSync } from 'node:fs'
import { readFile, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LabSystemError, LabUsageError } from '../../errors.ts'
import { ownVersion } from '../stacks.ts'
import { parseResults } from '../results.ts'
import { RESULTS_FILE } from '../runner.ts'
import { summarize, type StackSummary } from '../summary.ts'
import { renderPage } from './page.ts'

export interface WrittenReport {
  readonly html: string
  readonly json: string
  readonly stacks: readonly StackSummary[]
}

/**
 * Writes `report.html` and `report.json` about every stack that has results below `folder` (one folder each).
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_RESULTS` when there are none.
 */
export async function writeReport(folder: string): Promise<WrittenReport> {
  const found = await readStacks(folder)
  if (found.length === 0) {
    throw new LabUsageError('ERR_NATWORK_LAB_RESULTS', `${folder} holds no results: run a stack first`)
  }
  const generated = new Date().toISOString()
  const stacks = found.map(({ summary }) => summary)
  const files = new Map(found.map(({ summary, folder: of }) => [summary, of]))
  const page = renderPage({
    stacks,
    generated,
    readCapture: (summary, file) => readCapture(join(files.get(summary) ?? folder, file)),
  })
  const html = join(folder, 'report.html')
  const json = join(folder, 'report.json')
  await replaceFile(html, page)
  await replaceFile(json, `${JSON.stringify(reportJson(stacks, generated), undefined, 1)}\n`)
  return { html, json, stacks }
}

async function readStacks(folder: string): Promise<{ folder: string; summary: StackSummary }[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
    throw new LabSystemError('ERR_NATWORK_LAB_RESULTS', `cannot read ${folder}`, { cause })
  })
  const stacks: { folder: string; summary: StackSummary }[] = []
  for (const entry of entries.filter((each) => each.isDirectory())) {
    const of = join(folder, entry.name)
    const text = await readFile(join(of, RESULTS_FILE), 'utf8').catch(() => undefined)
    const results = text === undefined ? undefined : parseResults(text)
    if (results && results.runs.length > 0) stacks.push({ folder: of, summary: summarize(results) })
  }
  // The stack that connects most directly first; the order of files is no order.
  return stacks.sort((x, y) => y.summary.totals.direct - x.summary.totals.direct)
}

/** The same numbers for programs; logs, tables and captures stay in the results. */
function reportJson(stacks: readonly StackSummary[], generated: string): object {
  return {
    natwork: ownVersion(),
    generated,
    stacks: stacks.map(({ results, kinds, totals, cells }) => ({
      ...results.header,
      kinds,
      totals,
      cells: cells
        .filter(({ state }) => state !== 'missing')
        .map(({ runs, ...cell }) => ({
          ...cell,
          runs: runs.map(({ type: _type, a: _a, b: _b, logs: _logs, conntrack: _conntrack, ...run }) => run),
        })),
    })),
  }
}

function readCapture(file: string): Uint8Array | undefined {
  try {
    return readFileSync(file)
  } catch {
    return undefined // moved away since: the page names the file
  }
}

/** Whole or not at all: a reader may look meanwhile. */
async function replaceFile(path: string, text: string): Promise<void> {
  try {
    await writeFile(`${path}.part`, text)
    await rename(`${path}.part`, path)
  } catch (cause) {
    throw new LabSystemError('ERR_NATWORK_LAB_RESULTS', `cannot write ${path}`, { cause })
  }
}
