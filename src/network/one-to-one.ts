import { isIP } from 'node:net'
import { familyOf, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import type { PortMapping } from '../portmap/index.ts'
import type { RelayAddress } from '../turn/index.ts'
import { reachableAddresses } from './local-addresses.ts'

/** A port of this node's that others come to at another address. */
export type OutsidePort = Pick<PortMapping, 'external' | 'internal'>

/** @throws {UsageError} `ERR_NATWORK_PUBLIC_ADDRESS` */
export function checkPublicAddresses(given: readonly string[] = []): readonly string[] {
  for (const [n, one] of given.entries()) {
    if (isIP(one) === 0 || one === '0.0.0.0' || one === '::') {
      throw refused(
        `"${one.slice(0, 80)}" is no IP address: name the one that the 1:1 NAT gives, without a port`,
      )
    }
    if (given.findIndex((other) => familyOf(other) === familyOf(one)) !== n) {
      throw refused(`${one}: one public address for IPv4 and one for IPv6 is what there can be`)
    }
  }
  return given
}

/** Where the node's port is seen behind its 1:1 NAT, for each family that it is bound to. */
export function outsidePorts(given: readonly string[], bound: SocketAddress): OutsidePort[] {
  const own = reachableAddresses(bound)
  return given.flatMap((address) => {
    const internal = own.find((one) => familyOf(one.address) === familyOf(address))
    return internal === undefined || internal.address === address
      ? []
      : [{ external: { address, port: internal.port }, internal }]
  })
}

/** Where relayed transport addresses are taken from: one address of each family. */
export function relayPlaces(given: readonly string[], bound: SocketAddress): RelayAddress[] {
  const own = reachableAddresses(bound)
  return ([4, 6] as const).flatMap((family) => {
    const found = own.find(({ address }) => familyOf(address) === family)
    const external = given.find((address) => familyOf(address) === family)
    return found === undefined ? [] : [{ host: found.address, ...(external !== undefined && { external }) }]
  })
}

function refused(message: string): UsageError {
  return new UsageError('ERR_NATWORK_PUBLIC_ADDRESS', message)
}
