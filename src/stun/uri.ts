import { isIP, isIPv6 } from 'node:net'
import { StunUsageError } from './errors.ts'

/** A `stun:` or `stuns:` URI, taken apart (RFC 7064). */
export interface StunUri {
  /** `stuns`: over TLS. */
  readonly scheme: 'stun' | 'stuns'
  /** A DNS name, or an IP literal without brackets. */
  readonly host: string
  /** Absent: found by DNS SRV, else 3478, or 5349 for `stuns` (RFC 8489 §8.1). */
  readonly port: number | undefined
}

export const DEFAULT_PORT = 3478
export const DEFAULT_TLS_PORT = 5349

/**
 * Reads `stun:stun.example.org`, `stun:192.0.2.1:3478`, `stuns:[…]` and the like.
 *
 * @throws {StunUsageError} `ERR_NATWORK_STUN_URI` for anything else, and for a `stuns:` URI with an IP address: TLS
 * needs a name to check the certificate by (RFC 8489 §8.1).
 */
export function parseStunUri(text: string): StunUri {
  const match = /^(stuns?):(?:\[([0-9a-f:.]+)\]|([\w.~!$&'()*+,;=%-]+))(?::(\d*))?$/i.exec(text)
  const scheme = match?.[1]?.toLowerCase() === 'stuns' ? 'stuns' : 'stun'
  const host = match?.[2] ?? match?.[3]
  const port = match?.[4] === undefined || match[4] === '' ? undefined : Number(match[4])
  const isLiteral = match?.[2] !== undefined
  if (
    host === undefined ||
    (isLiteral && !isIPv6(host)) ||
    (port !== undefined && (port < 1 || port > 65535))
  ) {
    throw new StunUsageError(
      'ERR_NATWORK_STUN_URI',
      `"${text}" is not a STUN URI: write stun:stun.example.org, stun:192.0.2.1:3478 or stuns:stun.example.org`,
    )
  }
  if (scheme === 'stuns' && isIP(host) !== 0) {
    throw new StunUsageError(
      'ERR_NATWORK_STUN_URI',
      `"${text}": stuns: needs a name that the server’s certificate carries, not an IP address (RFC 8489 §8.1)`,
    )
  }
  return { scheme, host, port }
}

export function formatStunUri({ scheme, host, port }: StunUri): string {
  return `${scheme}:${isIPv6(host) ? `[${host}]` : host}${port === undefined ? '' : `:${port}`}`
}
