import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import { familyOf, type SocketAddress } from '../core/address.ts'
import { scopeOf } from '../core/scope.ts'
import { subnetOf } from '../core/subnet.ts'
import { maxAddresses } from './node-info.ts'

/**
 * Where others may reach a socket bound to `bound`: itself, or for a wildcard every address of this machine's
 * interfaces, public-looking first. Loopback only when there is nothing else (a machine off the net still talks to
 * itself). Link-local addresses mean something else on every link and are left out.
 */
export function reachableAddresses(bound: SocketAddress): SocketAddress[] {
  if (bound.address !== '0.0.0.0' && bound.address !== '::') return [bound]
  const all = Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .filter(({ address }) => bound.address === '::' || familyOf(address) === 4)
    .filter(({ address }) => !isLinkLocal(address))
  const outer = all.filter(({ internal }) => !internal)
  return (outer.length > 0 ? outer : all)
    .map(({ address }) => ({ address, port: bound.port }))
    .sort((a, b) => rank(a.address) - rank(b.address))
    .slice(0, maxAddresses)
}

type Interface = Pick<NetworkInterfaceInfo, 'address' | 'cidr' | 'internal'>

/**
 * The address of this machine that a socket bound to `bound` sends from towards `remote`: that of the same network, else the
 * only one of its family. The wildcard where the routing table alone knows.
 */
export function localTowards(
  bound: SocketAddress,
  remote: SocketAddress,
  interfaces: readonly Interface[] = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []),
): SocketAddress {
  const { port } = bound
  if (bound.address !== '0.0.0.0' && bound.address !== '::') return bound
  const family = familyOf(remote.address)
  const own = interfaces.filter(({ address }) => familyOf(address) === family)
  const outer = own.filter(({ internal, address }) => !internal && !isLinkLocal(address))
  const near = own.find(({ cidr }) => subnetOf(cidr)(remote.address))
  const found = near ?? (outer.length === 1 && scopeOf(remote.address) !== 'loopback' ? outer[0] : undefined)
  return { address: found?.address ?? (family === 4 ? '0.0.0.0' : '::'), port }
}

function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address) || address.startsWith('169.254.')
}

// Private IPv4 (RFC 1918, 6598) and unique local IPv6 (RFC 4193) only work near by.
function rank(address: string): number {
  const near =
    /^10\.|^192\.168\.|^172\.(?:1[6-9]|2\d|3[01])\.|^100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|^f[cd]/i
  return (near.test(address) ? 2 : 0) + (familyOf(address) === 6 ? 1 : 0)
}
