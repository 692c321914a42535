import { isIPv4 } from 'node:net'
import { UsageError } from '../core/errors.ts'
import { NAT64_PREFIX } from './kinds.ts'
import { canonicalAddress } from './packet.ts'

/**
 * The IPv6 address under which a NAT64 client reaches an IPv4 one: what DNS64 would answer (RFC 6147 §5.1.7, with the
 * well-known prefix of RFC 6052 §2.1).
 *
 * @throws {UsageError} `ERR_NATWORK_SIM_ADDRESS` when `ipv4` is no IPv4 address.
 */
export function synthesize(ipv4: string): string {
  if (!isIPv4(ipv4)) throw new UsageError('ERR_NATWORK_SIM_ADDRESS', `"${ipv4}" is not an IPv4 address`)
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.split('.').map(Number)
  return canonicalAddress(`${NAT64_PREFIX}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`)
}

/** The IPv4 address inside one made by {@link synthesize}; undefined for every other address. */
export function extract(ipv6: string): string | undefined {
  if (!ipv6.startsWith(NAT64_PREFIX)) return undefined
  const groups = ipv6.slice(NAT64_PREFIX.length).split(':')
  if (groups.length > 2) return undefined
  const low = Number.parseInt(groups.at(-1) || '0', 16)
  const high = groups.length === 2 ? Number.parseInt(groups[0] || '0', 16) : 0
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}
