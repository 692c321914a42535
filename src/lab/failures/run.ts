import { setTimeout as sleep } from 'node:timers/promises'
import { formatAddress } from '../../core/address.ts'
import { Lab } from '../lab.ts'
import { NodeProgram, type Said } from './program.ts'
import type { FailureEvent, FailureScenario, FailureStep, PathKind, Side } from './scenarios.ts'

export interface FailureOptions {
  /** What is sent at least; more when what breaks takes longer. */
  readonly bytes: number
  /** Bytes per second; 0, the default: as fast as it goes. */
  readonly rate?: number
  /** Aborting closes the lab. */
  readonly signal?: AbortSignal
}

/** What one run of a scenario came to. */
export interface FailureResult {
  readonly scenario: string
  /** The hash is right, and every step ended as it must. */
  readonly passed: boolean
  /** What went wrong; undefined when nothing did. */
  readonly failure: string | undefined
  readonly steps: readonly StepResult[]
  /** The longest that nothing arrived before the first step, milliseconds: what this machine does by itself. */
  readonly noise: number
  readonly bytes: number
  /** Of the whole transfer, milliseconds. */
  readonly ms: number
  /** Every way that the data went, in order. */
  readonly history: readonly PathKind[]
}

export interface StepResult {
  readonly event: FailureEvent['do']
  readonly before: PathKind | undefined
  readonly after: PathKind | undefined
  /** Milliseconds that the event itself took. */
  readonly took: number
  /** For how many milliseconds nothing arrived once the event was over. */
  readonly stall: number
  /** What it may be, noise aside. */
  readonly allowed: number
}

/** Steps that took longer than they may, even if all the noise of the machine came on top. */
export function slowSteps({ steps, noise }: FailureResult): readonly StepResult[] {
  return steps.filter(({ stall, allowed }) => stall > allowed + noise)
}

/** The port of every node. */
const PORT = 1315
/** Milliseconds for a step's outcome, and for a program to be there. */
const PATIENCE = 60_000
/** Of the transfer, what passes before the first step. */
const LEAD = 0.25
/** Bytes, and seconds of a given rate, that are more than can have been under way. */
const PROOF_LEAST = 1_048_576
const PROOF_SECONDS = 0.5
const PROOF_UNPACED = 8_388_608

/**
 * Plays a failure in the middle of a transfer between two nodes in a lab of its own. What breaks is triggered by what has
 * arrived, never by time, and the transfer lasts until everything is over.
 *
 * @throws {LabSystemError} where no lab can be made.
 */
export async function playFailure(
  scenario: FailureScenario,
  options: FailureOptions,
): Promise<FailureResult> {
  const { signal } = options
  const topology = { hosts: { helper: { addresses: 2 } }, sites: scenario.sites }
  await using lab = await Lab.create(topology, signal && { signal })
  const steps: StepResult[] = []
  let stage: Stage | undefined
  let failure: string | undefined
  let noise = 0
  try {
    stage = await openStage(lab, options)
    await stage.source.until(
      () => inUse(stage?.source)?.path === scenario.path || undefined,
      'the path',
      PATIENCE,
    )
    await stage.moves(LEAD * options.bytes)
    noise = stage.longestGap
    for (const step of scenario.steps) steps.push(await stage.play(step))
    stage.source.order('finish')
    const { same } = await stage.source.until(
      () => stage?.source.last('done'),
      'the end of the transfer',
      PATIENCE + options.bytes / 1_000, // 1 MB/s is slow
    )
    if (!same) failure = 'what arrived is not what was sent'
  } catch (error) {
    signal?.throwIfAborted()
    failure = (error as Error).message
  }
  const done = stage?.source.last('done')
  return {
    scenario: scenario.name,
    passed: failure === undefined,
    failure,
    steps,
    noise,
    bytes: done?.bytes ?? 0,
    ms: done?.ms ?? 0,
    history: done?.history ?? [],
  }
}

async function openStage(lab: Lab, { bytes, rate = 0 }: FailureOptions): Promise<Stage> {
  const hosts = lab.hosts.find(({ name }) => name === 'helper')?.addresses ?? []
  const addresses = hosts.filter((address) => !address.includes(':'))
  const helpers = addresses.map(
    (host) => new NodeProgram(lab, 'helper', { role: 'helper', host, port: PORT, helpers: [] }),
  )
  const ids = await Promise.all(helpers.map(ready))
  const node = {
    host: '0.0.0.0',
    port: PORT,
    helpers: ids.map((id, i) => `${id}@${formatAddress({ address: addresses[i] ?? '', port: PORT })}`),
  }
  const sink = new NodeProgram(lab, 'b1', { role: 'sink', ...node })
  const peer = await ready(sink)
  const source = new NodeProgram(lab, 'a1', { role: 'source', ...node, peer, bytes, rate })
  const proof = rate === 0 ? PROOF_UNPACED : Math.max(PROOF_LEAST, rate * PROOF_SECONDS)
  return new Stage(lab, { helpers, addresses, sink, source }, proof)
}

