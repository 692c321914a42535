import { TurnUsageError } from '../../errors.ts'

export function abortedError(signal: AbortSignal | undefined): TurnUsageError {
  return new TurnUsageError('ERR_NATWORK_TURN_ABORTED', 'the request for a relay was given up', {
    cause: signal?.reason,
  })
}
