import { networkInterfaces } from 'node:os'
import { familyOf, formatAddress, type Logger, type SocketAddress } from '../../core/index.ts'
import { scopeOf } from '../../core/scope.ts'
import { discoverGateways, type GatewayReport } from '../../portmap/index.ts'
import { UdpEndpoint } from '../../socket/index.ts'
import {
  discoverBehaviour,
  discoverLifetime,
  discoverMtu,
  discoverNat64,
  findServers,
  type Finding,
  type Lifetime,
  type Nat64Prefix,
  type NatBehaviour,
} from '../../stun/index.ts'

export interface LookOptions {
  /** Of `stun:` servers. */
  readonly servers: readonly string[]
  /** Which socket to look at; 0 is any. */
  readonly port: number
  /** Default: every family that a server and, if it has the choice, this machine speak. */
  readonly family: 4 | 6 | undefined
  /** Seconds, the longest silence to try; undefined: the mapping's lifetime is not looked at. */
  readonly lifetime: number | undefined
  /** Whether the router is asked what it offers. */
  readonly portMapping: boolean
  readonly logger: Logger
  readonly signal: AbortSignal
}

/** What was found out with one address family. */
export interface FamilyLook {
  readonly behaviour: NatBehaviour
  readonly mtu: Finding<number> | undefined
  readonly lifetime: Finding<Lifetime> | undefined
}

export interface Look {
  /** The socket that was looked at. */
  readonly local: SocketAddress
  readonly ipv4: FamilyLook | undefined
  readonly ipv6: FamilyLook | undefined
  readonly nat64: Finding<readonly string[]>
  readonly portMapping: Finding<readonly string[]>
  readonly doubleNat: Finding<boolean>
}

/**
 * Looks at everything that stands between this machine and the internet, all at once.
 *
 * @throws what `discoverBehaviour` throws.
 */
export async function look(options: LookOptions): Promise<Look> {
  const { signal, port } = options
  const served = await servedFamilies(options)
  const routers = options.portMapping ? gateways(options) : Promise.resolve('not asked' as const)
  const prefixes = discoverNat64()
  const nat64 = speaks(4) ? undefined : (await prefixes)[0]
  const spoken = served.filter((family) => speaks(family) || (family === 4 && nat64 !== undefined))
  const families = options.family === undefined && spoken.length > 0 ? spoken : served
  const host = nat64 !== undefined || families.includes(6) ? '::' : '0.0.0.0'
  const endpoint = await UdpEndpoint.bind({ host, port, signal })
  try {
    const lookAt = async (family: 4 | 6): Promise<FamilyLook | undefined> =>
      families.includes(family) ? lookAtFamily(family, endpoint, nat64, options) : undefined
    const [ipv4, ipv6] = await Promise.all([lookAt(4), lookAt(6)])
    const reports = await routers
    return {
      local: endpoint.address,
      ipv4,
      ipv6,
      nat64: nat64Finding(await prefixes),
      portMapping: portMappingFinding(reports),
      doubleNat: doubleNatFinding(reports, ipv4?.behaviour),
    }
  } finally {
    await endpoint.close()
  }
}

async function lookAtFamily(
  family: 4 | 6,
  endpoint: UdpEndpoint,
  nat64: Nat64Prefix | undefined,
  { servers, lifetime, signal }: LookOptions,
): Promise<FamilyLook> {
  const behaviour = await discoverBehaviour(servers, { endpoint, family, signal, ...(nat64 && { nat64 }) })
  const server = behaviour.observations.find(({ mapped }) => mapped !== undefined)?.server
  if (server === undefined) return { behaviour, mtu: undefined, lifetime: undefined }
  const mtu = await discoverMtu(endpoint, server, { signal })
  return {
    behaviour,
    mtu,
    lifetime:
      lifetime === undefined ? undefined : await discoverLifetime(server, { longest: lifetime, signal }),
  }
}

async function servedFamilies({ servers, family }: LookOptions): Promise<(4 | 6)[]> {
  const wanted = family === undefined ? ([4, 6] as const) : [family]
  const found = await Promise.allSettled(wanted.map((one) => findServers(servers, { family: one })))
  const served = wanted.filter((_, i) => found[i]?.status === 'fulfilled')
  const [first] = found
  if (served.length === 0 && first?.status === 'rejected') throw first.reason
  return served
}

