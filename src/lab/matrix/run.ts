import { createInterface } from 'node:readline'
import { LabSystemError } from '../errors.ts'
import {
  PAYLOAD,
  parseEvent,
  type Adapter,
  type DoneEvent,
  type PathKind,
  type ProgramEnvironment,
  type ProgramEvent,
  type Role,
} from './contract.ts'
import { cutMiddle, type RunRecord } from './results.ts'
import type { Stage, StageProcess } from './stage.ts'
import { decideVerdict, trafficSince, type Traffic, type Verdict } from './verdict.ts'

export interface RunOptions {
  /** Milliseconds that A has, and the helper and B each for getting ready. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

type RunOutcome = Omit<RunRecord, 'type' | 'a' | 'b' | 'run' | 'at' | 'captures'>

/**
 * Plays one run: the helper until it is ready, B until it is ready, A until it is done, then everything is ended.
 *
 * @throws {LabSystemError} `ERR_NATWORK_LAB_ADAPTER` when the helper, which no router is in the way of, does not get
 * ready: the adapter is broken, and no run would tell anything.
 */
export async function playRun(stage: Stage, adapter: Adapter, options: RunOptions): Promise<RunOutcome> {
  const started = performance.now()
  const programs: Partial<Record<Role, Program>> = {}
  const environment = {
    NATWORK_HELPER: stage.helperAddresses.join(','),
    NATWORK_PORT: String(AGENT_PORT),
    NATWORK_PAYLOAD: String(PAYLOAD),
    NATWORK_TIMEOUT: String(options.timeoutMs),
  }
  const start = (
    role: Role,
    infos: Pick<ProgramEnvironment, 'NATWORK_HELPER_INFO' | 'NATWORK_PEER_INFO'>,
  ) => {
    const env: ProgramEnvironment = { NATWORK_ROLE: role, ...environment, ...infos }
    return (programs[role] = new Program(
      stage.exec(role, adapter.commands[role], { ...process.env, ...env }),
    ))
  }
  let outcome: PeersOutcome
  try {
    const helper = start('helper', {})
    const ready = await helper.until(isFinal, options)
    if (ready.event !== 'ready') throw brokenHelper(adapter, ready, helper.log)
    const helperInfo = { NATWORK_HELPER_INFO: JSON.stringify(ready.info ?? null) }
    outcome = await playPeers(stage, start, helperInfo, options)
  } finally {
    await Promise.all(Object.values(programs).map((program) => program.end()))
  }
  const logs = Object.fromEntries(
    Object.entries(programs).map(([role, program]) => [role, cutMiddle(program.log)]),
  )
  return { ...describe(outcome), logs, wallMs: Math.round(performance.now() - started) }
}

interface PeersOutcome {
  readonly end: Exclude<ProgramEvent, { event: 'path' }>
  /** When data first flowed by each path, as far as A told. */
  readonly paths: ReadonlyMap<PathKind, number>
  readonly traffic: Traffic
  readonly conntrack: Readonly<Record<string, string>>
}

async function playPeers(
  stage: Stage,
  start: (role: Role, infos: { NATWORK_HELPER_INFO: string; NATWORK_PEER_INFO?: string }) => Program,
  helperInfo: { NATWORK_HELPER_INFO: string },
  options: RunOptions,
): Promise<PeersOutcome> {
  const paths = new Map<PathKind, number>()
  const before = await stage.traffic()
  const conclude = async (end: PeersOutcome['end']): Promise<PeersOutcome> => ({
    end,
    paths,
    traffic: trafficSince(before, await stage.traffic()),
    conntrack: mapValues(await stage.conntrack(), (table) => cutMiddle(table)),
  })
  const b = start('b', helperInfo)
  const ready = await b.until(isFinal, options)
  if (ready.event !== 'ready') return conclude({ event: 'failed', reason: `B: ${reasonOf(ready)}` })
  const a = start('a', { ...helperInfo, NATWORK_PEER_INFO: JSON.stringify(ready.info ?? null) })
  const end = await a.until((event) => {
    if (event.event === 'path' && !paths.has(event.path)) paths.set(event.path, event.ms)
    return event.event === 'done' || event.event === 'failed'
  }, options)
  return conclude(end.event === 'path' ? { event: 'failed', reason: 'no answer' } : end)
}

/** One of the three, its output split into events and log. */
class Program {
  readonly #process: StageProcess
  readonly #events: ProgramEvent[] = []
  #log = ''
  #exit: string | undefined
  #notify: () => void = () => undefined
  readonly #closed: Promise<void>

