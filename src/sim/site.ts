import { familyOf } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { MILLISECOND } from '../core/machine.ts'
import type { Host, HostOptions } from './host.ts'
import { AGENT_PORT, isKindName, kindNames, kinds } from './kinds.ts'
import type { KindName, RouterSpec } from './kinds.ts'
import type { Link } from './link.ts'
import type { Router } from './router.ts'
import type { WireOptions, World } from './world.ts'

export interface SiteOptions {
  /** A router kind by name, or your own routers, from the client to the core (empty: a public host). */
  readonly kind: KindName | readonly RouterSpec[]
  /**
   * Another site of the same kind, to share with it what such peers share (`Kind.shared`): its router, or its
   * carrier's NAT.
   */
  readonly beside?: Site
  /** The wire to the internet. Default: {@link SITE_LINK}. */
  readonly link?: WireOptions
  /** The wire between client and router. Default: perfect. */
  readonly lan?: WireOptions
  /** The client's clock. */
  readonly clock?: HostOptions['clock']
  /** IPv6 too, behind a stateful firewall, for a kind that has IPv4 alone. Default: false. */
  readonly dualStack?: boolean
}

/** 10 ms each way, so that two sites are 40 ms apart there and back, and four hops. */
export const SITE_LINK: WireOptions = { delay: 10 * MILLISECOND, hops: 4 }

/** A client, its routers and its wire to the internet. Made by World.site. */
export class Site {
  readonly name: string
  readonly options: SiteOptions
  readonly client: Host
  /** From the client to the core, shared ones included; empty for a public host. */
  readonly routers: readonly Router[]
  /** The wire to the internet: cut it, or change it. */
  readonly uplink: Link
  /** Puts one more host on the client’s wire. */
  readonly addClient: (name: string) => Host

  /** @internal use World.site */
  constructor(
    name: string,
    options: SiteOptions,
    parts: Pick<Site, 'client' | 'routers' | 'uplink' | 'addClient'>,
  ) {
    this.name = name
    this.options = options
    this.client = parts.client
    this.routers = parts.routers
    this.uplink = parts.uplink
    this.addClient = parts.addClient
  }

  /** The addresses by which public hosts know this site: at most one per family. */
  get publicAddresses(): readonly string[] {
    const isTranslated = this.routers.some(({ spec }) => spec.translation !== 'none')
    const outer = isTranslated ? (this.routers.at(-1)?.uplink?.addresses ?? []) : []
    return [
      ...outer.filter((one) => familyOf(one) === 4),
      ...this.client.addresses.filter((one) => familyOf(one) === 6 || !isTranslated),
    ]
  }

  /** A power cut: all its routers forget their mappings at once. */
  reboot(): void {
    for (const router of this.routers) router.reboot()
  }
}

/** @internal for World.site; `number` is different for every site of the world */
export function buildSite(world: World, name: string, number: number, options: SiteOptions): Site {
  const { kind, beside } = options
  if (typeof kind === 'string' && !isKindName(kind)) {
    throw siteError(`there is no router kind "${String(kind)}"; the kinds are: ${kindNames.join(', ')}`)
  }
  const specs = typeof kind === 'string' ? kinds[kind].routers : kind
  const shared = beside ? sharedRouters(kind, beside) : []
  const own = specs
    .slice(0, specs.length - shared.length)
    .map((spec) => world.router(`${name} ${specs.length > 1 ? spec.role : 'router'}`, spec))
  const routers = [...own, ...shared]
  const has6 = options.dualStack ?? (typeof kind === 'string' && kinds[kind].families.includes(6))

  // From the core down, so that every router finds the one above it in place.
  let uplink = beside?.uplink
  for (const [i, router] of [...own.entries()].reverse()) {
    const above = routers[i + 1]
    const addresses = [above ? `100.64.${number >> 8}.${number & 255}` : world.nextAddress(OUTER)]
    if (has6) addresses.push(`${site6(number)}::${i + 1}`)
    if (above) world.link(router, above, { addresses })
    else uplink = world.link(router, world.internet, { ...SITE_LINK, ...options.link, addresses })
  }

  const below = routers[0]
  let clients = 0
  const addClient = (clientName: string): Host => {
    const addresses: string[] = []
    const place = specs.every(({ translation }) => translation === 'none') ? 'public' : 'private'
    const is6Only = typeof kind === 'string' && (kind === 'nat64' || !kinds[kind].families.includes(4))
    const n = 10 + clients++
    if (!below) addresses.push(world.nextAddress(OUTER))
    else if (!is6Only && place === 'private') addresses.push(`10.${number >> 8}.${number & 255}.${n}`)
    else if (!is6Only) addresses.push(world.nextAddress(INNER))
    if (has6) addresses.push(`${site6(number)}:${clients}::${n}`)
    const host = world.host(clientName, { addresses, ...(options.clock && { clock: options.clock }) })
    if (below) world.link(host, below, options.lan)
    else uplink = world.link(host, world.internet, { ...SITE_LINK, ...options.link })
    return host
  }

  const isSecondClient = beside !== undefined && own.length === 0
  const client = isSecondClient ? beside.addClient(name) : addClient(name)
  if (!isSecondClient && below) {
    below.agent = { address: client.addresses[0] ?? '', port: AGENT_PORT }
  }
  if (!uplink) throw siteError(`${name} has no wire to the internet`)
  return new Site(name, options, {
    client,
    routers,
    uplink,
    addClient: isSecondClient ? beside.addClient : addClient,
  })
}

/** Public addresses of outer interfaces, and of hosts behind a router that translates nothing (RFC 5737). */
export const OUTER = '198.51.100'
export const INNER = '203.0.113'

function sharedRouters(kind: SiteOptions['kind'], beside: Site): readonly Router[] {
  const shared = typeof kind === 'string' ? kinds[kind].shared : 'nothing'
  if (beside.options.kind !== kind || shared === 'nothing') {
    const able = kindNames.filter((one) => kinds[one].shared !== 'nothing')
    throw siteError(`only two sites of the same kind out of ${able.join(', ')} can be beside each other`)
  }
  return shared === 'router' ? beside.routers : beside.routers.slice(1)
}

function site6(number: number): string {
  return `2001:db8:${number.toString(16)}`
}

function siteError(message: string): UsageError {
  return new UsageError('ERR_NATWORK_SIM_SITE', message)
}
