import { abortedError } from './errors.ts'

/** One way to try, and how many ms to give the ones before it. */
export interface Attempt<T> {
  readonly delay: number
  start(signal: AbortSignal): Promise<T>
}

/**
 * Tries ways in order, each some time after the one before, or at once when all begun have failed (RFC 8305 §5). The
 * first success wins; the others are aborted, and what comes of them all the same is given to `discard`.
 *
 * @throws the last failure; `ERR_NATWORK_TURN_ABORTED`.
 */
export async function race<T>(
  attempts: readonly Attempt<T>[],
  signal: AbortSignal | undefined,
  discard: (late: T) => void,
): Promise<T> {
  if (signal?.aborted === true) throw abortedError(signal)
  const losers = new AbortController()
  const either = signal === undefined ? losers.signal : AbortSignal.any([signal, losers.signal])
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<T>((resolve, reject) => {
      let begun = 0
      let failed = 0
      let won = false
      const begin = (): void => {
        clearTimeout(timer)
        const attempt = attempts[begun]
        if (attempt === undefined || either.aborted) return
        begun++
        const next = attempts[begun]
        if (next !== undefined) timer = setTimeout(begin, next.delay)
        attempt.start(either).then(
          (result) => {
            if (won) discard(result)
            won = true
            resolve(result)
          },
          (error: unknown) => {
            failed++
            if (signal?.aborted === true) {
              reject(abortedError(signal))
            } else if (failed === attempts.length) {
              reject(error instanceof Error ? error : new Error(String(error)))
            } else if (failed === begun) {
              begin()
            }
          },
        )
      }
      begin()
    })
  } finally {
    clearTimeout(timer)
    losers.abort()
  }
}
