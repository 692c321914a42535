import { NatworkError } from '../core/errors.ts'

/** Every code that this room throws, emits or sends to a peer. */
export type NetworkErrorCode =
  /** The text is no node id. */
  | 'ERR_NATWORK_NODE_ID'
  /** The peer is not the node it should be, or proved no identity at all. */
  | 'ERR_NATWORK_IDENTITY'
  /** The TLS handshake failed: not a natwork node, another protocol version, or a broken path. */
  | 'ERR_NATWORK_HANDSHAKE'
  /** A peer, a local port or a callback did not answer in time. */
  | 'ERR_NATWORK_TIMEOUT'
  /** The stream ended without the peer's authenticated end: somebody cut it. */
  | 'ERR_NATWORK_TRUNCATED'
  /** The connection broke; `cause` says how. */
  | 'ERR_NATWORK_RESET'
  /** A node record that is malformed or whose signature does not verify. */
  | 'ERR_NATWORK_NODE_INFO'
  /** The key file is unreadable, unsafe or not an Ed25519 key. */
  | 'ERR_NATWORK_KEY'
  /** A callback of the caller's NetworkContext threw, hung, or gave something else than it promised. */
  | 'ERR_NATWORK_CONTEXT'
  /** Nobody knows an address of that node. */
  | 'ERR_NATWORK_NODE_UNKNOWN'
  /** No address of that node answered; `cause` holds each failure. */
  | 'ERR_NATWORK_NODE_UNREACHABLE'
  /** The peer broke the request protocol. */
  | 'ERR_NATWORK_PROTOCOL'
  /** A service definition or name that cannot be. */
  | 'ERR_NATWORK_SERVICE'
  /** The network is not started, or was stopped meanwhile. */
  | 'ERR_NATWORK_STOPPED'
  /** The UDP or TCP port to listen on is taken or forbidden. */
  | 'ERR_NATWORK_BIND'
  /** The text names no helper. */
  | 'ERR_NATWORK_HELPER'
  /** A signal that came too late or twice, or whose sender's clock is far from ours. */
  /** The text is no ticket, was altered, or its terms cannot be. */
  | 'ERR_NATWORK_TICKET'
  | RefusalCode

/** The answers by which a node refuses a request; the same codes at both ends. */
export const refusalCodes = [
  /** The node offers no such service (told only to nodes that it lists by id). */
  'ERR_NATWORK_SERVICE_UNKNOWN',
  /** No such service, or not for you: strangers are not told which. */
  'ERR_NATWORK_SERVICE_DENIED',
  /** The service is there for you, but its local TCP port did not answer. */
  'ERR_NATWORK_SERVICE_UNREACHABLE',
  /** The ticket's time is over. */
  'ERR_NATWORK_TICKET_EXPIRED',
  /** As many nodes as the ticket is good for have used it. */
  'ERR_NATWORK_TICKET_USED_UP',
  /** The ticket was revoked, or its node has lost its memory of it. */
  'ERR_NATWORK_TICKET_REVOKED',
  /** The ticket was altered, or made by or for something else. */
  'ERR_NATWORK_TICKET_INVALID',
  /** The node carries as many pipes, for you or in total, as it is willing to. */
  'ERR_NATWORK_BUSY',
  /** The node does not speak with nodes it does not know. */
  'ERR_NATWORK_CONTROL_DENIED',
  /** The node that a signal is for does not hang on this helper, nor on one that it knows. */
  'ERR_NATWORK_NOT_ATTACHED',
  /** The request was meant for another node. */
  'ERR_NATWORK_IDENTITY',
  /** The request was not understood. */
  'ERR_NATWORK_PROTOCOL',
] as const

export type RefusalCode = (typeof refusalCodes)[number]

export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

/** The errno name that Node put on a system error, if any. */
export function errno(error: unknown): string | undefined {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : undefined
}

export function hasCode(error: unknown, code: NetworkErrorCode): error is NatworkError {
  return errno(error) === code
}

/** `instanceof` alone leaves the code's type open. */
export function isNatworkError(error: unknown): error is NatworkError {
  return error instanceof NatworkError
}
