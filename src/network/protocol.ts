import type { Duplex } from 'node:stream'
import { z } from 'zod'
import { PeerError } from '../core/errors.ts'
import { refusalCodes } from './errors.ts'
import { isNodeId } from './node-id.ts'
import { isServiceName } from './services.ts'
import { maxTicketLength } from './ticket.ts'

/**
 * The request protocol, inside TLS, once per connection: the dialling node sends one {@link Request}, the other answers
 * with one {@link Reply}, and after `ok` the stream is the service's. Every message is a 16-bit length (big-endian) and
 * that many bytes of JSON, at most {@link maxMessage}. Unknown members are ignored, so that later versions can add some;
 * a change that older nodes would misread raises the ALPN name instead.
 */
export type Request = z.infer<typeof requestSchema>
export type Reply = z.infer<typeof replySchema>

export const maxMessage = 4_096

/** Without zod's compiler, which takes milliseconds for a schema and would pay after some thousand messages. */
export const uncompiled = { jitless: true } as const

/** `to` is the node the dialler wants: both sides check it, so that both learn of a mix-up of addresses. */
const to = z.string().max(64).refine(isNodeId)

export const requestSchema = z.discriminatedUnion('op', [
  z.object({
    op: z.literal('pipe'),
    to,
    service: z.string().max(63).refine(isServiceName),
    ticket: z.string().max(maxTicketLength).optional(),
  }),
  /** Eight-byte messages, each echoed at once. */
  z.object({ op: z.literal('ping'), to }),
  /** A control stream: see control.ts for what is said on it. */
  z.object({ op: z.literal('control'), to }),
  /** "You are not the one I wanted": the last word of a dialler that met another node. */
  z.object({ op: z.literal('wrong-node'), to }),
])

export const replySchema = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true) }),
  z.object({ ok: z.literal(false), code: z.enum(refusalCodes) }),
])

export function writeMessage(stream: Duplex, message: object, limit = maxMessage): void {
  const json = Buffer.from(JSON.stringify(message))
  if (json.length > limit) throw new RangeError(`a message of ${json.length} bytes`)
  const head = Buffer.allocUnsafe(2)
  head.writeUInt16BE(json.length)
  stream.write(Buffer.concat([head, json]))
}

/**
 * What comes first on a connection whose TLS began with the signals of a link ({@link EarlyHandshake}): a zero, which no TLS record
 * begins with (RFC 8446 §5.1), and the 16 bytes of the link's name.
 */
export function writeGreeting(name: string): Buffer {
  return Buffer.concat([Buffer.of(0), Buffer.from(name, 'hex')])
}

/**
 * @returns the name of the link; undefined when the connection begins with TLS, of which nothing is lost, or ends.
 * @throws the stream's error.
 */
export async function readGreeting(stream: Duplex): Promise<string | undefined> {
  const first = await readExactly(stream, 1)
  if (first === undefined) return undefined
  if (first[0] === 0) return (await readExactly(stream, 16))?.toString('hex')
  stream.unshift(first)
  return undefined
}

/**
 * The next message, leaving the stream paused right behind it: what follows belongs to somebody else.
 *
 * @returns undefined when the stream ended in good order before the first byte of a message.
 * @throws {PeerError} `ERR_NATWORK_PROTOCOL` for anything that is not such a message; the stream's own error if it broke.
 */
export async function readMessage<T>(
  stream: Duplex,
  schema: z.ZodType<T>,
  limit = maxMessage,
): Promise<T | undefined> {
  const head = await readExactly(stream, 2)
  if (head === undefined) return undefined
  const length = head.readUInt16BE()
  if (length === 0 || length > limit) throw malformed(`a message of ${length} bytes`)
  const body = await readExactly(stream, length)
  if (body === undefined) throw malformed('half a message')
  const parsed = schema.safeParse(parseJson(body), uncompiled)
  if (!parsed.success) throw malformed(z.prettifyError(parsed.error))
  return parsed.data
}

/** @returns undefined when the stream ended before the first of these bytes. */
export function readExactly(stream: Duplex, length: number): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void): void => {
      stream.off('readable', onReadable).off('end', onEnd).off('error', onError).off('close', onClose)
      act()
    }
    // In paused mode read(n) gives exactly n bytes, or what is left when the stream has ended.
    const onReadable = (): void => {
      const bytes = stream.read(length) as Buffer | null
      if (bytes === null) return
      if (bytes.length === length) settle(() => resolve(bytes))
      else settle(() => reject(malformed('half a message')))
    }
    const onEnd = (): void => settle(() => resolve(undefined))
    const onError = (error: Error): void => settle(() => reject(error))
    const onClose = (): void => settle(() => reject(stream.errored ?? malformed('the connection closed')))
    stream.on('readable', onReadable).on('end', onEnd).on('error', onError).on('close', onClose)
    if (stream.readableEnded) onEnd()
    else if (stream.destroyed) onClose()
    else onReadable()
  })
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}

function malformed(what: string): PeerError {
  return new PeerError('ERR_NATWORK_PROTOCOL', `the peer broke the request protocol: ${what}`)
}
