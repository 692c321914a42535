import { PeerError, UsageError } from '../core/errors.ts'

/** Why a connection ended without both sides ending it in order. */
export type UtpErrorCode =
  | 'ERR_NATWORK_UTP_RESET'
  | 'ERR_NATWORK_UTP_REFUSED'
  | 'ERR_NATWORK_UTP_TIMEOUT'
  | 'ERR_NATWORK_UTP_CONNECT_TIMEOUT'

/** Mistakes of the calling program. */
export type UtpUsageCode = 'ERR_NATWORK_UTP_WRITE_AFTER_END' | 'ERR_NATWORK_UTP_LIMIT'

export type UtpError = PeerError<UtpErrorCode>

const messages: Record<UtpErrorCode, (peer: string) => string> = {
  ERR_NATWORK_UTP_RESET: (peer) =>
    `${peer} reset the connection: the program there closed it at once or was restarted; connect again`,
  ERR_NATWORK_UTP_REFUSED: (peer) =>
    `${peer} refused the connection: a uTP socket is there, but it takes no connections now`,
  ERR_NATWORK_UTP_TIMEOUT: (peer) =>
    `${peer} has not answered for too long: it is gone or the path to it is broken; check the network, then connect again`,
  ERR_NATWORK_UTP_CONNECT_TIMEOUT: (peer) =>
    `${peer} did not answer: check the address, that it is running, and that no firewall drops UDP between you`,
}

export function utpError(code: UtpErrorCode, peer: string): UtpError {
  return new PeerError(code, messages[code](peer))
}

export function utpUsageError(code: UtpUsageCode, message: string): UsageError<UtpUsageCode> {
  return new UsageError(code, message)
}