  constructor(process: StageProcess) {
    this.#process = process
    const addLine = (line: string): void => {
      if (this.#log.length < MAX_RAW_LOG) this.#log += `${line}\n`
    }
    createInterface({ input: process.stderr }).on('line', addLine)
    createInterface({ input: process.stdout }).on('line', (line) => {
      addLine(line)
      const event = parseEvent(line)
      if (event && this.#events.length < MAX_EVENTS) this.#events.push(event)
      this.#notify()
    })
    process.stdin.on('error', () => undefined) // a program may end without having read it
    this.#closed = new Promise((resolve) => {
      const gone = (text: string): void => {
        this.#exit ??= text
        this.#notify()
        resolve()
      }
      process.on('error', (error: Error) => gone(`did not start: ${error.message}`))
      process.on('close', (code: number | null, signal: string | null) =>
        gone(`ended with ${signal ?? `exit code ${code ?? 'unknown'}`} without an answer`),
      )
    })
  }

  get log(): string {
    return this.#log
  }

  /** The next event that `matches`; its own end and the time-out make a failure. */
  async until(
    matches: (event: ProgramEvent) => boolean,
    { timeoutMs, signal }: RunOptions,
  ): Promise<ProgramEvent> {
    const clock = { late: false }
    const timer = setTimeout(() => {
      clock.late = true
      this.#notify()
    }, timeoutMs)
    const onAbort = (): void => this.#notify()
    signal.addEventListener('abort', onAbort)
    try {
      for (;;) {
        signal.throwIfAborted()
        for (let event = this.#events.shift(); event; event = this.#events.shift()) {
          if (matches(event)) return event
        }
        if (this.#exit !== undefined) return { event: 'failed', reason: this.#exit }
        if (clock.late) return { event: 'failed', reason: `no answer within ${timeoutMs / 1_000} s` }
        await new Promise<void>((resolve) => (this.#notify = resolve))
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Politely first: its standard input ends and it gets a SIGTERM. */
  async end(): Promise<void> {
    this.#process.stdin.end()
    if (this.#exit === undefined) this.#process.kill('SIGTERM')
    const force = setTimeout(() => this.#process.kill('SIGKILL'), GRACE_MS)
    await this.#closed
    clearTimeout(force)
  }
}

/** AGENT_PORT of the lab's static rules. */
const AGENT_PORT = 1315
/** What is kept of a program's output while it runs; a program that floods is no reason to run out of memory. */
const MAX_RAW_LOG = 1 << 20
const MAX_EVENTS = 1_000
const GRACE_MS = 1_000

function isFinal({ event }: ProgramEvent): boolean {
  return event !== 'path'
}

function describe({ end, paths, traffic, conntrack }: PeersOutcome): Omit<RunOutcome, 'logs' | 'wallMs'> {
  const done: DoneEvent | undefined = end.event === 'done' ? end : undefined
  const verdict = decideVerdict(done, traffic, PAYLOAD)
  const measured = { verdict, traffic, conntrack }
  if (!done) return { ...measured, reason: reasonOf(end) }
  const { path: claimed, local, remote, details } = done
  return {
    ...measured,
    ...(verdict === 'failed'
      ? { reason: 'A says it is done, but the payload did not cross the wires of A and B' }
      : { firstByteMs: done.ms, pathMs: pathTime(verdict, paths) ?? done.ms }),
    ...(claimed !== undefined && { claimed }),
    ...(local !== undefined && { local }),
    ...(remote !== undefined && { remote }),
    ...(details !== undefined && { details }),
  }
}

function pathTime(verdict: Verdict, paths: ReadonlyMap<PathKind, number>): number | undefined {
  return verdict === 'failed' ? undefined : paths.get(verdict)
}

function reasonOf(event: ProgramEvent): string {
  return event.event === 'failed' ? event.reason : `unexpected "${event.event}"`
}

function brokenHelper(adapter: Adapter, event: ProgramEvent, log: string): LabSystemError {
  const lines = log.trim().split('\n').slice(-3).join(' / ')
  return new LabSystemError(
    'ERR_NATWORK_LAB_ADAPTER',
    `the helper of "${adapter.name}" is not ready: ${reasonOf(event)}${lines === '' ? '' : `: ${lines}`}`,
  )
}

function mapValues(
  record: Readonly<Record<string, string>>,
  map: (value: string) => string,
): Record<string, string> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]))
}
