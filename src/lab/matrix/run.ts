import { LabSystemError } from '../errors.ts'
import {
  PAYLOAD,
  type Adapter,
  type DoneEvent,
  type Json,
  type PathKind,
  type ProgramEnvironment,
  type ProgramEvent,
  type Role,
} from './contract.ts'
import { cutMiddle, type RunRecord } from './results.ts'
import { Program } from './program.ts'
import type { Stage } from './stage.ts'
import { decideVerdict, trafficSince, type Traffic } from './verdict.ts'

export interface RunOptions {
  /** Milliseconds that A has, and the helper and B each for getting ready. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

type RunOutcome = Omit<RunRecord, 'type' | 'a' | 'b' | 'run' | 'at' | 'captures'>

/**
 * The helper, B and A of one pair: {@link play} plays one run after the other, and {@link end} sends them home.
 * Between two runs all three have ended; or, where the adapter says that its programs can play again, A and B have let
 * go of all they had and wait, and the helper goes on helping.
 */
export class Players {
  readonly #stage: Stage
  readonly #adapter: Adapter
  readonly #options: RunOptions
  #programs: Partial<Record<Role, Program>> = {}
  #helperInfo: Json = null

  constructor(stage: Stage, adapter: Adapter, options: RunOptions) {
    this.#stage = stage
    this.#adapter = adapter
    this.#options = options
  }

  /**
   * One run: the helper until it is ready, B until it is ready, A until it is done.
   *
   * @throws {LabSystemError} `ERR_NATWORK_LAB_ADAPTER` when the helper, which no router is in the way of, does not get
   * ready: the adapter is broken, and no run would tell anything.
   */
  async play(): Promise<RunOutcome> {
    const started = performance.now()
    if (!this.#programs.helper) await this.#startHelper()
    const outcome = await this.#playPeers()
    const programs = Object.entries(this.#programs)
    if (!(this.#adapter.again === true && outcome.end.event === 'done' && (await this.#rest())))
      await this.end()
    const logs = Object.fromEntries(programs.map(([role, program]) => [role, cutMiddle(program.takeLog())]))
    return { ...describe(outcome), logs, wallMs: Math.round(performance.now() - started) }
  }

  async end(): Promise<void> {
    const programs = Object.values(this.#programs)
    this.#programs = {}
    await Promise.all(programs.map((program) => program.end()))
  }

  async #startHelper(): Promise<void> {
    const helper = this.#start('helper')
    const ready = await helper.until(isFinal, this.#options)
    if (ready.event !== 'ready') throw brokenHelper(this.#adapter, ready, helper.takeLog())
    this.#helperInfo = ready.info ?? null
  }

  async #playPeers(): Promise<PeersOutcome> {
    const paths = new Map<PathKind, number>()
    const before = await this.#stage.traffic()
    const conclude = async (end: PeersOutcome['end']): Promise<PeersOutcome> => ({
      end,
      paths,
      traffic: trafficSince(before, await this.#stage.traffic()),
      conntrack: mapValues(await this.#stage.conntrack(), (table) => cutMiddle(table)),
    })
    const ready = await this.#begin('b').until(isFinal, this.#options)
    if (ready.event !== 'ready') return conclude({ event: 'failed', reason: `B: ${reasonOf(ready)}` })
    const end = await this.#begin('a', ready.info ?? null).until((event) => {
      if (event.event === 'path' && !paths.has(event.path)) paths.set(event.path, event.ms)
      return event.event === 'done' || event.event === 'failed'
    }, this.#options)
    const final = end.event === 'done' || end.event === 'failed'
    return conclude(final ? end : { event: 'failed', reason: 'no answer' })
  }

  /** A or B, for the first time or again. */
  #begin(role: 'a' | 'b', peerInfo: Json = null): Program {
    const waiting = this.#programs[role]
    if (!waiting) return this.#start(role, peerInfo)
    waiting.tell({ do: 'play', peerInfo })
    return waiting
  }

  #start(role: Role, peerInfo: Json = null): Program {
    const env: ProgramEnvironment = {
      NATWORK_ROLE: role,
      NATWORK_HELPER: this.#stage.helperAddresses.join(','),
      NATWORK_PORT: String(AGENT_PORT),
      NATWORK_PAYLOAD: String(PAYLOAD),
      NATWORK_TIMEOUT: String(this.#options.timeoutMs),
      ...(role !== 'helper' && { NATWORK_HELPER_INFO: JSON.stringify(this.#helperInfo) }),
      ...(role === 'a' && { NATWORK_PEER_INFO: JSON.stringify(peerInfo) }),
    }
    const process_ = this.#stage.exec(role, this.#adapter.commands[role], { ...process.env, ...env })
    return (this.#programs[role] = new Program(process_))
  }

  /** @returns false when one of them cannot: then none of them is to be used again. */
  async #rest(): Promise<boolean> {
    const answers = await Promise.all(
      (['a', 'b'] as const).map(async (role) => {
        const program = this.#programs[role]
        program?.tell({ do: 'rest' })
        return program?.until(({ event }) => event === 'resting' || event === 'failed', this.#options)
      }),
    )
    return answers.every((answer) => answer?.event === 'resting')
  }
}

interface PeersOutcome {
  readonly end: Extract<ProgramEvent, { event: 'done' | 'failed' | 'ready' | 'resting' }>
  /** When data first flowed by each path, as far as A told. */
  readonly paths: ReadonlyMap<PathKind, number>
  readonly traffic: Traffic
  readonly conntrack: Readonly<Record<string, string>>
}

/** AGENT_PORT of the lab's static rules. */
const AGENT_PORT = 1315

function isFinal({ event }: ProgramEvent): boolean {
  return event !== 'path' && event !== 'resting'
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
      : { firstByteMs: done.ms, pathMs: pathTime(verdict, paths, done.ms) }),
    ...(claimed !== undefined && { claimed }),
    ...(local !== undefined && { local }),
    ...(remote !== undefined && { remote }),
    ...(details !== undefined && { details }),
  }
}

/** A program may know its path before data has come by it. */
function pathTime(verdict: PathKind, paths: ReadonlyMap<PathKind, number>, firstByte: number): number {
  return Math.max(paths.get(verdict) ?? 0, firstByte)
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
