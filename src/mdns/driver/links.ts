import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import { familyOf, type SocketAddress } from '../../core/address.ts'
import { scopeOf } from '../../core/scope.ts'
import { subnetOf } from '../../core/subnet.ts'
import type { Link } from '../sightings.ts'

/** A link on which a node speaks multicast DNS. */
export interface LocalLink extends Link {
  /** What to tell others: the port's addresses there, of both families. */
  readonly addresses: readonly string[]
  /** How the system is told which interface it is. */
  readonly interface: string
  /** Another text for every other state of the link. */
  readonly state: string
}

/** More interfaces than this are those of containers. */
const MAX_LINKS = 16

type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>

/**
 * Where a UDP port bound to `bound` is announced: on the interfaces that it can be reached by, in the families that it
 * speaks. Loopback only for a port that is bound there.
 */
export function localLinks(bound: SocketAddress, interfaces: Interfaces = networkInterfaces()): LocalLink[] {
  const isWildcard = bound.address === '0.0.0.0' || bound.address === '::'
  const [own] = bound.address.split('%')
  const links = Object.entries(interfaces).flatMap(([name, all = []]) => {
    const spoken = all.filter(({ address, internal }) =>
      isWildcard ? !internal && (bound.address === '::' || familyOf(address) === 4) : address === own,
    )
    return ([4, 6] as const).flatMap((family) => linkOf(name, family, spoken))
  })
  const isOuter = ({ addresses }: LocalLink): boolean =>
    addresses.some((one) => scopeOf(one) !== 'link-local')
  return links.sort((a, b) => Number(isOuter(b)) - Number(isOuter(a))).slice(0, MAX_LINKS)
}

function linkOf(name: string, family: 4 | 6, spoken: readonly NetworkInterfaceInfo[]): LocalLink[] {
  const entry = spoken.find(({ address }) => familyOf(address) === family)
  if (entry === undefined) return []
  // Windows has numbers for zones, the others names.
  const zone = process.platform === 'win32' && entry.family === 'IPv6' ? String(entry.scopeid) : name
  const subnets = spoken.map(({ cidr }) => cidr)
  const near = subnets.map(subnetOf)
  const addresses = spoken.map(({ address }) => address)
  return [
    {
      zone,
      family,
      addresses,
      interface: family === 4 ? entry.address : `::%${zone}`,
      isNear(address) {
        const [plain = '', from] = address.split('%')
        return (from === undefined || from === zone) && near.some((isIn) => isIn(plain))
      },
      state: [zone, family, ...addresses, ...subnets].join(' '),
    },
  ]
}
