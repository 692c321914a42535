import {
  createServer as createHttpServer,
  request,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { PeerError, UsageError, type Logger } from '../../core/index.ts'
import { exitCodeOf, exitCodes } from '../exit-codes.ts'
import { resetSocket } from '../../network/reset.ts'
import { splice } from '../../network/splice.ts'
import { encodeSocksReply, SocksHandshake, type SocksReply } from './socks5.ts'

/** Opens the stream for a host name of the form NAME.PEER.natwork. */
export type OpenHost = (host: string, signal: AbortSignal) => Promise<Duplex>

export interface ProxyServer extends Server {
  /** Ends every connection at once. */
  dropClients(): void
}

/** Clients at once; each holds a pipe. */
const MAX_CLIENTS = 1_024

/** Milliseconds that a client may take to say what it wants. */
const REQUEST_TIMEOUT = 30_000

/**
 * One TCP server that is an HTTP proxy (CONNECT, and plain http:// requests) and a SOCKS 5 proxy: the first byte tells
 * which a client speaks. Reaches only what `open` opens.
 */
export function createProxyServer(open: OpenHost, logger: Logger): ProxyServer {
  const http = createHttpProxy(open, logger)
  const clients = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    clients.add(socket)
    socket.once('close', () => clients.delete(socket))
    socket.on('error', (error) => logger.debug('a client of the proxy broke off', { error: error.message }))
    socket.setTimeout(REQUEST_TIMEOUT, () => socket.destroy())
    socket.once('readable', () => {
      const first = socket.read() as Buffer | null
      if (first === null) {
        socket.destroy()
        return
      }
      socket.unshift(first)
      if (first[0] === 5) serveSocks(socket, open, logger)
      else http.emit('connection', socket)
    })
  })
  server.maxConnections = MAX_CLIENTS
  server.on('close', () => http.close())
  return Object.assign(server, {
    dropClients: () => {
      for (const socket of clients) resetSocket(socket)
    },
  })
}

function serveSocks(socket: Socket, open: OpenHost, logger: Logger): void {
  const handshake = new SocksHandshake()
  // Who ends before the request is whole has nothing more to say.
  const onEnd = (): void => void socket.destroy()
  const onReadable = (): void => {
    let step
    do {
      const chunk = socket.read() as Buffer | null
      if (chunk === null) return
      step = handshake.push(chunk)
      if (step.reply.length > 0) socket.write(step.reply)
    } while (step.state === 'more')
    socket.off('readable', onReadable)
    socket.off('end', onEnd)
    if (step.state === 'failed') {
      logger.debug('a SOCKS client was refused', { why: step.why })
      socket.end()
      return
    }
    if (step.rest.length > 0) socket.unshift(step.rest)
    carry(socket, step.host, open, {
      accept: () => socket.write(encodeSocksReply('succeeded')),
      refuse: (error) => {
        logger.info(`proxy: ${error.message}`, { host: step.host })
        socket.end(encodeSocksReply(socksReplyFor(error)))
      },
    })
  }
  socket.on('readable', onReadable)
  socket.once('end', onEnd)
  onReadable()
}

function createHttpProxy(open: OpenHost, logger: Logger): ReturnType<typeof createHttpServer> {
  const http = createHttpServer((incoming, response) => {
    void forwardRequest(incoming, response, open).catch((error: unknown) => {
      logger.info(`proxy: ${(error as Error).message}`, { host: incoming.headers.host })
      if (response.headersSent) response.destroy()
      else response.writeHead(httpStatusFor(error), plainText).end(`natwork: ${(error as Error).message}\n`)
    })
  })
  http.on('connect', (incoming: IncomingMessage, socket: Socket, ahead: Buffer) => {
    if (ahead.length > 0) socket.unshift(ahead)
    const host = hostOf(incoming.url ?? '')
    carry(socket, host, open, {
      accept: () => socket.write('HTTP/1.1 200 Connection established\r\n\r\n'),
      refuse: (error) => {
        logger.info(`proxy: ${error.message}`, { host })
        const body = `natwork: ${error.message}\n`
        socket.end(
          `HTTP/1.1 ${httpStatusFor(error)} Refused\r\ncontent-type: text/plain\r\n` +
            `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
        )
      },
    })
  })
  return http
}

/** Opens the stream and joins it to the client's; gives up when the client goes first. */
function carry(
  socket: Socket,
  host: string,
  open: OpenHost,
  answer: { accept: () => void; refuse: (error: Error) => void },
): void {
  socket.setTimeout(0)
  const gone = new AbortController()
  const abort = (): void => gone.abort()
  socket.once('close', abort)
  open(host, gone.signal)
    .then((stream) => {
      socket.off('close', abort)
      answer.accept()
      return splice(socket, stream)
    })
    .catch((error: unknown) => {
      if (socket.destroyed) return
      // Who does not close after that must not keep its place for ever.
      socket.setTimeout(REQUEST_TIMEOUT)
      answer.refuse(error as Error)
    })
}

// RFC 9112 §3.2.2: a request to a proxy names its target in absolute form.
async function forwardRequest(
  incoming: IncomingMessage,
  response: ServerResponse,
  open: OpenHost,
): Promise<void> {
  const target = URL.canParse(incoming.url ?? '') ? new URL(incoming.url ?? '') : undefined
  if (target?.protocol !== 'http:') {
    throw new UsageError(
      'ERR_NATWORK_ARGUMENT',
      'this is a proxy: tell your program to use it for http://NAME.ID.natwork/',
    )
  }
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const stream = await open(target.hostname, gone.signal)
  await new Promise<void>((resolve, reject) => {
    const outgoing = request(
      {
        method: incoming.method,
        path: target.pathname + target.search,
        headers: endToEnd(incoming.rawHeaders, hopByHop(incoming)),
        setHost: false,
        createConnection: () => stream,
      },
      (answer) => {
        response.writeHead(
          answer.statusCode ?? 502,
          answer.statusMessage,
          endToEnd(answer.rawHeaders, hopByHop(answer)),
        )
        answer.pipe(response)
        answer.once('error', reject)
        response.once('close', resolve)
      },
    )
    outgoing.once('error', reject)
    response.once('close', () => outgoing.destroy())
    incoming.pipe(outgoing)
  })
}

// RFC 9110 §7.6.1: Connection names what is only for the next hop; these are it without being named.
const alwaysHopByHop = ['connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade']

function hopByHop(message: IncomingMessage): Set<string> {
  const named = message.headers.connection?.toLowerCase().split(',') ?? []
  return new Set([...alwaysHopByHop, 'proxy-authorization', ...named.map((name) => name.trim())])
}

function endToEnd(rawHeaders: readonly string[], dropped: ReadonlySet<string>): Record<string, string[]> {
  const headers: Record<string, string[]> = {}
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (!dropped.has(name.toLowerCase())) (headers[name] ??= []).push(rawHeaders[i + 1] ?? '')
  }
  return headers
}

const plainText = { 'content-type': 'text/plain; charset=utf-8' }

/** The host of `host:port`. The port has no meaning here: a service has a name instead. */
const hostOf = (authority: string): string => authority.replace(/:\d*$/, '')

function httpStatusFor(error: unknown): number {
  if (error instanceof UsageError) return 400
  if (exitCodeOf(error) === exitCodes.refused[0]) return 403
  return error instanceof PeerError ? 504 : 502
}

function socksReplyFor(error: unknown): SocksReply {
  if (error instanceof UsageError || exitCodeOf(error) === exitCodes.refused[0]) return 'notAllowed'
  return error instanceof PeerError ? 'hostUnreachable' : 'generalFailure'
}
