// Runs the built program as users do: own process, own home, own XDG folders.
import assert from 'node:assert/strict'
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))
export const main = join(root, 'dist/cli/main.js')

/** Long enough for a busy machine; no test passes by it. */
const PATIENCE_MS = 60_000

type After = { after(fn: () => void | Promise<void>): void }

/** A user of their own, gone with the test. */
export class Home {
  readonly path: string
  readonly env: Record<string, string>

  constructor(t: After, extra: Record<string, string> = {}) {
    this.path = mkdtempSync(join(tmpdir(), 'natwork-e2e-'))
    const folder = (name: string): string => {
      const path = join(this.path, name)
      mkdirSync(path, { mode: 0o700 })
      return path
    }
    this.env = {
      PATH: process.env['PATH'] ?? '',
      HOME: this.path,
      XDG_CONFIG_HOME: folder('config'),
      XDG_STATE_HOME: folder('state'),
      XDG_RUNTIME_DIR: folder('run'),
      // The router of whoever runs the tests is not theirs to change.
      NATWORK_PORT_MAPPING: 'false',
      ...extra,
    }
    t.after(() => rmSync(this.path, { recursive: true, force: true }))
  }
}

/** One running command. What it prints is kept. */
export class Running {
  readonly child: ChildProcess
  stdout = ''
  stderr = ''
  readonly ended: Promise<number>

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()))
    child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()))
    this.ended = once(child, 'close').then(([code, signal]: unknown[]) =>
      typeof code === 'number' ? code : signal === 'SIGKILL' ? 137 : -1,
    )
  }

  /** The first match in what it has printed or will print (stdout and stderr). */
  async sees(pattern: RegExp): Promise<RegExpExecArray> {
    const { child } = this
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer)
        child.stdout?.off('data', look)
        child.stderr?.off('data', look)
        child.off('close', fail)
      }
      const look = (): void => {
        const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr)
        if (match === null) return
        finish()
        resolve(match)
      }
      const fail = (): void => {
        finish()
        reject(new Error(`never saw ${String(pattern)} in\n${this.stdout}\n${this.stderr}`))
      }
      const timer = setTimeout(fail, PATIENCE_MS)
      child.stdout?.on('data', look)
      child.stderr?.on('data', look)
      child.once('close', fail)
      look()
    })
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    this.child.kill(signal)
    return this.ended
  }
}

/** Starts `natwork …` (or `npm …` in the project); killed with the test if it still runs. */
export function start(
  t: After,
  home: Home,
  args: readonly string[],
  options: { stdio?: StdioOptions; env?: Record<string, string>; npm?: boolean } = {},
): Running {
  const file = options.npm === true ? 'npm' : process.execPath
  const child = spawn(file, options.npm === true ? args : [main, ...args], {
    cwd: options.npm === true ? root : home.path,
    env: { ...home.env, ...options.env },
    stdio: options.stdio ?? ['ignore', 'pipe', 'pipe'],
    // A process group of its own, as a terminal's: Ctrl-C goes to all of it.
    detached: options.npm === true,
  })
  t.after(() => {
    child.kill('SIGKILL')
  })
  return new Running(child)
}

/** Runs `natwork …` to its end. */
export async function run(
  t: After,
  home: Home,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const running = start(t, home, args, { env })
  const code = await running.ended
  return { code, stdout: running.stdout, stderr: running.stderr }
}

/** Runs it, expects success, and reads its JSON. */
export async function runJson<T>(t: After, home: Home, args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await run(t, home, [...args, '--json'])
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout) as T
}

/** What `up --json` prints first. */
export interface Up {
  readonly id: string
  readonly listens: string
  readonly tickets: readonly { service: string; ticket: string; command: string }[]
}

export type RunningNode = Running & { readonly up: Up; readonly ticket: string }

/** A node that runs on a free port of the loopback; `ticket` is its first. */
export async function startNode(t: After, home: Home, args: readonly string[] = []): Promise<RunningNode> {
  const running = start(t, home, ['up', '--json', '--host', '127.0.0.1', '--port', '0', ...args])
  const [line] = await running.sees(/^\{"event":"up".*\}$/m)
  const up = JSON.parse(line) as Up
  return Object.assign(running, { up, ticket: up.tickets[0]?.ticket ?? '' })
}

/** A forward on a free port. */
export async function startForward(t: After, home: Home, goal: string): Promise<Running & { port: number }> {
  const running = start(t, home, ['forward', '0', goal, '--json'])
  const [, port] = await running.sees(/^\{"event":"listening".*"port":(\d+)/m)
  return Object.assign(running, { port: Number(port) })
}

/** Runs another program to its end; everything it prints, and its exit code. */
export async function program(
  file: string,
  args: readonly string[],
  options: { input?: string | Buffer; env?: Record<string, string>; cwd?: string } = {},
): Promise<{ code: number; stdout: Buffer; stderr: string }> {
  const { cwd, env } = options
  const child = spawn(file, args, { stdio: 'pipe', env: { ...process.env, ...env }, ...(cwd && { cwd }) })
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input)
  const ended = once(child, 'close')
  const [stdout, stderr] = await Promise.all([buffer(child.stdout), text(child.stderr)])
  const [code] = (await ended) as [number | null]
  return { code: code ?? -1, stdout, stderr }
}
