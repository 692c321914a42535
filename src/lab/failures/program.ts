import type { ChildProcess } from 'node:child_process'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Lab } from '../lab.ts'
import type { PathKind } from './scenarios.ts'

/** What a node program is told to be (node.ts). */
export type NodeTask = {
  readonly host: string
  readonly port: number
  readonly helpers: readonly string[]
} & (
  | { readonly role: 'helper' | 'sink' }
  | {
      readonly role: 'source'
      readonly peer: string
      /** At least. */
      readonly bytes: number
      /** Bytes per second; 0: as fast as it goes. */
      readonly rate: number
    }
)

/** What it says, a line each; `at` by a clock that all programs of the machine share, in milliseconds. */
export type Said = { readonly at: number } & (
  | { readonly says: 'ready'; readonly id: string }
  | { readonly says: 'received'; readonly bytes: number }
  | { readonly says: 'gap'; readonly from: number; readonly to: number }
  | {
      readonly says: 'path'
      readonly state: 'connecting' | 'connected' | 'interrupted' | 'idle'
      readonly path?: PathKind
      readonly local?: string
      readonly remote?: string
    }
  | {
      readonly says: 'done'
      readonly same: boolean
      readonly bytes: number
      readonly ms: number
      readonly history: readonly PathKind[]
    }
  | { readonly says: 'error'; readonly message: string }
)

/** A node in a lab, and everything that it has said. */
export class NodeProgram {
  readonly heard: Said[] = []
  readonly #child: ChildProcess
  readonly #listeners = new Set<() => void>()
  #ended = false

  constructor(lab: Lab, host: string, task: NodeTask) {
    this.#child = lab.exec(host, process.execPath, [...program(), JSON.stringify(task)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const lines = createInterface(this.#child.stdout ?? process.stdin)
    lines.on('line', (line) => {
      this.heard.push(JSON.parse(line) as Said)
      this.#tell()
    })
    this.#child.once('close', () => {
      this.#ended = true
      this.#tell()
    })
    this.#child.stdin?.on('error', () => undefined)
  }

  /**
   * Resolves with what `find` finds in what the node has said, as soon as it does.
   *
   * @throws {Error} when the node ends, says an error or takes longer than `ms`.
   */
  until<T>(find: (heard: readonly Said[]) => T | undefined, what: string, ms: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = find(this.heard)
        const error = this.heard.find((one) => one.says === 'error')
        if (found !== undefined) done(() => resolve(found))
        else if (error !== undefined) done(() => reject(new Error(error.message)))
        else if (this.#ended) done(() => reject(new Error(`the node ended: ${what}`)))
      }
      const done = (settle: () => void): void => {
        clearTimeout(timer)
        this.#listeners.delete(look)
        settle()
      }
      const timer = setTimeout(() => {
        done(() => reject(new Error(`${what}: not within ${ms / 1_000} s`)))
      }, ms)
      this.#listeners.add(look)
      look()
    })
  }

  /** The last of one kind that was said. */
  last<K extends Said['says']>(says: K): (Said & { readonly says: K }) | undefined {
    return this.heard.findLast((one): one is Said & { readonly says: K } => one.says === says)
  }

  order(line: 'pause' | 'resume' | 'finish'): void {
    this.#child.stdin?.write(`${line}\n`)
  }

  /** Ends it as a power cut would. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}

/** Compiled or from source: the program is beside this file. */
function program(): string[] {
  const file = fileURLToPath(import.meta.url)
  const source = file.endsWith('.ts')
  const path = join(dirname(file), `node.${source ? 'ts' : 'js'}`)
  return source ? ['--import', import.meta.resolve('tsx'), path] : [path]
}
