import { isIPv6 } from 'node:net'
import { TurnUsageError } from './errors.ts'

/** A `turn:` or `turns:` URI, taken apart (RFC 7065). */
export interface TurnUri {
  /** `turns`: over TLS. */
  readonly scheme: 'turn' | 'turns'
  /** A DNS name, or an IP literal without brackets. */
  readonly host: string
  /** Absent: found by DNS (RFC 5928), else 3478, or 5349 for `turns`. */
  readonly port: number | undefined
  /** To the server; absent: whatever works. */
  readonly transport: 'udp' | 'tcp' | undefined
}

/**
 * Reads `turn:relay.example.org`, `turn:192.0.2.1:3478?transport=udp`, `turns:relay.example.org:443` and the like.
 *
 * @throws {TurnUsageError} `ERR_NATWORK_TURN_URI` for anything else, and for TLS over UDP.
 */
export function parseTurnUri(text: string): TurnUri {
  const match =
    /^(turns?):(?:\[([0-9a-f:.]+)\]|([\w.~!$&'()*+,;=%-]+))(?::(\d*))?(?:\?transport=([\w.~-]+))?$/i.exec(
      text,
    )
  const scheme = match?.[1]?.toLowerCase() === 'turns' ? 'turns' : 'turn'
  const host = match?.[2] ?? match?.[3]
  const port = match?.[4] === undefined || match[4] === '' ? undefined : Number(match[4])
  const transport = match?.[5]?.toLowerCase()
  if (
    host === undefined ||
    (match?.[2] !== undefined && !isIPv6(host)) ||
    (port !== undefined && (port < 1 || port > 65535))
  ) {
    throw uriError(text, 'write turn:relay.example.org, turn:192.0.2.1:3478 or turns:relay.example.org:443')
  }
  if (transport !== undefined && transport !== 'udp' && transport !== 'tcp') {
    throw uriError(text, `transport "${transport}" is not known: write udp or tcp, or leave it out`)
  }
  if (scheme === 'turns' && transport === 'udp') {
    throw uriError(text, 'turns: is TLS over TCP: leave transport=udp out')
  }
  return { scheme, host, port, transport }
}

export function formatTurnUri({ scheme, host, port, transport }: TurnUri): string {
  const where = isIPv6(host) ? `[${host}]` : host
  return `${scheme}:${where}${port === undefined ? '' : `:${port}`}${transport === undefined ? '' : `?transport=${transport}`}`
}

function uriError(text: string, advice: string): TurnUsageError {
  return new TurnUsageError('ERR_NATWORK_TURN_URI', `"${text}" is not a TURN URI that can be used: ${advice}`)
}
