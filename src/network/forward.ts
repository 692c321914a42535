import { EventEmitter, once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import type { SocketAddress } from '../core/address.ts'
import { NatworkError, SystemError } from '../core/errors.ts'
import type { ExhaustiveBudget } from '../ice/index.ts'
import { asError, errno } from './errors.ts'
import type { NodeId } from './node-id.ts'
import type { SecureStream } from './secure-stream.ts'
import { resetSocket } from './reset.ts'
import { splice } from './splice.ts'

export interface ForwardOptions {
  /** Local address to listen on, `127.0.0.1` by default: anything else lets other machines use the peer's service. */
  readonly host?: string
  /** Local TCP port; 0 takes a free one. */
  readonly port: number
  readonly to: ForwardTarget
  /** Closes the forward. */
  readonly signal?: AbortSignal
}

export interface ForwardTarget {
  readonly id: NodeId
  readonly service: string
  /** A ticket's text. */
  readonly ticket?: string
  /** Where the caller believes the node to be, as in `network.connect`. */
  readonly addresses?: readonly SocketAddress[]
  /** As in `network.connect`. */
  readonly exhaustive?: boolean | ExhaustiveBudget
}

export interface ForwardEvents {
  /** A local connection got no pipe, or lost it to the peer or the network; it was reset. */
  failed: [error: Error]
  /** No more connections are accepted; those open go on. */
  close: []
}

/** More local connections than this at a time are refused: the local machine is not trusted with our memory either. */
const maxConnections = 4_096

type Connect = (signal: AbortSignal, first: () => Buffer | undefined) => Promise<SecureStream>

/** A local TCP port that leads to another node's service: one pipe per accepted connection. */
export class Forward extends EventEmitter<ForwardEvents> {
  readonly address: SocketAddress
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #past = { sent: 0, received: 0 }

  /** @internal Use `network.forward`. */
  static async open(
    { host = '127.0.0.1', port, signal }: ForwardOptions,
    connect: Connect,
  ): Promise<Forward> {
    signal?.throwIfAborted()
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, pauseOnConnect: true })
    server.maxConnections = maxConnections
    try {
      server.listen({ host, port })
      await once(server, 'listening')
    } catch (error) {
      throw cannotListen(host, port, error)
    }
    const forward = new Forward(server, connect)
    const abort = (): void => void forward.close()
    signal?.addEventListener('abort', abort)
    server.once('close', () => signal?.removeEventListener('abort', abort))
    if (signal?.aborted === true) abort()
    return forward
  }

  private constructor(server: Server, connect: Connect) {
    super()
    this.#server = server
    const bound = server.address()
    if (bound === null || typeof bound === 'string') throw new TypeError('not a TCP server')
    this.address = { address: bound.address, port: bound.port }
    server.on('connection', (socket) => void this.#join(socket, connect))
    server.once('close', () => this.emit('close'))
  }

  /** Bytes that all its connections have moved so far, to and from the peer's service. */
  get moved(): { sent: number; received: number } {
    let { sent, received } = this.#past
    for (const { bytesRead, bytesWritten } of this.#sockets) {
      sent += bytesRead
      received += bytesWritten
    }
    return { sent, received }
  }

  /** Stops accepting and resets what is open. Idempotent. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) resetSocket(socket)
    if (!this.#server.listening) return
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #join(socket: Socket, connect: Connect): Promise<void> {
    const gone = new AbortController()
    this.#sockets.add(socket)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      this.#past.sent += socket.bytesRead
      this.#past.received += socket.bytesWritten
      gone.abort()
    })
    socket.on('error', () => undefined)
    socket.read(0) // What the local program says meanwhile goes along with the request.
    try {
      const broken = await splice(socket, await connect(gone.signal, () => saidBy(socket)))
      // What the local program broke off is its own affair.
      if (broken instanceof NatworkError) this.emit('failed', broken)
    } catch (error) {
      if (!gone.signal.aborted) this.emit('failed', asError(error))
      resetSocket(socket)
    }
  }
}

/** All that waits to be read; since Node 26 each read gives what one packet brought. */
function saidBy(socket: Socket): Buffer | undefined {
  const parts: Buffer[] = []
  for (let part: Buffer | null; (part = socket.read() as Buffer | null) !== null;) parts.push(part)
  return parts.length > 1 ? Buffer.concat(parts) : parts[0]
}

function cannotListen(host: string, port: number, cause: unknown): SystemError {
  const why =
    errno(cause) === 'EADDRINUSE'
      ? 'another program listens there: stop it, or choose another port'
      : errno(cause) === 'EACCES'
        ? 'ports below 1024 need more rights: choose a higher one'
        : asError(cause).message
  return new SystemError('ERR_NATWORK_BIND', `cannot listen on TCP ${host} port ${port}: ${why}`, { cause })
}
