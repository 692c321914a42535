import { setMaxListeners } from 'node:events'
import { mkdir, open, readFile, rm, truncate, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { KindName } from '../../sim/kinds.ts'
import { LabSystemError, LabUsageError } from '../errors.ts'
import { PAYLOAD, type Adapter, type Role } from './contract.ts'
import { parseResults, type MatrixHeader, type Results, type RunRecord } from './results.ts'
import { Players } from './run.ts'
import { labStage, type Links, type Stage } from './stage.ts'

/** One ordered pair: A is behind the first kind and calls B, behind the second. */
export type Pair = readonly [a: KindName, b: KindName]

export interface MatrixOptions {
  readonly adapter: Adapter
  readonly pairs: readonly Pair[]
  /** Runs per pair, 1–1,000. */
  readonly runs: number
  /** Milliseconds each program of a run has. */
  readonly timeoutMs: number
  /** Labs at a time, 1–8. Times are honest only while the processors are not busy: 1 for figures, more for a look. */
  readonly parallel: number
  /** Folder of `results.jsonl` and of the captures; made if need be. What is there already is continued. */
  readonly folder: string
  /** Keep a pcap file of each host for runs that failed or whose program claims another path than was measured. */
  readonly captures: boolean
  /** For the report: a line each. */
  readonly environment: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  readonly onRun?: (run: RunRecord, progress: Progress) => void
  /** Default: the lab's own. */
  readonly links?: Links
  /** Where the runs are played; default: a lab per pair. */
  readonly createStage?: (a: KindName, b: KindName, links?: Links) => Promise<Stage>
}

export interface Progress {
  readonly done: number
  readonly total: number
}

/**
 * Runs every pair and appends each run to `results.jsonl` as it ends; what the file already holds is not run again.
 * Each pair gets a lab of its own; between its runs every router forgets everything and the peers
 * start afresh.
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_RESULTS` when the folder holds another matrix.
 * @throws {LabSystemError} `ERR_NATWORK_LAB_ADAPTER` when the adapter's helper does not get ready; once some have, only
 * when it fails twice in the same pair.
 */
export async function runMatrix(options: MatrixOptions): Promise<Results> {
  const { pairs, runs, parallel } = options
  await mkdir(options.folder, { recursive: true })
  const log = await ResultsLog.open(join(options.folder, RESULTS_FILE), headerOf(options))
  // An error in one lab ends the others; SIGINT arrives here too.
  const stop = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal
  setMaxListeners(0, signal) // Each program of each lab listens.
  const progress = { done: 0, total: pairs.length * runs }
  const queue: { pair: Pair; missing: number[]; again?: boolean }[] = []
  for (const pair of pairs) {
    const missing = range(runs).filter((run) => !log.has(pair, run))
    progress.done += runs - missing.length
    if (missing.length > 0) queue.push({ pair, missing })
  }
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      signal.throwIfAborted()
      const { pair } = next
      try {
        for await (const run of playPair(pair, next.missing, options, signal)) {
          await log.append(run)
          progress.done++
          options.onRun?.(run, { ...progress })
        }
      } catch (error) {
        // An adapter whose helper has been ready before is not broken: the machine was too busy. That pair comes again.
        const isBusy = error instanceof LabSystemError && error.code === 'ERR_NATWORK_LAB_ADAPTER'
        if (!isBusy || log.results.runs.length === 0 || next.again === true) throw error
        queue.push({ pair, missing: next.missing.filter((run) => !log.has(pair, run)), again: true })
      }
    }
  }
  try {
    const workers = range(parallel).map(() =>
      work().catch((error: unknown) => {
        stop.abort(error)
        throw error
      }),
    )
    const failed = (await Promise.allSettled(workers)).find((result) => result.status === 'rejected')
    // Whatever an abort broke on its way, its reason is what the caller wants to know.
    if (failed) throw signal.aborted ? signal.reason : failed.reason
  } finally {
    await log.close()
  }
  return log.results
}

/** The file in a folder of results. */
export const RESULTS_FILE = 'results.jsonl'

async function* playPair(
  [a, b]: Pair,
  missing: readonly number[],
  options: MatrixOptions,
  signal: AbortSignal,
): AsyncGenerator<RunRecord> {
  const { adapter, timeoutMs } = options
  const stage = await (options.createStage ?? labStage)(a, b, options.links)
  const players = new Players(stage, adapter, { timeoutMs, signal })
  try {
    for (const [index, run] of missing.entries()) {
      if (index > 0) await stage.reset()
      const at = new Date().toISOString()
      const captures = options.captures ? await startCaptures(stage, options.folder, [a, b], run) : undefined
      const outcome = await players.play().catch(async (error: unknown) => {
        await captures?.finish(false)
        throw error
      })
      const strange = outcome.verdict === 'failed' || (outcome.claimed ?? outcome.verdict) !== outcome.verdict
      yield {
        type: 'run',
        a,
        b,
        run,
        at,
        ...outcome,
        captures: (await captures?.finish(strange)) ?? {},
      }
    }
  } finally {
    await players.end()
    await stage[Symbol.asyncDispose]()
  }
}

