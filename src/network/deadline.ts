import { setMaxListeners } from 'node:events'
import { asError } from './errors.ts'

/**
 * One operation's limits: a time-out and the signals of those who may end it, as one signal for what it calls and one
 * race for what it awaits. Always `close()` it: that clears the timer and the listeners.
 */
export class Scope {
  readonly signal: AbortSignal
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #outer: readonly AbortSignal[]
  readonly #onOuterAbort = (): void => {
    this.#controller.abort(this.#outer.find(({ aborted }) => aborted)?.reason)
  }

  /** `timeout` in milliseconds; `onTimeout` makes the error that says what took too long. */
  constructor(timeout: number, outer: readonly (AbortSignal | undefined)[], onTimeout: () => Error) {
    this.signal = this.#controller.signal
    setMaxListeners(0, this.signal) // One for each thing under way at once.
    this.#outer = outer.filter((signal) => signal !== undefined)
    this.#timer = setTimeout(() => this.#controller.abort(onTimeout()), timeout)
    for (const signal of this.#outer) signal.addEventListener('abort', this.#onOuterAbort)
    if (this.#outer.some(({ aborted }) => aborted)) this.#onOuterAbort()
  }

  /** What `work` gives, unless the scope ends first: then its reason is thrown, and `work`'s result ignored. */
  async run<T>(work: Promise<T>): Promise<T> {
    return await unlessAborted(work, this.signal)
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const signal of this.#outer) signal.removeEventListener('abort', this.#onOuterAbort)
  }
}

/** What `work` gives, unless the signal is first: then its reason is thrown, and `work`'s result ignored. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined)
  let stop = (): void => undefined
  const aborted = new Promise<never>((_resolve, reject) => {
    const onAbort = (): void => reject(asError(signal.reason))
    stop = () => signal.removeEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort)
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    stop()
  }
}
