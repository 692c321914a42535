import type { Duplex } from 'node:stream'
import { PeerError } from '../core/errors.ts'
import type { RefusalCode } from './errors.ts'
import type { NodeId } from './node-id.ts'
import { readMessage, replySchema, writeMessage, type Request } from './protocol.ts'
import type { SecureStream } from './secure-stream.ts'

/** A node's typed no. Thrown at the side that asked; at the side that answered it is what its `refused` event holds. */
export class RefusedError extends PeerError<RefusalCode> {}

/** Sends the request, with what is to be said `first` behind it, and waits for the answer. @throws {RefusedError} */
export async function ask(stream: SecureStream, request: Request, first?: Uint8Array): Promise<void> {
  stream.cork() // One TLS record, and where it fits one datagram.
  writeMessage(stream, request)
  if (first !== undefined && first.length > 0) stream.write(first)
  stream.uncork()
  await hear(stream, request)
}

/** Waits for the answer to a request that was sent. @throws {RefusedError} */
export async function hear(stream: SecureStream, request: Request): Promise<void> {
  const reply = await readMessage(stream, replySchema)
  if (reply === undefined) {
    throw new PeerError('ERR_NATWORK_PROTOCOL', `${stream.peer} ended the connection without an answer`)
  }
  if (!reply.ok) throw new RefusedError(reply.code, explain(reply.code, stream.peer, request))
}

export function accept(stream: SecureStream): void {
  writeMessage(stream, { ok: true })
}

/** Answers no, and lets the answer arrive: resolves when the connection is closed by both, or after `linger` ms. */
export async function refuse(stream: SecureStream, code: RefusalCode, linger: number): Promise<void> {
  writeMessage(stream, { ok: false, code })
  stream.end()
  stream.resume()
  await closed(stream, linger)
}

export async function closed(stream: Duplex, linger: number): Promise<void> {
  if (stream.closed) return
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => stream.destroy(), linger)
    stream.on('error', () => undefined)
    stream.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

/** What a code means, for people; `request` is what was refused. */
export function explain(
  code: RefusalCode,
  peer: NodeId,
  request: { readonly op: string; readonly service?: string; readonly to?: NodeId },
): string {
  const service = request.service === undefined ? 'this' : `"${request.service}"`
  switch (code) {
    case 'ERR_NATWORK_SERVICE_UNKNOWN':
      return `${peer} offers no service ${service}`
    case 'ERR_NATWORK_SERVICE_DENIED':
      return `${peer} offers no service ${service}, or not to this node: ask its owner for a ticket, or to allow this node's id`
    case 'ERR_NATWORK_SERVICE_UNREACHABLE':
      return `${peer} shares ${service}, but nothing answers on its local port: its owner must start the program there`
    case 'ERR_NATWORK_TICKET_EXPIRED':
      return `the ticket's time is over: ask the owner of ${peer} for a new one`
    case 'ERR_NATWORK_TICKET_USED_UP':
      return `the ticket has been used by as many nodes as it is good for: ask the owner of ${peer} for a new one`
    case 'ERR_NATWORK_TICKET_REVOKED':
      return `the ticket is no longer known to ${peer}: ask its owner for a new one`
    case 'ERR_NATWORK_TICKET_INVALID':
      return `the ticket is not one of ${peer} for ${service}`
    case 'ERR_NATWORK_BUSY':
      return `${peer} carries as many connections as it is willing to: try again later`
    case 'ERR_NATWORK_CONTROL_DENIED':
      return `${peer} does not know this node`
    case 'ERR_NATWORK_NOT_ATTACHED':
      return `${peer} has no way to ${request.to ?? 'that node'}`
    case 'ERR_NATWORK_IDENTITY':
      return `${peer} was asked for as ${request.to ?? 'another node'}`
    case 'ERR_NATWORK_PROTOCOL':
      return `${peer} did not understand the request: update natwork on both machines`
  }
}
