import { join } from 'node:path'
import type { Command } from 'commander'
import { UsageError } from '../core/errors.ts'
import {
  builtInStacks,
  choosePairs,
  describeEnvironment,
  loadAdapter,
  runMatrix,
  SITE_PATH,
  writeReport,
  type Adapter,
  type Links,
  type Progress,
  type RunRecord,
  type WrittenReport,
} from '../lab/index.ts'

interface Flags {
  readonly stack?: readonly string[]
  readonly kinds?: string
  readonly pairs?: string
  readonly runs: string
  readonly timeout: string
  readonly parallel: string
  readonly delay?: string
  readonly loss?: string
  readonly captures?: true
  readonly out: string
}

/** What the command needs of the command line around it. */
export interface MatrixShell {
  /** Progress goes here when it is a terminal. */
  readonly stderr: Pick<NodeJS.WriteStream, 'isTTY' | 'columns' | 'write'>
  /** One result: the value for programs, the text for people. */
  readonly output: { result(value: object, human: () => string): void }
  /** Ctrl-C: what has been measured stays, labs and programs end. */
  readonly signal: AbortSignal
}

/** `natwork lab matrix`: any program behind every pair of routers, and one page about it. */
export function registerLabMatrix(lab: Command, shell: MatrixShell): Command {
  return lab
    .command('matrix')
    .description('run a program behind every pair of routers and write one HTML page and JSON about it')
    .option(
      '--stack <names...>',
      `what to run: ${Object.keys(builtInStacks).join(', ')}, or adapter files (*.json)`,
    )
    .option('--kinds <names>', 'only these kinds of router, separated by commas')
    .option('--pairs <pairs>', 'only (or also) these pairs: symmetric+full-cone,none+dmz')
    .option('--runs <n>', 'runs of each pair', '3')
    .option('--timeout <seconds>', 'what each program has to get ready or done', '20')
    .option('--parallel <n>', 'labs at a time; with more than one the times are worth less', '1')
    .option('--delay <ms>', 'one way between a site and the core: a round trip passes four', '10')
    .option('--loss <percent>', 'of the packets on every way to and from the core', '0')
    .option('--captures', 'keep pcap files of runs that fail or whose program is wrong about its path')
    .option('--out <folder>', 'where results and report go; what is there is continued', 'natwork-matrix')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: Flags) => {
      const { output, signal, stderr } = shell
      const pairs = choosePairs(flags)
      const limits = {
        runs: integer('--runs', flags.runs, 1_000),
        timeoutMs: integer('--timeout', flags.timeout, 3_600) * 1_000,
        parallel: integer('--parallel', flags.parallel, 8),
      }
      const links = readLinks(flags)
      // All of them before the first run: a mistake in the last one should not cost an hour.
      const adapters = await Promise.all((flags.stack ?? []).map((name) => loadAdapter(name)))
      for (const adapter of adapters) {
        const progress = showRuns(stderr, adapter)
        try {
          await runMatrix({
            adapter,
            pairs,
            ...limits,
            links,
            folder: join(flags.out, adapter.name),
            captures: flags.captures ?? false,
            environment: describeEnvironment(limits.parallel, links),
            signal,
            onRun: progress.onRun,
          })
        } finally {
          progress.end()
        }
      }
      const report = await writeReport(flags.out)
      output.result(resultOf(report), () => describeReport(report))
    })
}

const EXAMPLES = `
Without --stack only the report is written again. An interrupted matrix goes on when the same command is run again.

Examples:
  natwork lab matrix --stack reference                     every pair of kinds, 3 runs each
  natwork lab matrix --stack hyperdht --kinds none,full-cone,port-restricted,symmetric
  natwork lab matrix --stack ./mine.json --pairs symmetric+full-cone --captures
  natwork lab matrix --stack natwork --pairs full-cone+port-restricted --loss 10 --delay 50`

/** What is the lab's own stays unsaid. */
function readLinks({ delay, loss }: Flags): Links {
  const lost = loss === undefined ? 0 : number('--loss', loss, 90)
  const late = delay === undefined ? SITE_PATH.delay : number('--delay', delay, 10_000)
  return { ...(late !== SITE_PATH.delay && { delay: late }), ...(lost > 0 && { loss: lost / 100 }) }
}

function number(flag: string, text: string, max: number): number {
  const value = /^\d{1,5}(\.\d{1,3})?$/.test(text) ? Number(text) : NaN
  if (value <= max) return value
  throw new UsageError('ERR_NATWORK_ARGUMENT', `${flag}: "${text}" must be a number of 0–${max}`)
}

function integer(flag: string, text: string, max: number): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (value >= 1 && value <= max) return value
  throw new UsageError('ERR_NATWORK_ARGUMENT', `${flag}: "${text}" must be a number of 1–${max}`)
}

/** One line on a terminal, rewritten with each run; nothing at all on anything else. */
function showRuns(stream: MatrixShell['stderr'], adapter: Adapter) {
  if (!stream.isTTY) return { onRun: () => undefined, end: () => undefined }
  const started = performance.now()
  const counts = { direct: 0, relayed: 0, failed: 0 }
  let fresh = 0
  return {
    onRun: (run: RunRecord, { done, total }: Progress): void => {
      fresh++
      counts[run.verdict]++
      const left = ((performance.now() - started) / fresh) * (total - done)
      const text = [
        `${adapter.name} ${done}/${total}`,
        `${counts.direct} direct, ${counts.relayed} relayed, ${counts.failed} failed`,
        `${Math.ceil(left / 60_000)} min left`,
        `${run.a} → ${run.b}`,
      ].join(' · ')
      stream.write(`\r\u001b[K${text.slice(0, stream.columns - 1)}`)
    },
    end: (): void => {
      stream.write('\r\u001b[K')
    },
  }
}

function resultOf({ html, json, stacks }: WrittenReport): object {
  return {
    html,
    json,
    stacks: stacks.map(({ results, totals }) => ({ stack: results.header.stack, ...totals })),
  }
}

function describeReport({ html, json, stacks }: WrittenReport): string {
  const lines = stacks.map(({ results, totals }) => {
    const rest = [`${totals.mixed} mixed`, `${totals.relayed} relayed`, `${totals.failed} failed`].join(', ')
    const time = totals.directTimes ? `; median until direct ${Math.round(totals.directTimes.median)} ms` : ''
    return `${results.header.stack}: ${totals.direct} of ${totals.cells} cells direct (${rest})${time}`
  })
  return [...lines, html, json].join('\n')
}
