import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { NatworkError, PeerError } from '../../core/index.ts'
import { errnoOf, systemError } from '../errors.ts'
import { version } from '../version.ts'
import { readJsonLine, writeJsonLine } from './lines.ts'
import {
  greetingSchema,
  PROTOCOL,
  responseSchema,
  unpackError,
  type Greeting,
  type Request,
} from './protocol.ts'
import { ControlStream } from './stream.ts'

/**
 * Asks the node that runs here.
 *
 * @throws {NatworkError} `ERR_NATWORK_NO_NODE` when none runs, `ERR_NATWORK_CONTROL_VERSION` when it is another
 * version's, or what the node answered.
 */
export async function ask(path: string, request: Request, signal?: AbortSignal): Promise<unknown> {
  const { socket, result } = await send(path, request, signal)
  socket.destroy()
  return result
}

/** Like {@link ask}, for a request that is answered by a stream. */
export async function askForStream(path: string, request: Request, signal?: AbortSignal): Promise<Duplex> {
  const { socket } = await send(path, request, signal)
  return new ControlStream(socket)
}

/**
 * Like {@link ask}, for a request that the node goes on with until `close` is called: `onEvent` gets what it tells.
 * `ended` resolves after `close`, and rejects when the node went first.
 */
export async function askAndFollow(
  path: string,
  request: Request,
  signal: AbortSignal | undefined,
  onEvent: (event: unknown) => void,
): Promise<{ result: unknown; ended: Promise<void>; close: () => Promise<void> }> {
  const { socket, result } = await send(path, request, signal)
  let closing = false
  const follow = async (): Promise<void> => {
    let event: unknown
    while ((event = await readJsonLine(socket)) !== undefined) onEvent(event)
    socket.destroy()
    if (!closing) throw new PeerError('ERR_NATWORK_NODE_GONE', 'the node on this machine stopped')
  }
  const ended = follow()
  return {
    result,
    ended,
    async close() {
      closing = true
      // The node ends its side when it has let go of everything.
      socket.end()
      await ended
    },
  }
}

/** Connects, and reads who is there. The caller owns the socket. */
export async function readGreeting(
  path: string,
  signal?: AbortSignal,
): Promise<{ socket: Socket; greeting: Greeting }> {
  const socket = await dial(path, signal)
  try {
    return { socket, greeting: greetingSchema.parse(await readJsonLine(socket)) }
  } catch (error) {
    socket.destroy()
    signal?.throwIfAborted()
    throw systemError('ERR_NATWORK_CONTROL', `what listens on ${path} is no natwork node`, error)
  }
}

async function send(
  path: string,
  request: Request,
  signal: AbortSignal | undefined,
): Promise<{ socket: Socket; result: unknown }> {
  const { socket, greeting } = await readGreeting(path, signal)
  const abort = (): unknown => socket.destroy()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    if (greeting.protocol !== PROTOCOL) {
      throw new NatworkError(
        'ERR_NATWORK_CONTROL_VERSION',
        `the node that runs here is natwork ${greeting.natwork}, this command is ${version}: restart the node with this version`,
      )
    }
    writeJsonLine(socket, request)
    const line = await readJsonLine(socket)
    if (line === undefined) {
      throw new NatworkError('ERR_NATWORK_NO_NODE', 'the node on this machine stopped before it answered')
    }
    const response = responseSchema.parse(line)
    if (!response.ok) throw unpackError(response.error)
    return { socket, result: response.result }
  } catch (error) {
    socket.destroy()
    signal?.throwIfAborted()
    if (error instanceof NatworkError) throw error
    throw systemError('ERR_NATWORK_CONTROL', 'the answer of the node on this machine makes no sense', error)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

function dial(path: string, signal: AbortSignal | undefined): Promise<Socket> {
  signal?.throwIfAborted()
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true })
    const finish = (): void => {
      signal?.removeEventListener('abort', abort)
      socket.off('error', fail).off('connect', succeed)
    }
    const fail = (error: Error): void => {
      finish()
      reject(
        errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ECONNREFUSED'
          ? new NatworkError('ERR_NATWORK_NO_NODE', 'no node runs here: start one with `natwork up`')
          : systemError('ERR_NATWORK_CONTROL', `cannot open the control socket ${path}`, error),
      )
    }
    const succeed = (): void => {
      finish()
      // A later failure shows as the end of the socket; without a listener it would end the process.
      socket.on('error', () => undefined)
      resolve(socket)
    }
    const abort = (): void => {
      finish()
      socket.destroy()
      reject(signal?.reason as Error)
    }
    socket.once('error', fail).once('connect', succeed)
    signal?.addEventListener('abort', abort, { once: true })
  })
}
