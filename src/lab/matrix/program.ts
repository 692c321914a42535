import { createInterface } from 'node:readline'
import { parseEvent, type ProgramEvent, type ProgramOrder } from './contract.ts'
import type { StageProcess } from './stage.ts'

/** One of the three, its output split into events and log. */
export class Program {
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

  /** What it has printed since it was asked the last time. */
  takeLog(): string {
    const log = this.#log
    this.#log = ''
    return log
  }

  /** Something for it to do, as a line on its standard input. */
  tell(order: ProgramOrder): void {
    this.#events.length = 0
    this.#process.stdin.write(`${JSON.stringify(order)}\n`)
  }

  /** The next event that `matches`; its own end and the time-out make a failure. */
  async until(
    matches: (event: ProgramEvent) => boolean,
    { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
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

/** What is kept of a program's output while it runs; a program that floods is no reason to run out of memory. */
const MAX_RAW_LOG = 1 << 20
const MAX_EVENTS = 1_000
const GRACE_MS = 1_000
