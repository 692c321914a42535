import type { Path } from '../../core/machine.ts'
import { asError } from '../errors.ts'

interface Waiter {
  readonly proven: boolean
  resolve(path: Path): void
  reject(error: Error): void
}

/** Those who wait for a path. */
export class Waiting {
  readonly #all = new Set<Waiter>()

  get size(): number {
    return this.#all.size
  }

  /** Resolves with the next path; `proven`: not with one that only seems to be. @throws the signal's reason. */
  async wait(signal: AbortSignal, proven: boolean): Promise<Path> {
    let end = (): void => undefined
    try {
      return await new Promise<Path>((resolve, reject) => {
        const waiter = { proven, resolve, reject }
        const abort = (): void => reject(asError(signal.reason))
        end = () => {
          this.#all.delete(waiter)
          signal.removeEventListener('abort', abort)
        }
        signal.addEventListener('abort', abort)
        this.#all.add(waiter)
      })
    } finally {
      end()
    }
  }

  found(path: Path, isProven: boolean): void {
    for (const waiter of this.#all) if (isProven || !waiter.proven) waiter.resolve(path)
  }

  failed(error: Error): void {
    for (const waiter of this.#all) waiter.reject(error)
  }
}
