import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { formatAddress, type SocketAddress } from '../../../core/address.ts'
import { TurnPeerError } from '../../errors.ts'
import { TURN_ALPN } from '../../protocol/index.ts'
import type { HttpProxy } from './proxy.ts'

/** Where a TCP or TLS connection goes, and how. The same for the control connection and RFC 6062's data connections. */
export interface DialTarget {
  /** The name that TLS checks the certificate by, and what a proxy is asked for. */
  readonly host: string
  readonly port: number
  /** Absent: through the proxy, which resolves the name. */
  readonly address: SocketAddress | undefined
  readonly proxy: HttpProxy | undefined
  readonly tls: DialTls | undefined
}

export interface DialTls {
  readonly ca: string | Buffer | undefined
  /** Whether it is the right server, in place of what its certificate names and who signed it. Throws when it is not. */
  readonly check?: (socket: TLSSocket) => void
}

/**
 * Makes the connection: TCP, through the proxy where there is one, then TLS where wanted.
 *
 * @throws {TurnPeerError} `ERR_NATWORK_TURN_CONNECTION`; `ERR_NATWORK_TURN_PROXY` when the proxy says no.
 * @throws the signal's reason.
 */
export async function dial(target: DialTarget, signal: AbortSignal): Promise<Socket> {
  const { host, port, address, proxy, tls } = target
  const late = AbortSignal.any([signal, AbortSignal.timeout(DIAL_TIMEOUT)])
  const where = address === undefined ? `${host}:${port}` : formatAddress(address)
  try {
    let socket: Socket
    if (proxy === undefined) {
      const direct = connectTcp({ host: address?.address ?? host, port, noDelay: true })
      socket = await opened(direct, 'connect', late)
    } else {
      socket = await tunnel(proxy, host, port, late)
    }
    if (tls === undefined) return socket
    const { ca, check } = tls
    const secured = connectTls({
      socket,
      host,
      minVersion: 'TLSv1.2',
      ALPNProtocols: [TURN_ALPN],
      ...(isIP(host) === 0 && { servername: host }),
      ...(ca !== undefined && { ca }),
      rejectUnauthorized: check === undefined,
    })
    await opened(secured, 'secureConnect', late)
    try {
      check?.(secured)
    } catch (error) {
      secured.destroy()
      throw error
    }
    return secured
  } catch (cause) {
    signal.throwIfAborted()
    if (cause instanceof TurnPeerError) throw cause
    const why = late.aborted
      ? `not in ${DIAL_TIMEOUT / 1_000} s`
      : cause instanceof Error
        ? cause.message
        : ''
    throw new TurnPeerError('ERR_NATWORK_TURN_CONNECTION', `no connection to the relay ${where}: ${why}`, {
      cause,
    })
  }
}

/** RFC 9110 §9.3.6. */
async function tunnel(proxy: HttpProxy, host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const plain = connectTcp({ host: proxy.host, port: proxy.port, noDelay: true })
  let socket = await opened(plain, 'connect', signal)
  if (proxy.secure) {
    const servername = isIP(proxy.host) === 0 ? { servername: proxy.host } : {}
    socket = await opened(connectTls({ socket, host: proxy.host, ...servername }), 'secureConnect', signal)
  }
  const authority = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`]
  if (proxy.authorization !== undefined) lines.push(`Proxy-Authorization: ${proxy.authorization}`)
  socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  const answer = await header(socket, signal)
  const status = /^HTTP\/1\.\d (\d{3})/.exec(answer)?.[1]
  if (status?.startsWith('2') === true) return socket
  socket.destroy()
  const line = answer.split('\r\n', 1)[0] ?? ''
  throw new TurnPeerError(
    'ERR_NATWORK_TURN_PROXY',
    `the HTTP proxy ${proxy.host}:${proxy.port} does not connect us to ${authority}: ` +
      (status === '407' ? 'it wants a user and a password: http://user:password@… in HTTPS_PROXY' : line),
  )
}

/** The socket, once it is what it was to become; destroyed when it is not. */
function opened<T extends Socket>(
  socket: T,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      signal.removeEventListener('abort', onAbort)
      socket.off('error', onError).off('close', onClose).off(event, onOpen)
    }
    const fail = (error: unknown): void => {
      settle()
      socket.on('error', () => undefined).destroy()
      reject(error instanceof Error ? error : new Error(String(error)))
    }
    const onOpen = (): void => {
      settle()
      resolve(socket)
    }
    const onError = (error: Error): void => fail(error)
    const onClose = (): void => fail(new Error('the connection was closed'))
    const onAbort = (): void => fail(signal.reason)
    if (signal.aborted) {
      fail(signal.reason)
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('error', onError).once('close', onClose).once(event, onOpen)
  })
}

/** The head of the proxy's answer; what follows stays in the socket. */
function header(socket: Socket, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = Buffer.alloc(0)
    const settle = (): void => {
      signal.removeEventListener('abort', onAbort)
      socket.off('readable', onReadable).off('error', fail).off('close', onClose)
    }
    const fail = (error: unknown): void => {
      settle()
      socket.on('error', () => undefined).destroy()
      reject(error instanceof Error ? error : new Error(String(error)))
    }
    const onClose = (): void => fail(new Error('the HTTP proxy closed the connection'))
    const onAbort = (): void => fail(signal.reason)
    const onReadable = (): void => {
      for (let chunk: unknown = socket.read(); chunk !== null; chunk = socket.read()) {
        got = Buffer.concat([got, chunk as Buffer])
        const end = got.indexOf('\r\n\r\n')
        if (end !== -1) {
          settle()
          const rest = got.subarray(end + 4)
          if (rest.length > 0) socket.unshift(rest)
          resolve(got.subarray(0, end).toString('latin1'))
          return
        }
        if (got.length > MAX_HEADER) {
          fail(new Error('the HTTP proxy’s answer has no end'))
          return
        }
      }
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('readable', onReadable).once('error', fail).once('close', onClose)
  })
}

/** ms, for all of it. */
const DIAL_TIMEOUT = 15_000
const MAX_HEADER = 16_384