async function startCaptures(stage: Stage, folder: string, pair: Pair, run: number) {
  await mkdir(join(folder, 'captures'), { recursive: true })
  const roles: readonly Role[] = ['a', 'b', 'helper']
  const started = await Promise.all(
    roles.map(async (role) => {
      const file = join('captures', `${pair.join('+')}-${run}-${role}.pcap`)
      return { role, file, capture: await stage.capture(role, join(folder, file)) }
    }),
  )
  return {
    /** @returns the files by role, or nothing when they are not kept. */
    async finish(keep: boolean): Promise<Record<string, string>> {
      await Promise.all(started.map(({ capture }) => capture.stop()))
      if (keep) return Object.fromEntries(started.map(({ role, file }) => [role, file]))
      await Promise.all(started.map(({ file }) => rm(join(folder, file), { force: true })))
      return {}
    },
  }
}

/** The results file while it grows. */
class ResultsLog {
  readonly #file: FileHandle
  readonly #header: MatrixHeader
  readonly #runs: RunRecord[]
  readonly #seen: Set<string>
  #written: Promise<void> = Promise.resolve()

  static async open(path: string, header: MatrixHeader): Promise<ResultsLog> {
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
      throw unusable(path, error)
    })
    const old = parseResults(text)
    // An interrupted write leaves half a line: it is cut off, that run is played again.
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    if (whole !== '' && !(old && sameMatrix(old.header, header))) {
      throw new LabUsageError(
        'ERR_NATWORK_LAB_RESULTS',
        `${path} holds another matrix (${old ? difference(old.header, header) : 'not readable'}): choose another folder or delete it`,
      )
    }
    if (whole !== text) await truncate(path, Buffer.byteLength(whole))
    const file = await open(path, 'a').catch((error: unknown) => {
      throw unusable(path, error)
    })
    if (whole !== '' && old) {
      return new ResultsLog(file, old.header, old.runs)
    }
    await file.appendFile(`${JSON.stringify(header)}\n`)
    return new ResultsLog(file, header, [])
  }

  constructor(file: FileHandle, header: MatrixHeader, runs: readonly RunRecord[]) {
    this.#file = file
    this.#header = header
    this.#runs = [...runs]
    this.#seen = new Set(runs.map(({ a, b, run }) => key([a, b], run)))
  }

  get results(): Results {
    return { header: this.#header, runs: this.#runs }
  }

  has(pair: Pair, run: number): boolean {
    return this.#seen.has(key(pair, run))
  }

  /** One line after the other, whoever calls. */
  append(run: RunRecord): Promise<void> {
    this.#runs.push(run)
    return (this.#written = this.#written.then(() => this.#file.appendFile(`${JSON.stringify(run)}\n`)))
  }

  async close(): Promise<void> {
    await this.#written.catch(() => undefined) // append has said so
    await this.#file.close()
  }
}

function key(pair: Pair, run: number): string {
  return `${pair.join(' ')} ${run}`
}

function headerOf(options: MatrixOptions): MatrixHeader {
  const { adapter, timeoutMs, environment, links } = options
  return {
    type: 'matrix',
    format: 1,
    stack: adapter.name,
    description: adapter.description,
    stackVersion: adapter.version,
    started: new Date().toISOString(),
    payload: PAYLOAD,
    timeoutMs,
    ...links,
    environment: { ...environment },
    ...(adapter.abilities && { abilities: [...adapter.abilities] }),
  }
}

function sameMatrix(old: MatrixHeader, header: MatrixHeader): boolean {
  return difference(old, header) === ''
}

/** What makes runs incomparable. More runs or other pairs do not. */
function difference(old: MatrixHeader, header: MatrixHeader): string {
  return (['stack', 'stackVersion', 'payload', 'timeoutMs', 'delay', 'loss'] as const)
    .filter((field) => old[field] !== header[field])
    .map((field) => `${field} ${old[field] ?? 'as the lab has it'}`)
    .join(', ')
}

function unusable(path: string, cause: unknown): LabSystemError {
  const message = cause instanceof Error ? cause.message : String(cause)
  return new LabSystemError('ERR_NATWORK_LAB_RESULTS', `cannot use ${path}: ${message}`, { cause })
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}
