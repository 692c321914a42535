import { isIP } from 'node:net'
import { UsageError } from './errors.ts'

/**
 * A UDP or TCP transport address. `address` is an IP literal (never a name) in the form the operating system
 * prints it: dotted quad, or RFC 5952 text for IPv6, with a zone (`fe80::1%eth0`) where one is needed.
 * `port` is 0–65535; 0 only where "any port" makes sense (a bind request).
 */
export interface SocketAddress {
  readonly address: string
  readonly port: number
}

/** 4 or 6, from the literal itself. */
export function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4
}

export function sameAddress(a: SocketAddress, b: SocketAddress): boolean {
  return a === b || (a.port === b.port && a.address === b.address)
}

/** `192.0.2.1:1315`, `[2001:db8::1]:1315`. */
export function formatAddress(at: SocketAddress): string {
  return familyOf(at.address) === 6 ? `[${at.address}]:${at.port}` : `${at.address}:${at.port}`
}

/**
 * Reads what {@link formatAddress} writes.
 *
 * @throws {UsageError} `ERR_NATWORK_ADDRESS` when `text` is not an IP literal with a port.
 */
export function parseAddress(text: string): SocketAddress {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const address = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (address === undefined || isIP(address) === 0 || port > 65535) {
    throw new UsageError(
      'ERR_NATWORK_ADDRESS',
      `"${text}" is not an address: write 192.0.2.1:1315 or [2001:db8::1]:1315`,
    )
  }
  return { address, port }
}
