import { PeerError, SystemError, UsageError } from '../core/errors.ts'

/** What you did wrong. */
export type TurnUsageCode =
  /** A client or server was configured in a way that cannot work. */
  | 'ERR_NATWORK_TURN_CONFIG'
  /** As many requests of this kind are open as may be. */
  | 'ERR_NATWORK_TURN_BUSY'
  /** A peer that is no IP address. */
  | 'ERR_NATWORK_TURN_PEER'
  /** Given up by its AbortSignal. */
  | 'ERR_NATWORK_TURN_ABORTED'
  /** Not a `turn:` or `turns:` URI (RFC 7065). */
  | 'ERR_NATWORK_TURN_URI'

/** What the other side did, or did not do. */
export type TurnPeerCode =
  /** The connection to the server ended, or could not be made. */
  | 'ERR_NATWORK_TURN_CONNECTION'
  /** The HTTP proxy does not connect us. */
  | 'ERR_NATWORK_TURN_PROXY'

export type TurnSystemCode =
  /** A UDP, TCP or TLS port cannot be bound. */
  | 'ERR_NATWORK_TURN_LISTEN'
  /** The name of the relay has no address. */
  | 'ERR_NATWORK_TURN_DNS'

export type TurnErrorCode = TurnUsageCode | TurnPeerCode | TurnSystemCode

export class TurnUsageError extends UsageError<TurnUsageCode> {}

export class TurnPeerError extends PeerError<TurnPeerCode> {}

export class TurnSystemError extends SystemError<TurnSystemCode> {}
