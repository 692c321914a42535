import { writeIp } from './ip.ts'

/** A block of addresses that is not just somebody's. */
export interface SpecialPurpose {
  /** CIDR: `10.0.0.0/8`. */
  readonly prefix: string
  readonly name: string
  /** The RFC that set it apart. */
  readonly reference: string
  /** True when a packet to it can cross the internet to one host, as to any other address. */
  readonly global: boolean
}

/**
 * IANA's special-purpose address registries (RFC 6890, as updated by RFC 8190), as data; and what is special without
 * being in them: multicast, which RFC 6890 leaves out, and blocks that were in use once and still are on some networks.
 * Where blocks lie in each other the longest prefix decides.
 */
export const specialPurposeRanges: readonly SpecialPurpose[] = [
  range('0.0.0.0/8', '"This network"', 'RFC 791 §3.2'),
  range('10.0.0.0/8', 'Private-Use', 'RFC 1918'),
  range('100.64.0.0/10', 'Shared Address Space', 'RFC 6598'),
  range('127.0.0.0/8', 'Loopback', 'RFC 1122 §3.2.1.3'),
  range('169.254.0.0/16', 'Link Local, cloud metadata', 'RFC 3927'),
  range('172.16.0.0/12', 'Private-Use', 'RFC 1918'),
  range('192.0.0.0/24', 'IETF Protocol Assignments', 'RFC 6890 §2.1'),
  range('192.0.0.9/32', 'Port Control Protocol Anycast', 'RFC 7723', true),
  range('192.0.0.10/32', 'TURN Anycast', 'RFC 8155', true),
  range('192.0.2.0/24', 'Documentation (TEST-NET-1)', 'RFC 5737'),
  range('192.31.196.0/24', 'AS112-v4', 'RFC 7535', true),
  range('192.52.193.0/24', 'AMT', 'RFC 7450', true),
  range('192.88.99.0/24', 'Deprecated (6to4 Relay Anycast)', 'RFC 7526'),
  range('192.168.0.0/16', 'Private-Use', 'RFC 1918'),
  range('192.175.48.0/24', 'Direct Delegation AS112 Service', 'RFC 7534', true),
  range('198.18.0.0/15', 'Benchmarking', 'RFC 2544'),
  range('198.51.100.0/24', 'Documentation (TEST-NET-2)', 'RFC 5737'),
  range('203.0.113.0/24', 'Documentation (TEST-NET-3)', 'RFC 5737'),
  range('224.0.0.0/4', 'Multicast', 'RFC 5771'),
  range('240.0.0.0/4', 'Reserved', 'RFC 1112 §4'),
  range('255.255.255.255/32', 'Limited Broadcast', 'RFC 919 §7'),

  // Global unicast is 2000::/3 (RFC 4291 §2.4, IANA's IPv6 address space registry): the rest is reserved.
  range('::/0', 'Reserved by IETF', 'RFC 4291'),
  range('2000::/3', 'Global Unicast', 'RFC 4291 §2.5.4', true),
  range('::/96', 'Deprecated (IPv4-compatible)', 'RFC 4291 §2.5.5.1'),
  range('::/128', 'Unspecified Address', 'RFC 4291 §2.5.2'),
  range('::1/128', 'Loopback Address', 'RFC 4291 §2.5.3'),
  range('::ffff:0:0/96', 'IPv4-mapped Address', 'RFC 4291 §2.5.5.2'),
  range('::ffff:0:0:0/96', 'IPv4-translated Address', 'RFC 2765 §2.1'),
  range('64:ff9b::/96', 'IPv4-IPv6 Translation', 'RFC 6052'),
  range('64:ff9b:1::/48', 'IPv4-IPv6 Translation, local use', 'RFC 8215'),
  range('100::/64', 'Discard-Only Address Block', 'RFC 6666'),
  range('100:0:0:1::/64', 'Dummy IPv6 Prefix', 'RFC 9780'),
  range('2001::/23', 'IETF Protocol Assignments', 'RFC 2928'),
  range('2001::/32', 'TEREDO', 'RFC 4380'),
  range('2001:1::1/128', 'Port Control Protocol Anycast', 'RFC 7723', true),
  range('2001:1::2/128', 'TURN Anycast', 'RFC 8155', true),
  range('2001:1::3/128', 'DNS-SD Service Registration Protocol Anycast', 'RFC 9665', true),
  range('2001:2::/48', 'Benchmarking', 'RFC 5180'),
  range('2001:3::/32', 'AMT', 'RFC 7450', true),
  range('2001:4:112::/48', 'AS112-v6', 'RFC 7535', true),
  range('2001:10::/28', 'Deprecated (ORCHID)', 'RFC 4843'),
  range('2001:20::/28', 'ORCHIDv2', 'RFC 7343'),
  range('2001:30::/28', 'Drone Remote ID', 'RFC 9374'),
  range('2001:db8::/32', 'Documentation', 'RFC 3849'),
  range('2002::/16', '6to4', 'RFC 3056'),
  range('2620:4f:8000::/48', 'Direct Delegation AS112 Service', 'RFC 7534', true),
  range('3ffe::/16', 'Returned (6bone)', 'RFC 3701'),
  range('3fff::/20', 'Documentation', 'RFC 9637'),
  range('5f00::/16', 'Segment Routing (SRv6) SIDs', 'RFC 9602'),
  range('fc00::/7', 'Unique-Local', 'RFC 4193'),
  range('fe80::/10', 'Link-Local Unicast', 'RFC 4291 §2.5.6'),
  range('fec0::/10', 'Deprecated (site-local)', 'RFC 3879'),
  range('ff00::/8', 'Multicast', 'RFC 4291 §2.7'),
]

