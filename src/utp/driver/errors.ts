import type { SocketAddress } from '../../core/address.ts'
import { UsageError } from '../../core/errors.ts'

/** Mistakes in the use of {@link UtpServer} and {@link UtpStream}. */
export type UtpServerErrorCode =
  | 'ERR_NATWORK_UTP_ADDRESS'
  | 'ERR_NATWORK_UTP_NOT_STARTED'
  | 'ERR_NATWORK_UTP_STOPPED'
  | 'ERR_NATWORK_UTP_DESTROYED'

export function addressError(at: SocketAddress): UsageError<UtpServerErrorCode> {
  return new UsageError(
    'ERR_NATWORK_UTP_ADDRESS',
    `"${at.address}" is not an IP address: look the name up first, for example with dns.lookup`,
  )
}

export function notStartedError(): UsageError<UtpServerErrorCode> {
  return new UsageError(
    'ERR_NATWORK_UTP_NOT_STARTED',
    'the uTP server is not running: call start() and wait for it',
  )
}

export function stoppedError(): UsageError<UtpServerErrorCode> {
  return new UsageError(
    'ERR_NATWORK_UTP_STOPPED',
    'the uTP server was stopped while this connection was open',
  )
}

export function destroyedError(): UsageError<UtpServerErrorCode> {
  return new UsageError('ERR_NATWORK_UTP_DESTROYED', 'the stream was destroyed before this was sent')
}