function ready(program: NodeProgram): Promise<string> {
  return program.until(() => program.last('ready')?.id, 'a node to start', PATIENCE)
}

/** The path that data takes now, as the sender says. */
function inUse(source: NodeProgram | undefined): (Said & { says: 'path' }) | undefined {
  const last = source?.last('path')
  return last?.state === 'connected' ? last : undefined
}

interface Programs {
  readonly helpers: readonly NodeProgram[]
  /** The helpers', in their order. */
  readonly addresses: readonly string[]
  readonly sink: NodeProgram
  readonly source: NodeProgram
}

class Stage {
  readonly source: NodeProgram
  readonly #lab: Lab
  readonly #programs: Programs
  /** Bytes that prove that data flows again. */
  readonly #proof: number
  #unblock: () => Promise<void> = () => Promise.resolve()

  constructor(lab: Lab, programs: Programs, proof: number) {
    this.#lab = lab
    this.#programs = programs
    this.source = programs.source
    this.#proof = proof
  }

  /** Milliseconds, so far. */
  get longestGap(): number {
    const gaps = this.#programs.sink.heard.filter((one) => one.says === 'gap')
    return Math.round(Math.max(0, ...gaps.map(({ from, to }) => to - from)))
  }

  /** So many bytes more arrive. */
  async moves(bytes: number): Promise<void> {
    const { sink } = this.#programs
    const before = sink.last('received')?.bytes ?? 0
    const enough = (): true | undefined => (sink.last('received')?.bytes ?? 0) >= before + bytes || undefined
    await sink.until(enough, 'data', PATIENCE)
  }

  async play({ event, path, stall }: FailureStep): Promise<StepResult> {
    const { source, sink } = this.#programs
    const before = inUse(source)?.path
    const begun = now()
    await this.#happen(event)
    const over = now()
    await this.moves(this.#proof)
    await source.until(() => inUse(source)?.path === path || undefined, `the ${path} path`, PATIENCE)
    await this.moves(this.#proof)
    // From the last byte before the event to the first one after; what lasts as long as the event is the event's own.
    const gaps = sink.heard.filter((one) => one.says === 'gap').filter(({ to }) => to > begun)
    const stalls = gaps.map(({ from, to }) => to - Math.max(from, event.do === 'block' ? begun : over))
    return {
      event: event.do,
      before,
      after: inUse(source)?.path,
      took: Math.round(over - begun),
      stall: Math.round(Math.max(0, ...stalls)),
      allowed: stall,
    }
  }

  async #happen(event: FailureEvent): Promise<void> {
    const lab = this.#lab
    const { helpers, addresses, source } = this.#programs
    switch (event.do) {
      case 'reboot':
        return lab.flush(router(event.site))
      case 'renumber':
        return lab.rebind(router(event.site), another(lab.address(router(event.site))))
      case 'move':
        await lab.rebind(client(event.site), another(lab.address(client(event.site))))
        return lab.rebind(router(event.site), another(lab.address(router(event.site))))
      case 'kill-relay': {
        const { local, remote } = inUse(source) ?? {}
        const inPath = addresses.findIndex((address) => address === local || address === remote)
        if (inPath === -1) throw new Error(`no helper relays between ${local} and ${remote}`)
        helpers[inPath]?.kill()
        return
      }
      case 'kill-helpers':
        for (const helper of helpers) helper.kill()
        return
      case 'blackout': {
        const lift = await lab.block(router('a'))
        await sleep(event.ms)
        return lift()
      }
      case 'block':
        this.#unblock = await lab.block(router('a'), { peer: lab.address(router('b')), protocol: 'udp' })
        return
      case 'unblock':
        return this.#unblock()
      case 'pause':
        source.order('pause')
        await sleep(event.ms)
        source.order('resume')
    }
  }
}

const router = (site: Side): string => `${site}-home`
const client = (site: Side): string => `${site}1`
const now = (): number => performance.timeOrigin + performance.now()

/** An address beside it that nobody has. */
function another(address: string): string {
  return address.replace(/\d+$/, (last) => String((Number(last) + 100) % 250))
}
