import type { IceSession } from '../../ice/index.ts'
import type { RelayUser } from '../relays.ts'

/** What a session hears of relays, until the signal. */
export function borrowerFor(
  session: IceSession,
  host: { now(): number; wake(): void },
  ended: AbortSignal,
): RelayUser {
  return {
    ended,
    found: (candidate) => {
      if (ended.aborted) return
      session.addLocalCandidate(host.now(), candidate)
      host.wake()
    },
    lost: ({ via }) => {
      if (ended.aborted || via === undefined) return
      session.removeCarrier(host.now(), via)
      host.wake()
    },
  }
}
