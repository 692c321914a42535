import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { familyOf, type SocketAddress } from '../../core/address.ts'
import { scopeOf } from '../../core/scope.ts'
import type { LocalCandidate } from '../types.ts'

/** An address of an interface of this machine. */
export interface InterfaceAddress {
  readonly interface: string
  readonly address: string
  /** IPv6: made up for privacy and changed from time to time (RFC 8981). */
  readonly temporary: boolean
  /** IPv6: not to be used for anything new, or not yet for anything (RFC 4862 §5.5.4, §5.4). */
  readonly unusable: boolean
}

/**
 * The host candidates of a UDP port (RFC 8445 §5.1.1.1): the address it is bound to, or of a wildcard those of every
 * interface of its families. Link-local ones mean nothing to a peer elsewhere; loopback only counts on a machine that
 * has nothing else. Of IPv6 addresses with one prefix the temporary ones alone go out, which is what the kernel sends
 * from. At most {@link MAX_PER_FAMILY} of a family.
 */
export function hostCandidates(
  bound: SocketAddress,
  addresses: readonly InterfaceAddress[] = interfaceAddresses(),
): LocalCandidate[] {
  if (bound.address !== '0.0.0.0' && bound.address !== '::') return [{ type: 'host', address: bound }]
  const usable = addresses.filter((one) => {
    const scope = scopeOf(one.address)
    const isSpoken = bound.address === '::' || familyOf(one.address) === 4
    return (
      isSpoken && !one.unusable && scope !== 'none' && scope !== 'link-local' && !isTracking(one, addresses)
    )
  })
  const outer = usable.filter((one) => scopeOf(one.address) !== 'loopback')
  const chosen = (outer.length > 0 ? outer : usable).sort((a, b) => rank(a) - rank(b))
  return ([6, 4] as const).flatMap((family) =>
    chosen
      .filter((one) => familyOf(one.address) === family)
      .slice(0, MAX_PER_FAMILY)
      .map(({ address }) => ({ type: 'host' as const, address: { address, port: bound.port } })),
  )
}

/** What this machine's interfaces have now. */
export function interfaceAddresses(): InterfaceAddress[] {
  const flags = linuxFlags()
  return Object.entries(networkInterfaces()).flatMap(([name, list]) =>
    (list ?? []).map(({ address }) => {
      const flag = flags.get(`${name} ${address}`) ?? 0
      return {
        interface: name,
        address,
        temporary: (flag & IFA_F_TEMPORARY) !== 0,
        unusable: (flag & (IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED)) !== 0,
      }
    }),
  )
}

/** Changes whenever a port's host candidates may have changed: for whoever watches the interfaces. */
export function interfacesFingerprint(): string {
  return interfaceAddresses()
    .filter((one) => !one.unusable)
    .map((one) => `${one.interface} ${one.address}`)
    .sort()
    .join()
}

/** RFC 8445 §5.1.1.1: no address that allows tracking beside one of its prefix that does not. */
function isTracking(one: InterfaceAddress, all: readonly InterfaceAddress[]): boolean {
  if (familyOf(one.address) === 4 || one.temporary) return false
  return all.some(
    (other) =>
      other.temporary &&
      !other.unusable &&
      other.interface === one.interface &&
      prefixOf(other.address) === prefixOf(one.address),
  )
}

/** The first four groups: a /64. */
function prefixOf(address: string): string {
  const [head = '', tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail === undefined) return groups.slice(0, 4).join(':')
  const after = tail === '' ? [] : tail.split(':')
  const zeros = new Array<string>(Math.max(0, 8 - groups.length - after.length)).fill('0')
  return [...groups, ...zeros, ...after].slice(0, 4).join(':')
}

/** Public addresses first, then private ones, those of bridges to containers and virtual machines last. */
function rank(one: InterfaceAddress): number {
  const isVirtual = /^(?:docker|br-|virbr|cni|flannel|vmnet|vboxnet)/.test(one.interface)
  return (scopeOf(one.address) === 'global' ? 0 : 1) + (isVirtual ? 2 : 0)
}

/** What node does not tell: `/proc/net/if_inet6` has it on Linux. */
function linuxFlags(): Map<string, number> {
  const flags = new Map<string, number>()
  let text = ''
  try {
    text = readFileSync('/proc/net/if_inet6', 'utf8')
  } catch {
    return flags // another system, or no IPv6
  }
  for (const line of text.split('\n')) {
    const [hex = '', , , , flag = '', name = ''] = line.trim().split(/\s+/)
    if (hex.length !== 32) continue
    const groups = hex.match(/.{4}/g) ?? []
    flags.set(`${name} ${compressed(groups.map((group) => parseInt(group, 16)))}`, parseInt(flag, 16))
  }
  return flags
}

/** RFC 5952, as `networkInterfaces` prints it. */
function compressed(groups: readonly number[]): string {
  const text = groups.map((group) => group.toString(16)).join(':')
  return new URL(`http://[${text}]`).hostname.slice(1, -1)
}

const MAX_PER_FAMILY = 8

// include/uapi/linux/if_addr.h
const IFA_F_TEMPORARY = 0x01
const IFA_F_DADFAILED = 0x08
const IFA_F_DEPRECATED = 0x20
const IFA_F_TENTATIVE = 0x40
