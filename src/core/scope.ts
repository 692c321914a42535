import { writeIp } from './ip.ts'

/**
 * From where an address can be reached, by the registries of special-purpose addresses (RFC 6890 and successors):
 *
 * - `global`: from the whole internet, as far as the address itself tells. Documentation ranges count as global: no
 *   router gives them to anybody, and test networks use them as their internet.
 * - `private`: within one site (RFC 1918, RFC 4193 unique local, RFC 7335 IPv4 inside a translator).
 * - `carrier`: within one carrier's network, between its customers and its NAT (RFC 6598).
 * - `link-local`, `loopback`: on one link, in one machine.
 * - `none`: an address of nobody: unspecified, multicast, broadcast, reserved, or no IP literal at all.
 */
export type AddressScope = 'global' | 'private' | 'carrier' | 'link-local' | 'loopback' | 'none'

export function scopeOf(address: string): AddressScope {
  switch (writeIp(address, scratch, 0)) {
    case 4:
      return scopeOfIpv4(0)
    case 16:
      return scopeOfIpv6()
    case 0:
      return 'none'
  }
}

const scratch = new Uint8Array(16)

function scopeOfIpv4(at: number): AddressScope {
  const [a = 0, b = 0, c = 0] = scratch.subarray(at, at + 3)
  if (a === 0 || a >= 224) return 'none'
  if (a === 127) return 'loopback'
  if (a === 169 && b === 254) return 'link-local'
  if (a === 100 && b >= 64 && b < 128) return 'carrier'
  if (a === 10 || (a === 172 && b >= 16 && b < 32) || (a === 192 && b === 168)) return 'private'
  return a === 192 && b === 0 && c === 0 ? 'private' : 'global'
}

function scopeOfIpv6(): AddressScope {
  const [a = 0, b = 0] = scratch
  if (a === 0xff) return 'none'
  if (a === 0xfe && (b & 0xc0) === 0x80) return 'link-local'
  if ((a & 0xfe) === 0xfc) return 'private'
  if (scratch.subarray(0, 10).some((byte) => byte !== 0)) return 'global'
  // ::ffff:0:0/96 is IPv4 in IPv6 clothes; the rest of ::/80 is given to nobody but `::1`.
  if (scratch[10] === 0xff && scratch[11] === 0xff) return scopeOfIpv4(12)
  return scratch.subarray(10, 15).every((byte) => byte === 0) && scratch[15] === 1 ? 'loopback' : 'none'
}
