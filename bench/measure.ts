import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { CaseName } from './case.ts'
import { BUSY_CONNECTIONS } from './cases/crowd.ts'
import { CONNECTIONS } from './cases/many.ts'
import type { OpenLink, Side } from './link.ts'
import type { PeerName } from './peer.ts'
import type { Mark, Report, Task } from './worker.ts'

export interface Options {
  /** Milliseconds before the first mark and between the two. */
  readonly warmUp: number
  readonly duration: number
  /** A folder for CPU profiles of every worker. */
  readonly profile: string | undefined
}

/** One measurement of one peer; what does not belong to its case is undefined. */
export interface Sample {
  /** Why there is no figure: a peer that breaks is part of the result. */
  readonly failed?: string
  readonly megabytesPerSecond?: number
  /** CPU seconds per gigabyte, both sides. */
  readonly cpuPerGigabyte?: number
  /** Resident megabytes of the bigger side. */
  readonly residentMegabytes?: number
  readonly perSecond?: number
  readonly medianMilliseconds?: number
  readonly p99Milliseconds?: number
  /** Jain's index of the connections' shares, 0–1. */
  readonly fairness?: number
  /** The longest time that any of the connections got nothing. */
  readonly longestGapMilliseconds?: number
  /** Kilobytes of one idle connection, both sides together. */
  readonly kilobytesPerConnection?: number
}

export async function measure(
  peer: PeerName,
  name: CaseName,
  link: OpenLink,
  options: Options,
): Promise<Sample> {
  const workers: Worker[] = []
  const start = (task: Task, side: Side): Worker => {
    const worker = new Worker(task, side, options.profile)
    workers.push(worker)
    return worker
  }
  try {
    const server = start({ role: 'server', peer, case: name, host: link.server.host }, link.server)
    const { listening } = await server.report('listening')
    const task: Task = { role: 'client', peer, case: name, host: link.client.host, to: listening }
    if (name === 'idle') {
      const before = await server.mark()
      const client = start(task, link.client)
      const clientBefore = await client.mark()
      await client.report('finished')
      return idle([before, clientBefore], [await server.mark(), await client.mark()])
    }
    const client = start(task, link.client)
    if (name === 'setup') {
      await client.report('finished')
      return { medianMilliseconds: share((await client.mark()).times, 0.5) }
    }
    const sharers = name === 'many' ? CONNECTIONS : name === 'crowd' ? BUSY_CONNECTIONS : 0
    if (sharers > 0) await client.report('finished')
    else await client.mark()
    await pause(options.warmUp)
    const from = await Promise.all([server.mark(), client.mark()])
    await pause(options.duration)
    const to = await Promise.all([server.mark(), client.mark()])
    if (name === 'roundtrips') return counted(from, to)
    return sharers > 0 ? { ...bulk(from, to), ...shared(from[0], to[0], sharers) } : bulk(from, to)
  } finally {
    await Promise.all(workers.map((worker) => worker.stop()))
  }
}

type Both = readonly [server: Mark, client: Mark]

function bulk(from: Both, to: Both): Sample {
  const bytes = to[0].bytes - from[0].bytes
  const cpu = to[0].cpu - from[0].cpu + (to[1].cpu - from[1].cpu)
  return {
    megabytesPerSecond: bytes / 1e6 / ((to[0].at - from[0].at) / 1e3),
    cpuPerGigabyte: cpu / (bytes / 1e9),
    residentMegabytes: Math.max(to[0].rss, to[1].rss) / 1e6,
  }
}

function shared(from: Mark, to: Mark, sharers: number): Sample {
  const shares = to.streams.map(({ bytes }, i) => bytes - (from.streams[i]?.bytes ?? 0))
  const sum = shares.reduce((all, one) => all + one, 0)
  const squares = shares.reduce((all, one) => all + one * one, 0)
  return {
    fairness: sum ** 2 / (sharers * squares),
    longestGapMilliseconds: Math.max(...to.streams.map(({ gap }) => gap)),
  }
}

function counted(from: Both, to: Both): Sample {
  return {
    perSecond: (to[1].count - from[1].count) / ((to[1].at - from[1].at) / 1e3),
    medianMilliseconds: share(to[1].times, 0.5),
    p99Milliseconds: share(to[1].times, 0.99),
  }
}

function share(times: readonly number[], part: number): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * part)] ?? Infinity
}

function idle(from: Both, to: Both): Sample {
  const grown = to[0].rss - from[0].rss + (to[1].rss - from[1].rss)
  return { kilobytesPerConnection: grown / 1e3 / (to[1].count - from[1].count) }
}

class Worker {
  readonly #child: ChildProcess
  readonly #reports: Report[] = []
  #wake: () => void = () => undefined
  #dead: string | undefined

  constructor(task: Task, side: Side, profile: string | undefined) {
    const node = [process.execPath, '--expose-gc']
    if (profile !== undefined) {
      node.push('--cpu-prof', `--cpu-prof-dir=${profile}`)
      node.push(`--cpu-prof-name=${task.peer}-${task.case}-${task.role}-${process.pid}.cpuprofile`)
    }
    const [first, ...rest] = [...side.exec, ...node, workerFile, JSON.stringify(task)]
    this.#child = spawn(first, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#child.on('message', (report: Report) => {
      this.#reports.push(report)
      this.#wake()
    })
    this.#child.on('error', (error) => {
      this.#end(error.message)
    })
    this.#child.on('exit', (code, signal) => {
      this.#end(`exit ${code ?? signal ?? ''}`)
    })
    this.#name = `${task.peer} ${task.case} ${task.role}`
  }

  readonly #name: string

  async mark(): Promise<Mark> {
    this.#child.send('mark')
    return (await this.report('mark')).mark
  }

  async report<K extends 'listening' | 'finished' | 'mark'>(
    key: K,
  ): Promise<Extract<Report, Record<K, unknown>>> {
    const deadline = Date.now() + 60_000
    for (;;) {
      const at = this.#reports.findIndex((report) => key in report)
      if (at >= 0) return this.#reports.splice(at, 1)[0] as Extract<Report, Record<K, unknown>>
      if (this.#dead !== undefined) throw new Error(`${this.#name}: ${this.#dead}`)
      if (Date.now() > deadline) throw new Error(`${this.#name}: no "${key}" within a minute`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1_000)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  async stop(): Promise<void> {
    if (this.#dead !== undefined) return
    const gone = new Promise((resolve) => this.#child.once('exit', resolve))
    if (this.#child.connected) this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5_000)
    await gone
    clearTimeout(timer)
  }

  #end(how: string): void {
    this.#dead ??= how
    this.#wake()
  }
}

const workerFile = fileURLToPath(new URL('worker.js', import.meta.url))

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