function speaks(family: 4 | 6): boolean {
  return ownAddresses().some((address) => familyOf(address) === family)
}

/** But for loopback and link-local ones. */
function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((entries) => entries ?? [])
    .filter(({ internal, address }) => !internal && scopeOf(address) !== 'link-local')
    .map(({ address }) => address)
}

type Routers = GatewayReport[] | 'not asked' | undefined

/** Undefined: the routers could not be asked. */
async function gateways({ signal, logger }: LookOptions): Promise<Routers> {
  try {
    return await discoverGateways({ signal, logger })
  } catch {
    // Ended by the user: the others say so. A machine that does not tell its routes is no reason to fail.
    return undefined
  }
}

function nat64Finding(prefixes: readonly Nat64Prefix[]): Finding<readonly string[]> {
  const value = prefixes.map(({ prefix, length }) => `${prefix}/${length}`)
  return {
    value,
    certain: true,
    observations: [
      value.length > 0
        ? `the name server here gives ipv4only.arpa an IPv6 address with ${value.join(', ')}`
        : 'the name server here gives ipv4only.arpa no IPv6 address',
    ],
    meaning: value.length > 0 ? 'IPv4 hosts are reached by IPv6' : 'no way to IPv4 by IPv6 is offered here',
  }
}

function portMappingFinding(routers: Routers): Finding<readonly string[]> {
  if (routers === 'not asked') {
    const why = 'switched off in the configuration (portMapping)'
    return { value: undefined, certain: false, observations: [why], meaning: 'not asked' }
  }
  const reports = routers
  const protocols = reports?.flatMap((report) =>
    Object.entries(report.protocols)
      .filter(([, { available }]) => available)
      .map(([name]) => name),
  )
  const observations = (reports ?? []).flatMap(({ gateway, protocols: each, reason }) => [
    ...Object.entries(each).map(([name, { available, external, message }]) => {
      const says = external === undefined ? '' : `, and says that its outer address is ${external}`
      const why = message === undefined ? 'silent' : `refuses: ${message}`
      return `${name} at the router ${gateway}: ${available ? `answers${says}` : why}`
    }),
    ...(reason === undefined ? [] : [reason]),
  ])
  if (protocols === undefined || observations.length === 0) {
    return {
      value: undefined,
      certain: false,
      observations: ['no router was found here'],
      meaning: 'not known',
    }
  }
  const isUseless = reports?.every(({ reason }) => reason !== undefined) === true
  return {
    value: [...new Set(protocols)],
    certain: true,
    observations,
    meaning:
      protocols.length === 0
        ? 'the router opens no port on request'
        : isUseless
          ? 'the router opens ports on request, but they lead nowhere from outside'
          : 'the router opens a port on request: others reach this machine through it',
  }
}

/** Two NATs in a row show where the first one's outer address is not what the servers see. */
function doubleNatFinding(routers: Routers, behaviour: NatBehaviour | undefined): Finding<boolean> {
  const judged = (value: boolean, certain: boolean, observation: string): Finding<boolean> => ({
    value,
    certain,
    observations: [observation],
    meaning: value
      ? 'a second NAT, the carrier’s as a rule: no router here can open a port for others'
      : 'at most one NAT stands before this machine',
  })
  const seen = behaviour?.observations.flatMap(({ mapped }) => mapped ?? []) ?? []
  if (behaviour?.translation.value === 'none') {
    return judged(
      false,
      true,
      `the servers see this socket’s own address, ${seen.map(formatAddress).join(', ')}`,
    )
  }
  const external = (routers === 'not asked' ? [] : (routers ?? []))
    .flatMap(({ protocols }) => Object.values(protocols))
    .flatMap((report) => report.external ?? [])
    .find((address) => familyOf(address) === 4)
  if (external !== undefined && seen.length > 0) {
    const isSame = seen.some(({ address }) => address === external)
    const ips = [...new Set(seen.map(({ address }) => address))].join(', ')
    return judged(
      !isSame,
      true,
      `the router says that its outer address is ${external}, and the servers see ${ips}`,
    )
  }
  const shared = ownAddresses().find((address) => scopeOf(address) === 'carrier')
  if (shared !== undefined) {
    return judged(
      true,
      false,
      `this machine’s own address, ${shared}, is one that carriers give out (RFC 6598)`,
    )
  }
  return {
    value: undefined,
    certain: false,
    observations: ['no router here says its outer address'],
    meaning: 'not known',
  }
}
