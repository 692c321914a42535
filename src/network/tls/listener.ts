import { createServer, type Server, type Socket } from 'node:net'
import { formatAddress, type SocketAddress } from '../../core/address.ts'
import { SystemError } from '../../core/errors.ts'
import type { Logger } from '../../core/logger.ts'
import { sourceKey } from '../../turn/server/limits.ts'
import { asError } from '../errors.ts'
import { alpn } from '../handshake.ts'
import { defaultTlsPort } from '../helper-reference.ts'
import { Quota } from '../quota.ts'
import { maxClientHello, offeredProtocols } from './client-hello.ts'
import { TcpStream, unmapped } from './tcp-stream.ts'

export interface TlsListenerOptions {
  readonly host: string
  /** Absent: {@link defaultTlsPort} where that may be had, else `fallback`, else none. */
  readonly port: number | undefined
  readonly fallback: number
  /** A connection that offers {@link alpn}: TLS has not begun yet. */
  readonly onNode: (stream: TcpStream) => void
  /** Any other TLS connection, which is for the relay; absent: closed. */
  readonly onRelay: ((socket: Socket) => void) | undefined
  readonly logger: Logger
}

/** Connections that have not said yet what they are for, in total and from one address (IPv6: one /64). */
const maxSilent = 512
const maxSilentPerSource = 64
/** Milliseconds for a connection to say it. */
const patience = 5_000

/**
 * One TCP port for nodes and for clients of the relay, told apart by what they offer inside TLS (ALPN, RFC 7301).
 *
 * Bounded: connections that have said nothing yet by {@link maxSilent} and {@link patience}, their bytes by
 * {@link maxClientHello}; the others by those who take them: the acceptor's quotas, the relay's.
 */
export class TlsListener {
  /** What is bound. */
  readonly address: SocketAddress
  readonly #server: Server
  readonly #options: TlsListenerOptions
  readonly #silent = new Quota<string>(maxSilent, maxSilentPerSource)
  /** All that are open. */
  readonly #sockets = new Set<Socket>()

  private constructor(server: Server, options: TlsListenerOptions) {
    const at = server.address()
    this.address = at !== null && typeof at === 'object' ? at : { address: options.host, port: 0 }
    this.#server = server
    this.#options = options
    server.on('connection', (socket) => this.#accept(socket))
    server.on('error', (error) =>
      options.logger.warn('a TCP connection was not taken', { error: error.message }),
    )
  }

  /**
   * @returns undefined when no port was asked for and none can be had.
   * @throws {SystemError} `ERR_NATWORK_BIND` when the one that was asked for is taken or forbidden.
   */
  static async open(options: TlsListenerOptions): Promise<TlsListener | undefined> {
    const { host, port, fallback, logger } = options
    const ports = port === undefined ? [defaultTlsPort, fallback] : [port]
    for (const one of ports) {
      try {
        return new TlsListener(await bind(host, one), options)
      } catch (error) {
        const at = formatAddress({ address: host, port: one })
        const why = asError(error).message
        if (port !== undefined) {
          throw new SystemError('ERR_NATWORK_BIND', `cannot listen on TCP ${at} for TLS: ${why}`, {
            cause: error,
          })
        }
        logger.info('no TLS on this port', { at, why })
      }
    }
    logger.warn('nodes whose networks block UDP cannot be helped: no TCP port can be had for TLS', { ports })
    return undefined
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #accept(socket: Socket): void {
    const release = this.#silent.take(sourceKey(unmapped(socket.remoteAddress ?? '')))
    socket.on('error', () => socket.destroy())
    if (release === undefined || socket.remoteAddress === undefined) {
      release?.()
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      release()
    })
    void firstOffer(socket).then((offered) => {
      release()
      if (offered === undefined) socket.destroy()
      else this.#dispatch(socket, offered)
    })
  }

  #dispatch(socket: Socket, offered: readonly string[]): void {
    const { onNode, onRelay } = this.#options
    if (offered.includes(alpn)) onNode(new TcpStream(socket))
    else if (onRelay !== undefined) onRelay(socket)
    else socket.destroy()
  }
}

function bind(host: string, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ host, port }, () => {
      server.off('error', reject)
      resolve(server)
    })
  })
}

/** What the ClientHello offers, which stays in the socket; undefined when none comes in time. */
function firstOffer(socket: Socket): Promise<readonly string[] | undefined> {
  return new Promise((resolve) => {
    let got: Buffer = Buffer.alloc(0)
    const settle = (offered: readonly string[] | undefined): void => {
      clearTimeout(timer)
      socket.off('readable', onReadable).off('close', onClose)
      if (got.length > 0) socket.unshift(got)
      resolve(offered)
    }
    const onClose = (): void => settle(undefined)
    const onReadable = (): void => {
      for (let chunk: unknown = socket.read(); chunk !== null; chunk = socket.read()) {
        got = Buffer.concat([got, chunk as Buffer])
      }
      const offered = offeredProtocols(got)
      if (offered === false || (offered === undefined && got.length > maxClientHello)) settle(undefined)
      else if (offered !== undefined) settle(offered)
    }
    const timer = setTimeout(onClose, patience)
    socket.on('readable', onReadable).once('close', onClose)
  })
}
