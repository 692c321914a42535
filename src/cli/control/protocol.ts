import { z } from 'zod'
import { NatworkError, PeerError, SystemError, UsageError } from '../../core/index.ts'
import { nodeIdSchema } from '../config.ts'
import { asNatworkError } from '../errors.ts'
import { goalSchema, peerSchema } from '../goal.ts'

/*
 * What the commands say to a running node, over a Unix socket that only its owner may open:
 *
 *     node     {"natwork":"0.1.0","protocol":1,"pid":4711}
 *     command  {"protocol":1,"request":"status"}
 *     node     {"ok":true,"result":{…}}    or    {"ok":false,"error":{"kind":…,"code":…,"message":…}}
 *
 * One request a connection. After the answer to `connect` both sides go on in frames (stream.ts); after that to
 * `forward` the node tells events, one JSON value a line.
 */

/** Raised when a change breaks older commands or nodes. */
export const PROTOCOL = 1

/** Bytes of one line. Nothing we say comes near it; more is not ours. */
export const MAX_LINE = 1_048_576

export const greetingSchema = z.object({
  natwork: z.string(),
  protocol: z.int(),
  pid: z.int(),
})

export type Greeting = z.output<typeof greetingSchema>

const text = z.string().min(1).max(4_096)

export const requestSchema = z.discriminatedUnion('request', [
  z.object({ request: z.literal('status') }),
  z.object({
    request: z.literal('expose'),
    name: text,
    /** Absent when the service is there already; then `allow` is added to its list. */
    target: z.object({ host: text, port: z.int() }).optional(),
    allow: z.array(nodeIdSchema).max(1_024),
    ticket: z.object({ uses: z.int(), seconds: z.int() }).optional(),
  }),
  z.object({ request: z.literal('unexpose'), name: text }),
  /** Answered by a stream: the pipe. */
  z.object({ request: z.literal('connect'), goal: goalSchema }),
  /** Answered by the address it listens on, then by events, until the command ends the connection. */
  z.object({
    request: z.literal('forward'),
    goal: goalSchema,
    at: z.object({ host: text, port: z.int().min(0).max(65535) }),
  }),
  z.object({ request: z.literal('ping'), peer: peerSchema }),
  z.object({ request: z.literal('why'), peer: peerSchema }),
])

export type Request = z.output<typeof requestSchema>

export const errorSchema = z.object({
  kind: z.enum(['usage', 'peer', 'system', 'internal']),
  code: z.templateLiteral(['ERR_NATWORK_', z.string()]),
  message: z.string(),
})

/** An error on its way through the socket. */
export type WireError = z.output<typeof errorSchema>

export const responseSchema = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true), result: z.unknown() }),
  z.object({ ok: z.literal(false), error: errorSchema }),
])

/** Class, code and message survive; the cause stays in the node's log. */
export function packError(thrown: unknown): WireError {
  const error = asNatworkError(thrown)
  if (error === undefined) return { kind: 'internal', code: 'ERR_NATWORK_INTERNAL', message: String(thrown) }
  return { kind: kindOf(error), code: error.code, message: error.message }
}

function kindOf(error: NatworkError): WireError['kind'] {
  if (error instanceof UsageError) return 'usage'
  if (error instanceof PeerError) return 'peer'
  return error instanceof SystemError ? 'system' : 'internal'
}

const classes = { usage: UsageError, peer: PeerError, system: SystemError, internal: NatworkError }

export function unpackError({ kind, code, message }: WireError): NatworkError {
  return new classes[kind](code, message)
}