/**
 * What is special about an address, given as 4 or 16 bytes: the entry with the longest prefix that holds it.
 * Undefined for an IPv4 address like any other.
 */
export function specialPurposeOf(ip: Uint8Array): SpecialPurpose | undefined {
  let best: Parsed | undefined
  for (const entry of parsed) {
    if (holds(entry, ip) && (best === undefined || entry.bits > best.bits)) best = entry
  }
  return best?.range
}

/** Can a packet to this address (4 or 16 bytes) cross the internet to one host? */
export function isGloballyReachable(ip: Uint8Array): boolean {
  return specialPurposeOf(ip)?.global ?? ip.length === 4
}

/** An address block: the bytes of its first address, and how many bits of them count. */
export interface AddressBlock {
  readonly ip: Uint8Array
  readonly bits: number
}

/** `10.0.0.0/8`, `2001:db8::/32`, or one address. Undefined when it is none of these. */
export function parseBlock(text: string): AddressBlock | undefined {
  const match = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3}))?$/.exec(text)
  const ip = match?.[1] === undefined ? undefined : ipBytes(match[1])
  if (ip === undefined) return undefined
  const bits = match?.[2] === undefined ? ip.length * 8 : Number(match[2])
  return bits > ip.length * 8 ? undefined : { ip, bits }
}

/** Is the address (4 or 16 bytes) in the block? Never when the families differ. */
export function holds({ ip: first, bits }: AddressBlock, ip: Uint8Array): boolean {
  if (first.length !== ip.length) return false
  const whole = bits >> 3
  for (let n = 0; n < whole; n++) if (first[n] !== ip[n]) return false
  const rest = bits & 7
  return rest === 0 || ((first[whole] ?? 0) ^ (ip[whole] ?? 0)) >>> (8 - rest) === 0
}

/** The 4 or 16 bytes of an IP literal, without its zone; undefined when it is none. */
export function ipBytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(16)
  const length = writeIp(text, bytes, 0)
  return length === 0 ? undefined : bytes.subarray(0, length)
}

interface Parsed extends AddressBlock {
  readonly range: SpecialPurpose
}

const parsed: readonly Parsed[] = specialPurposeRanges.map((entry) => {
  const block = parseBlock(entry.prefix)
  if (block === undefined) throw new TypeError(`not a block: ${entry.prefix}`)
  return { ...block, range: entry }
})

function range(prefix: string, name: string, reference: string, global = false): SpecialPurpose {
  return { prefix, name, reference, global }
}
