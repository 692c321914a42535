import { PeerError, SystemError, UsageError } from '../core/errors.ts'
import type { SocketAddress } from '../core/address.ts'

/** What you did wrong. */
export type StunUsageCode =
  /** A value does not fit its attribute, or the message its buffer. */
  | 'ERR_NATWORK_STUN_ENCODE'
  /** Not a `stun:` or `stuns:` URI (RFC 7064). */
  | 'ERR_NATWORK_STUN_URI'
  /** A username, realm or password that OpaqueString (RFC 8265) does not allow. */
  | 'ERR_NATWORK_STUN_CREDENTIALS'
  /** More open transactions than the client was made for. */
  | 'ERR_NATWORK_STUN_BUSY'
  /** A server or client was configured in a way that cannot work. */
  | 'ERR_NATWORK_STUN_CONFIG'
  /** The request was given up by its AbortSignal or by `cancel`. */
  | 'ERR_NATWORK_STUN_ABORTED'

/** What the other side did, or did not do. */
export type StunPeerCode =
  | 'ERR_NATWORK_STUN_TIMEOUT'
  /** An error response; `status` is its number. */
  | 'ERR_NATWORK_STUN_RESPONSE'
  /** A response without what its method promises, or with unknown comprehension-required attributes. */
  | 'ERR_NATWORK_STUN_INVALID_RESPONSE'
  /** Every response failed the message-integrity check. */
  | 'ERR_NATWORK_STUN_INTEGRITY'
  /** The nonce says "password algorithms" and the list is missing: somebody on the path removed it (§9.2.1). */
  | 'ERR_NATWORK_STUN_BID_DOWN'
  /** 300 Try Alternate that was not followed: a loop, a missing or unprotected alternate. */
  | 'ERR_NATWORK_STUN_REDIRECT'
  /** The TCP or TLS connection ended before the answer. */
  | 'ERR_NATWORK_STUN_CONNECTION'

export type StunSystemCode =
  /** The name of the server has no address. */
  | 'ERR_NATWORK_STUN_DNS'
  /** A TCP or TLS port cannot be bound. */
  | 'ERR_NATWORK_STUN_LISTEN'

export type StunErrorCode = StunUsageCode | StunPeerCode | StunSystemCode

export class StunUsageError extends UsageError<StunUsageCode> {}

export class StunPeerError extends PeerError<StunPeerCode> {}

export class StunSystemError extends SystemError<StunSystemCode> {}

/** The server answered with an error response (RFC 8489 §6.3.4). */
export class StunResponseError extends StunPeerError {
  /** 300–699, `ErrorCode` names the known ones. */
  readonly status: number
  /** The server's own words: for people, never to be switched on. */
  readonly reason: string
  /** With 420: the attribute types that the server did not understand. */
  readonly unknownAttributes: readonly number[]

  constructor(status: number, reason: string, unknownAttributes: readonly number[] = []) {
    super('ERR_NATWORK_STUN_RESPONSE', `the STUN server answered ${status} ${reason}`.trimEnd())
    this.status = status
    this.reason = reason
    this.unknownAttributes = unknownAttributes
  }
}

/** 300 Try Alternate, not followed by the transaction itself (RFC 8489 §10). */
export class StunRedirectError extends StunPeerError {
  readonly alternate: SocketAddress | undefined
  /** The name that the alternate's certificate must carry, when the server gave one. */
  readonly domain: string | undefined
  /** True when the response was protected by message integrity: only then may a client follow it (§14.8). */
  readonly authenticated: boolean

  constructor(
    message: string,
    details: { alternate: SocketAddress | undefined; domain: string | undefined; authenticated: boolean },
  ) {
    super('ERR_NATWORK_STUN_REDIRECT', message)
    this.alternate = details.alternate
    this.domain = details.domain
    this.authenticated = details.authenticated
  }
}
