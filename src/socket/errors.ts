import { getSystemErrorName } from 'node:util'
import { formatAddress, type SocketAddress } from '../core/address.ts'
import { SystemError, UsageError } from '../core/errors.ts'

export type SocketErrorCode =
  | 'ERR_NATWORK_SOCKET_ADDRESS'
  | 'ERR_NATWORK_SOCKET_BIND'
  | 'ERR_NATWORK_SOCKET_CLOSED'
  | 'ERR_NATWORK_SOCKET_DRIVER'
  | 'ERR_NATWORK_SOCKET_IN_USE'
  | 'ERR_NATWORK_SOCKET_NOT_AVAILABLE'
  | 'ERR_NATWORK_SOCKET_PERMISSION'

/** What the operating system said to a bind, in words that say what to do about it. */
export function bindError(at: SocketAddress, cause: unknown): SystemError<SocketErrorCode> {
  const where = formatAddress(at)
  switch (cause instanceof Error && 'code' in cause ? cause.code : undefined) {
    case 'EADDRINUSE':
      return new SystemError(
        'ERR_NATWORK_SOCKET_IN_USE',
        `UDP ${where} is in use by another program: stop that program or choose another port`,
        { cause },
      )
    case 'EACCES':
    case 'EPERM':
      return new SystemError(
        'ERR_NATWORK_SOCKET_PERMISSION',
        `no permission to bind UDP ${where}: choose a port above 1023, or run with the right to use low ports`,
        { cause },
      )
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
      return new SystemError(
        'ERR_NATWORK_SOCKET_NOT_AVAILABLE',
        `this machine has no address ${at.address}: bind one of its own, 0.0.0.0 (IPv4) or :: (IPv6 and IPv4)`,
        { cause },
      )
    default:
      return new SystemError(
        'ERR_NATWORK_SOCKET_BIND',
        `cannot bind UDP ${where}: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      )
  }
}

export function closedError(): UsageError<SocketErrorCode> {
  return new UsageError('ERR_NATWORK_SOCKET_CLOSED', 'the UDP endpoint is closed: bind a new one')
}

/** The native driver was asked for and cannot be had. */
export function driverError(cause: unknown): SystemError<SocketErrorCode> {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new SystemError(
    'ERR_NATWORK_SOCKET_DRIVER',
    `there is no native UDP driver here (${why}): ask for the driver "auto" or "dgram"`,
    { cause },
  )
}

export function sharedPortError(): SystemError<SocketErrorCode> {
  return new SystemError(
    'ERR_NATWORK_SOCKET_DRIVER',
    `sockets share a port with the native UDP driver only, or from Node.js 22.12 on; this is ${process.version}`,
  )
}

/** An errno as Node's own errors tell it: `code`, `errno`, `syscall`. */
export function systemCallError(syscall: string, errno: number): Error {
  const code = errno > 0 ? getSystemErrorName(-errno) : 'UNKNOWN'
  return Object.assign(new Error(`${syscall} ${code}`), { code, errno: -errno, syscall })
}
