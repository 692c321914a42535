import { setMaxListeners } from 'node:events'
import { asError } from './errors.ts'
import type { SecureStream } from './secure-stream.ts'

/** RFC 8305 §5, "Connection Attempt Delay": the next address starts when this time passes without a success, ms. */
const attemptDelay = 250

/**
 * Tries addresses in order, each a little after the one before or as soon as one fails. The first stream wins; the
 * other attempts are aborted.
 *
 * @throws {AggregateError} with one error per address, in their order, when all failed.
 * @throws the signal's reason.
 */
export async function raceAddresses<P>(
  addresses: readonly P[],
  attempt: (address: P, signal: AbortSignal) => Promise<SecureStream>,
  signal: AbortSignal,
): Promise<SecureStream> {
  signal.throwIfAborted()
  const losers = new AbortController()
  setMaxListeners(0, losers.signal)
  const onAbort = (): void => losers.abort(signal.reason)
  signal.addEventListener('abort', onAbort)
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<SecureStream>((resolve, reject) => {
      const errors: unknown[] = []
      let failed = 0
      let next = 0
      let won = false
      const start = (): void => {
        clearTimeout(timer)
        const index = next++
        const address = addresses[index]
        if (address === undefined || won) return
        if (next < addresses.length) timer = setTimeout(start, attemptDelay)
        attempt(address, losers.signal).then(
          (stream) => {
            if (won) stream.destroy()
            won = true
            resolve(stream)
          },
          (error: unknown) => {
            errors[index] = error
            if (losers.signal.aborted && signal.aborted) reject(asError(error))
            else if (++failed === addresses.length) reject(new AggregateError(errors))
            else start()
          },
        )
      }
      start()
    })
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
    losers.abort()
  }
}
