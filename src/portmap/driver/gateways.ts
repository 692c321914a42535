import { readFile } from 'node:fs/promises'
import { BlockList, isIPv4 } from 'node:net'
import { endianness, networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import { readIpv4, readIpv6 } from '../../core/ip.ts'
import { scopeOf } from '../../core/scope.ts'

/** A way out of this machine. */
export interface DefaultGateway {
  /** With a zone (`fe80::1%eth0`) where it needs one. */
  readonly address: string
  /** Our own address on that way. */
  readonly own: string
  readonly interface: string
}

type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>

/**
 * The routers that this machine sends to what it does not know: the preferred one of IPv4, and that of IPv6 once for
 * each of our global addresses there (a firewall has a hole per address). What comes in by a router that is not
 * preferred could not be answered through it; so that is no use.
 *
 * Linux tells by its routing tables. Elsewhere no call of Node's does: the first address of each private network that
 * we are in is a guess, mostly right at home; and IPv6 is left out.
 */
export async function defaultGateways(): Promise<DefaultGateway[]> {
  const interfaces = networkInterfaces()
  if (process.platform !== 'linux') return guessGateways(interfaces)
  const [v4, v6] = await Promise.all([readTable('/proc/net/route'), readTable('/proc/net/ipv6_route')])
  return [...gateways(parseRoutes(v4), interfaces), ...gateways(parseIpv6Routes(v6), interfaces)]
}

export interface DefaultRoute {
  readonly interface: string
  /** Undefined for a route without a router, as of a tunnel. */
  readonly gateway: string | undefined
  readonly metric: number
}

/** Linux's `/proc/net/route`; numbers are hexadecimal, addresses in the machine's byte order. */
export function parseRoutes(table: string, order: 'LE' | 'BE' = endianness()): DefaultRoute[] {
  return rows(table, 8).flatMap(([name = '', destination, gateway = '', flags, , , metric, mask]) => {
    if (destination !== '00000000' || mask !== '00000000' || !isUp(flags)) return []
    const bytes = Buffer.from(gateway, 'hex')
    if (order === 'LE') bytes.reverse()
    return [
      {
        interface: name,
        gateway: hasGateway(flags) ? readIpv4(bytes, 0) : undefined,
        metric: Number(metric),
      },
    ]
  })
}

/** Linux's `/proc/net/ipv6_route`; everything is hexadecimal, addresses in network order. */
export function parseIpv6Routes(table: string): DefaultRoute[] {
  return rows(table, 10).flatMap(
    ([destination, length, , , next = '', metric = '', , , flags, name = '']) => {
      if (destination !== '0'.repeat(32) || length !== '00' || !isUp(flags) || name === 'lo') return []
      const gateway = readIpv6(Buffer.from(next, 'hex'), 0)
      const zone = scopeOf(gateway) === 'link-local' ? `%${name}` : ''
      return [
        {
          interface: name,
          gateway: hasGateway(flags) ? gateway + zone : undefined,
          metric: Number.parseInt(metric, 16),
        },
      ]
    },
  )
}

/** The preferred route's gateway, with each of our own addresses that it may serve. */
export function gateways(routes: readonly DefaultRoute[], interfaces: Interfaces): DefaultGateway[] {
  const [best] = [...routes].sort((a, b) => a.metric - b.metric)
  const address = best?.gateway
  if (best === undefined || address === undefined) return []
  const ours = interfaces[best.interface] ?? []
  if (!isIPv4(address)) {
    return ours
      .filter((each) => each.family === 'IPv6' && scopeOf(each.address) === 'global')
      .slice(0, MAX_ADDRESSES)
      .map((each) => ({ address, own: each.address, interface: best.interface }))
  }
  const v4 = ours.filter(({ family }) => family === 'IPv4')
  const own = v4.find((each) => networkOf(each)?.check(address) === true) ?? v4[0]
  return own === undefined ? [] : [{ address, own: own.address, interface: best.interface }]
}

export function guessGateways(interfaces: Interfaces): DefaultGateway[] {
  return Object.entries(interfaces)
    .flatMap(([name, list]) => (list ?? []).map((each) => ({ ...each, name })))
    .filter(
      ({ family, internal, address }) => family === 'IPv4' && !internal && scopeOf(address) === 'private',
    )
    .map(({ address, netmask, name }) => ({
      address: firstOf(address, netmask),
      own: address,
      interface: name,
    }))
    .filter(({ address, own }) => address !== own)
    .slice(0, MAX_GUESSES)
}

const MAX_ADDRESSES = 4
const MAX_GUESSES = 2
/** RTF_UP and RTF_GATEWAY of Linux's <linux/route.h>. */
const UP = 1
const GATEWAY = 2

const isUp = (flags = ''): boolean => (Number.parseInt(flags, 16) & UP) !== 0
const hasGateway = (flags = ''): boolean => (Number.parseInt(flags, 16) & GATEWAY) !== 0

function rows(table: string, columns: number): string[][] {
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((row) => row.length >= columns)
}

/** No table is no route: a container may hide it, and a kernel may have no IPv6. */
async function readTable(file: string): Promise<string> {
  try {
    return await readFile(file, 'latin1')
  } catch {
    return ''
  }
}

function networkOf({ cidr }: NetworkInterfaceInfo): BlockList | undefined {
  const [address, length] = cidr?.split('/') ?? []
  if (address === undefined || length === undefined) return undefined
  const network = new BlockList()
  network.addSubnet(address, Number(length))
  return network
}

/** `192.168.1.1` for `192.168.1.77` with the mask `255.255.255.0`. */
function firstOf(address: string, netmask: string): string {
  const mask = netmask.split('.').map(Number)
  const bytes = address.split('.').map((part, i) => Number(part) & (mask[i] ?? 0))
  return [...bytes.slice(0, 3), (bytes[3] ?? 0) + 1].join('.')
}
