import { UsageError } from '../core/errors.ts'

/** What you did wrong. */
export type IceUsageCode =
  /** A candidate, a `candidate:` line or credentials that no ICE agent could have sent (RFC 8445 §5.3, RFC 8839 §5.1). */
  | 'ERR_NATWORK_ICE_INVALID'
  /** The session is closed, or the machine has as many as it may. */
  | 'ERR_NATWORK_ICE_STATE'

export class IceUsageError extends UsageError<IceUsageCode> {}
