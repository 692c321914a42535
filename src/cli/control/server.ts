import { lstatSync, unlinkSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import type { Duplex } from 'node:stream'
import { NatworkError, UsageError, type Logger } from '../../core/index.ts'
import { makePrivateFolder } from '../folders.ts'
import { splice } from '../../network/splice.ts'
import { errnoOf, systemError } from '../errors.ts'
import { version } from '../version.ts'
import { readGreeting } from './client.ts'
import { readJsonLine, writeJsonLine } from './lines.ts'
import { packError, PROTOCOL, requestSchema, type Greeting, type Request } from './protocol.ts'
import { ControlStream } from './stream.ts'

/**
 * What a request gets: a JSON value, a stream that is carried over the socket from then on, or a value and something
 * that is held for as long as the command stays connected.
 */
export type Answer = { readonly result: unknown; readonly held?: Held } | { readonly stream: Duplex }

export interface Held {
  /** Resolves when it ended by itself. */
  readonly ended: Promise<void>
  close(): Promise<void>
}

/** `tell` sends an event to the command, after the answer. */
export type Handler = (
  request: Request,
  signal: AbortSignal,
  tell: (event: object) => void,
) => Promise<Answer>

/** Connections at once. Only the owner of the node can open one, but a loop in a script must not take the node down. */
const MAX_CONNECTIONS = 4_096

/** Milliseconds that a command may take to say what it wants. */
const REQUEST_TIMEOUT = 10_000

export interface ControlServer {
  close(): Promise<void>
}

/**
 * Listens on a Unix socket that only its owner may open (mode 0600, in a folder of mode 0700). Also the lock that
 * keeps a second node away: a socket that nobody answers on is a dead node's and is replaced.
 *
 * @throws {NatworkError} `ERR_NATWORK_NODE_RUNS`
 * @throws {SystemError} `ERR_NATWORK_CONTROL`
 */
export async function startControlServer(
  path: string,
  handler: Handler,
  logger: Logger,
): Promise<ControlServer> {
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: false }, (socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
    socket.on('error', (error) => logger.debug('control connection failed', { error: error.message }))
    void serve(socket, handler).catch((error: unknown) => {
      logger.debug('control request failed', { error: String(error) })
      socket.destroy()
    })
  })
  server.maxConnections = MAX_CONNECTIONS
  makePrivateFolder(dirname(path))
  await claim(server, path)
  return {
    async close() {
      // Closing the server also removes the socket's file.
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}

async function claim(server: Server, path: string): Promise<void> {
  try {
    await listen(server, path)
    return
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE') throw controlError(path, error)
  }
  const running = await whoRuns(path)
  if (running !== undefined) {
    throw new NatworkError(
      'ERR_NATWORK_NODE_RUNS',
      `a node already runs here (pid ${running.pid}): use it with \`natwork status\`, or stop it first with Ctrl-C or \`kill ${running.pid}\``,
    )
  }
  try {
    // Never remove something that a mistaken setting points at.
    if (lstatSync(path).isSocket()) unlinkSync(path)
    await listen(server, path)
  } catch (error) {
    throw controlError(path, error)
  }
}

const controlError = (path: string, error: unknown): NatworkError =>
  systemError('ERR_NATWORK_CONTROL', `cannot open the control socket ${path}`, error)

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // The socket is made inside listen(): a umask is the only way to give it its mode from the first moment.
    const umask = process.umask(0o177)
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
    process.umask(umask)
  })
}

async function whoRuns(path: string): Promise<Greeting | undefined> {
  try {
    const { socket, greeting } = await readGreeting(path)
    socket.destroy()
    return greeting
  } catch {
    return undefined
  }
}

async function serve(socket: Socket, handler: Handler): Promise<void> {
  writeJsonLine(socket, { natwork: version, protocol: PROTOCOL, pid: process.pid } satisfies Greeting)
  socket.setTimeout(REQUEST_TIMEOUT, () => socket.destroy())
  const line = await readJsonLine(socket)
  if (line === undefined) {
    socket.end()
    return
  }
  socket.setTimeout(0)
  const gone = new AbortController()
  const abort = (): void => gone.abort()
  // A command says nothing more before the answer: the end of its side means that it was stopped.
  const look = (): unknown => socket.read(0)
  socket.on('readable', look).once('end', abort).once('close', abort)
  const early: object[] = []
  let tell = (event: object): unknown => early.push(event)
  let answer: Answer
  try {
    answer = await handler(readRequest(line), gone.signal, (event) => tell(event))
  } catch (error) {
    writeJsonLine(socket, { ok: false, error: packError(error) })
    socket.end()
    return
  }
  socket.off('readable', look).off('end', abort).off('close', abort)
  writeJsonLine(socket, { ok: true, result: 'result' in answer ? answer.result : {} })
  if ('stream' in answer) {
    const broken = await splice(new ControlStream(socket), answer.stream)
    if (broken !== undefined) throw broken
    return
  }
  if (answer.held !== undefined) {
    for (const event of early) writeJsonLine(socket, event)
    tell = (event) => !socket.destroyed && writeJsonLine(socket, event)
    const left = new Promise<void>((resolve) => socket.once('end', resolve).once('close', resolve).resume())
    if (socket.readableEnded || socket.destroyed) abort()
    if (!gone.signal.aborted) await Promise.race([left, answer.held.ended])
    await answer.held.close()
  }
  socket.end()
}

function readRequest(line: unknown): Request {
  const { success, data } = requestSchema.safeParse(line)
  if (success) return data
  throw new UsageError('ERR_NATWORK_CONTROL', 'the node on this machine does not understand that request')
}
