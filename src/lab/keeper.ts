import { spawn, type ChildProcess, type ChildProcessByStdio, type StdioOptions } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { LabSystemError } from './errors.ts'

/** How a program ended: by an exit code or by a signal. */
export interface ExitStatus {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** What a program said and how it ended. */
export interface ProgramOutput extends ExitStatus {
  readonly stdout: string
  readonly stderr: string
}

export type PipedProcess = ChildProcessByStdio<Writable, Readable, Readable>

/**
 * The process that a lab lives and dies with (native/lab/keeper.c): it holds the namespaces, and ends when this
 * process closes its input or dies in whatever way.
 */
export class Keeper {
  readonly pid: number
  readonly helper: string
  readonly #process: ChildProcess
  readonly #running = new Set<ChildProcess>()
  #closed: Promise<void> | undefined

  private constructor(process: ChildProcess, pid: number, helper: string) {
    this.#process = process
    this.pid = pid
    this.helper = helper
  }

  /** @throws {LabSystemError} `ERR_NATWORK_LAB_NO_PERMISSION`, `ERR_NATWORK_LAB_SETUP` */
  static async start(helper: string, name: string): Promise<Keeper> {
    const child = spawn(helper, ['keeper', name], { stdio: ['pipe', 'pipe', 'pipe'] })
    const pid = await new Promise<number>((resolve, reject) => {
      let said = ''
      let failed = ''
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text
        const match = /^ready (\d+)\n/.exec(said)
        if (match) resolve(Number(match[1]))
      })
      child.stderr.setEncoding('utf8').on('data', (text: string) => (failed += text))
      child.on('error', (cause) => reject(setupFailed(`cannot start ${helper}`, cause)))
      child.on('close', () => reject(refusal(failed)))
    })
    return new Keeper(child, pid, helper)
  }

  /** Starts a program in a host; `-` is the lab outside of every host. */
  spawn(
    host: string,
    program: string,
    args: readonly string[],
    options: { cwd?: string; env?: NodeJS.ProcessEnv; stdio?: StdioOptions; signal?: AbortSignal } = {},
  ): ChildProcess {
    const child = spawn(this.helper, ['exec', String(this.pid), host, program, ...args], {
      ...options,
      env: withSystemPath(options.env ?? process.env),
    })
    this.#running.add(child)
    child.once('close', () => this.#running.delete(child))
    child.once('error', () => this.#running.delete(child))
    return child
  }

  /** Runs a program to its end with `input` as its standard input. */
  async run(
    host: string,
    program: string,
    args: readonly string[],
    input: string | Buffer = '',
  ): Promise<ProgramOutput> {
    const child = this.spawn(host, program, args, { stdio: 'pipe' }) as PipedProcess
    const output = collect(child)
    child.stdin.on('error', () => undefined) // it ended without reading all: its exit status tells
    child.stdin.end(input)
    return output
  }

  /** Ends every process inside, and with the last one every namespace. Resolves when they are gone. */
  close(): Promise<void> {
    this.#closed ??= this.#end()
    return this.#closed
  }

  async #end(): Promise<void> {
    const ended = [this.#process, ...this.#running].map(
      (child) =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null) resolve()
          // Not 'close': that waits for somebody to read what the program said.
          else child.once('exit', () => resolve())
        }),
    )
    this.#process.stdin?.end()
    await Promise.all(ended)
  }
}

/** Collects what a program with piped output says until it ends. */
export async function collect(child: PipedProcess): Promise<ProgramOutput> {
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const status = await exitOf(child)
  return { ...status, stdout, stderr }
}

export function exitOf(child: ChildProcess): Promise<ExitStatus> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal }))
  })
}

// ip and nft lie in /usr/sbin, which a plain user's PATH often lacks.
export function withSystemPath(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...env, PATH: `${env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` }
}

export function setupFailed(what: string, cause?: unknown): LabSystemError {
  return new LabSystemError('ERR_NATWORK_LAB_SETUP', `the lab could not be set up: ${what}`, { cause })
}

/** Which switch of this kernel is off. */
function refusal(said: string): LabSystemError {
  if (!/: (refused|\/proc\/self)/.test(said)) return setupFailed(said.trim() || 'the keeper ended at once')
  const advice =
    process.getuid?.() === 0
      ? 'this root may not make namespaces: run it outside of the container, or give it CAP_SYS_ADMIN'
      : (closedSwitch() ?? 'this kernel lets no plain user make namespaces: run it as root')
  return new LabSystemError('ERR_NATWORK_LAB_NO_PERMISSION', `no permission to make a lab: ${advice}`, {
    cause: new Error(said.trim()),
  })
}

function closedSwitch(): string | undefined {
  const read = (name: string): string | undefined => {
    try {
      return readFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, 'utf8').trim()
    } catch {
      return undefined
    }
  }
  const switches = [
    { name: 'kernel.unprivileged_userns_clone', off: '0', on: '1' },
    { name: 'kernel.apparmor_restrict_unprivileged_userns', off: '1', on: '0' },
    { name: 'user.max_user_namespaces', off: '0', on: '10000' },
  ]
  const closed = switches.find(({ name, off }) => read(name) === off)
  return closed && `as root, allow user namespaces once: sysctl -w ${closed.name}=${closed.on}`
}
