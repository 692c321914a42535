import { Socket } from 'node:net'
import { finished, type Duplex } from 'node:stream'

/**
 * Carries bytes both ways until both sides are done. Half-close is kept: the end of one direction leaves the other
 * open. A side that breaks breaks the other: with its own error, or with a TCP reset.
 *
 * @returns when both directions ended; rejects with what broke.
 */
export function joinStreams(a: Duplex, b: Duplex): Promise<void> {
  return new Promise((resolve, reject) => {
    let open = 2
    const onFinished = (error?: Error | null): void => {
      if (error == null) {
        if (--open === 0) resolve()
        return
      }
      breakOff(a, error)
      breakOff(b, error)
      reject(error)
    }
    finished(a, onFinished)
    finished(b, onFinished)
    a.pipe(b)
    b.pipe(a)
  })
}

function breakOff(stream: Duplex, error: Error): void {
  if (stream instanceof Socket) stream.resetAndDestroy()
  else stream.destroy(error)
}
