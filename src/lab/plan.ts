import type { RouterSpec } from '../sim/kinds.ts'
import { LabUsageError } from './errors.ts'
import {
  HOST_PATH,
  SITE_PATH,
  resolveSite,
  type PathParameters,
  type PublicHost,
  type ResolvedSite,
  type Topology,
} from './topology.ts'

/** One address of each family at most. */
export interface Addresses {
  readonly 4?: string
  readonly 6?: string
}

/** A host's or router's only way out: a veth pair whose far end belongs to the path emulator. */
export interface Attachment {
  /** The emulator's name for it: the node's, with `.in` for the inside of a carrier's router. */
  readonly port: string
  readonly node: string
  readonly interface: string
  /** Which of the emulator's networks: `core`, or a carrier's name. */
  readonly segment: string
  /** The node's own addresses here; `rebind` changes them. */
  addresses: readonly string[]
  /** What else the emulator sends here. */
  readonly routes: readonly string[]
  readonly path: Required<PathParameters>
}

export interface Lan {
  /** The router's own addresses with their prefix length. */
  readonly gateway: Addresses
  readonly prefix: { readonly 4?: string; readonly 6?: string }
}

export type Node = PublicNode | RouterNode | ClientNode

export interface PublicNode {
  readonly role: 'public'
  readonly name: string
  addresses: readonly string[]
}

export interface RouterNode {
  readonly role: 'router'
  readonly name: string
  readonly spec: RouterSpec
  /** Outer addresses. */
  external: Addresses
  /** A home router's bridge, or the carrier's access network. */
  readonly lan: Lan
  readonly inside: 'bridge' | 'segment'
  /** The home router's first client or the carrier's first customer: whom static rules serve (AGENT_HOST). */
  readonly agent: Addresses
  /** Addresses of everybody right behind it, for rules per client. */
  readonly customers: string[]
}

export interface ClientNode {
  readonly role: 'client'
  readonly name: string
  readonly router: string
  addresses: Addresses
  readonly gateway: Addresses
}

/** A topology with every name, address and wire decided. */
export interface Plan {
  readonly nodes: ReadonlyMap<string, Node>
  readonly attachments: readonly Attachment[]
  readonly timeExceeded: boolean
}

/** The emulator as the next hop of everything attached to it. */
export const NEXT_HOP = { 4: '169.254.1.1', 6: 'fe80::1' } as const
/** Where "time exceeded" comes from. */
export const CORE_ROUTER = { 4: '203.0.113.254', 6: '2001:db8:ffff::1' } as const

const MAX_SITES = 200
const MAX_PUBLIC_LANS = 28

/** @throws {LabUsageError} `ERR_NATWORK_LAB_TOPOLOGY` */
export function planTopology(topology: Topology): Plan {
  const builder = new Builder()
  for (const [name, host] of Object.entries(topology.hosts ?? { helper: {} })) builder.publicHost(name, host)
  const sites = Object.entries(topology.sites).map(([name, site]) => ({ name, ...resolveSite(site) }))
  if (sites.length > MAX_SITES) throw impossible(`at most ${MAX_SITES} sites`)
  // A site that others are behind comes first: its carrier must exist.
  const ordered = [...sites.filter(({ behind }) => !behind), ...sites.filter(({ behind }) => behind)]
  for (const site of ordered) builder.site(site)
  return {
    nodes: builder.nodes,
    attachments: builder.attachments,
    timeExceeded: topology.timeExceeded ?? false,
  }
}

function impossible(text: string): LabUsageError {
  return new LabUsageError('ERR_NATWORK_LAB_TOPOLOGY', `topology: ${text}`)
}

class Builder {
  readonly nodes = new Map<string, Node>()
  readonly attachments: Attachment[] = []
  #hosts = 0
  #sites = 0
  #publicLans = 0
  /** Outermost routers by site, for `behind`, and how many customers each carrier has. */
  readonly #outermost = new Map<string, string>()
  readonly #customers = new Map<string, number>()

  publicHost(name: string, host: PublicHost): void {
    const first = 10 + this.#hosts
    const count = host.addresses ?? 1
    this.#hosts += count
    if (this.#hosts > 240) throw impossible('at most 240 public addresses')
    const addresses = Array.from({ length: count }, (_, i) => [
      `192.0.2.${first + i}`,
      `2001:db8:0:1::${(first + i).toString(16)}`,
    ]).flat()
    this.#addPublic(name, addresses, { ...HOST_PATH, ...host.path })
  }

  site(site: ResolvedSite & { readonly name: string }): void {
    const number = this.#sites++
    const path = { ...SITE_PATH, ...site.path }
    if (site.routers.length === 0) {
      this.#publicSite(site, number, path)
      return
    }
    const names = routerNames(site)
    const uplink = this.#uplink(site)
    // From the core inwards: each router is the customer of the one before it.
    let carrier = uplink
    for (let i = site.routers.length - 1; i >= 0; i--) {
      const spec = site.routers[i] as RouterSpec
      const name = names[i] as string
      const isHome = i === 0
      const outermost = carrier === undefined
      const external = outermost ? this.#publicAddresses(site, number) : this.#customerAddress(carrier ?? '')
      const lan = isHome ? this.#homeLan(site, spec, number) : carrierLan(number, i)
      const customers: string[] = []
      this.#add({
        role: 'router',
        name,
        spec,
        external,
        lan,
        inside: isHome ? 'bridge' : 'segment',
        agent: isHome ? clientAddresses(lan, 0) : { 4: customerOf(lan, 0) },
        customers,
      })
      const routes = spec.translation === 'none' && lan.prefix[4] ? [lan.prefix[4]] : []
      this.attachments.push({
        port: name,
        node: name,
        interface: 'ext0',
        segment: carrier ?? 'core',
        addresses: present(external),
        routes: [...routes, ...(lan.prefix[6] ? [lan.prefix[6]] : [])],
        path: outermost ? path : INNER_PATH,
      })
      if (!isHome) this.#attachInside(name, lan)
      if (outermost) this.#outermost.set(site.name, name)
      carrier = name
    }
    this.#clients(site, names[0] as string)
  }

  #uplink(site: ResolvedSite & { readonly name: string }): string | undefined {
    if (site.behind === undefined) return undefined
    const carrier = this.#outermost.get(site.behind)
    const node = carrier === undefined ? undefined : this.nodes.get(carrier)
    if (carrier === undefined || node?.role !== 'router' || node.inside === 'bridge') {
      throw impossible(`site ${site.name} is behind "${site.behind}", which has no carrier to share`)
    }
    return carrier
  }

  #clients(site: ResolvedSite & { readonly name: string }, routerName: string): void {
    const router = this.nodes.get(routerName)
    if (router?.role !== 'router') throw impossible(`site ${site.name} has no router`)
    for (let i = 0; i < site.clients; i++) {
      const addresses = clientAddresses(router.lan, i)
      router.customers.push(...(addresses[4] ? [addresses[4]] : []))
      this.#add({
        role: 'client',
        name: `${site.name}${i + 1}`,
        router: routerName,
        addresses,
        gateway: router.lan.gateway,
      })
    }
  }

  #publicSite(
    site: ResolvedSite & { readonly name: string },
    number: number,
    path: Required<PathParameters>,
  ): void {
    if (site.behind !== undefined)
      throw impossible(`site ${site.name} has no router to be behind another one's`)
    const lan = this.#publicLan(site, number)
    for (let i = 0; i < site.clients; i++) {
      this.#addPublic(`${site.name}${i + 1}`, present(clientAddresses(lan, i)), path)
    }
  }

  #publicAddresses(site: ResolvedSite, number: number): Addresses {
    return {
      ...(site.families.includes(4) && { 4: `198.51.100.${10 + number}` }),
      ...(site.families.includes(6) && { 6: `${sitePrefix(number)}::1` }),
    }
  }

  #customerAddress(carrier: string): Addresses {
    const node = this.nodes.get(carrier)
    if (node?.role !== 'router') throw impossible(`no carrier ${carrier}`)
    const index = this.#customers.get(carrier) ?? 0
    if (index > 200) throw impossible(`at most 200 homes behind ${carrier}`)
    this.#customers.set(carrier, index + 1)
    const address = customerOf(node.lan, index)
    node.customers.push(address)
    return { 4: address }
  }

  #homeLan(site: ResolvedSite, spec: RouterSpec, number: number): Lan {
    if (spec.translation === 'none') return this.#publicLan(site, number)
    const v6 = site.families.includes(6) ? lan6(number) : undefined
    const v4 = spec.translation === 'nat44' ? lan4(`192.168.${number + 1}`, 24) : undefined
    return joinLans(v4, v6)
  }

  #publicLan(site: ResolvedSite, number: number): Lan {
    if (site.clients > 5 && site.families.includes(4))
      throw impossible('at most 5 clients with public addresses')
    const index = site.families.includes(4) ? this.#publicLans++ : 0
    if (index >= MAX_PUBLIC_LANS) throw impossible(`at most ${MAX_PUBLIC_LANS} sites with public addresses`)
    const v4 = site.families.includes(4) ? lan4(`203.0.113`, 29, index * 8) : undefined
    return joinLans(v4, site.families.includes(6) ? lan6(number) : undefined)
  }

  #attachInside(carrier: string, lan: Lan): void {
    this.attachments.push({
      port: `${carrier}.in`,
      node: carrier,
      interface: 'lan0',
      segment: carrier,
      addresses: present(lan.gateway),
      routes: ['0.0.0.0/0'],
      path: INNER_PATH,
    })
  }

  #addPublic(name: string, addresses: readonly string[], path: Required<PathParameters>): void {
    this.#add({ role: 'public', name, addresses })
    this.attachments.push({
      port: name,
      node: name,
      interface: 'eth0',
      segment: 'core',
      addresses,
      routes: [],
      path,
    })
  }

  #add(node: Node): void {
    if (this.nodes.has(node.name) || node.name === 'core')
      throw impossible(`two hosts are called ${node.name}`)
    this.nodes.set(node.name, node)
  }
}

/** The way between a carrier and its customers: part of the site's path already. */
const INNER_PATH: Required<PathParameters> = { ...SITE_PATH, delay: 0, hops: 0 }

/** `a-home`, `a-carrier`; numbered from the client where a role comes twice. */
function routerNames(site: ResolvedSite & { readonly name: string }): string[] {
  const seen = new Map<string, number>()
  return site.routers.map(({ role }) => {
    const count = (seen.get(role) ?? 0) + 1
    seen.set(role, count)
    return `${site.name}-${role}${count > 1 ? count : ''}`
  })
}

interface Half {
  readonly gateway: string
  readonly prefix: string
}

function lan4(network: string, length: number, base = 0): Half {
  return { gateway: `${network}.${base + 1}/${length}`, prefix: `${network}.${base}/${length}` }
}

function lan6(number: number): Half {
  return { gateway: `${sitePrefix(number)}:1::1/64`, prefix: `${sitePrefix(number)}:1::/64` }
}

function sitePrefix(number: number): string {
  return `2001:db8:${(0x100 + number).toString(16)}`
}

function joinLans(v4: Half | undefined, v6: Half | undefined): Lan {
  return {
    gateway: { ...(v4 && { 4: v4.gateway }), ...(v6 && { 6: v6.gateway }) },
    prefix: { ...(v4 && { 4: v4.prefix }), ...(v6 && { 6: v6.prefix }) },
  }
}

/** RFC 6598 space; a second carrier in the chain has its own network. */
function carrierLan(number: number, depth: number): Lan {
  const network = `100.${63 + depth}.${number}`
  return { gateway: { 4: `${network}.1` }, prefix: { 4: `${network}.0/24` } }
}

function customerOf(lan: Lan, index: number): string {
  return (lan.gateway[4] ?? '').replace(/\d+$/, String(10 + index))
}

/** With prefix length taken off: clients of a small public LAN are .2 and up, of a private one .10 and up. */
function clientAddresses(lan: Lan, index: number): Addresses {
  const v4 = lan.gateway[4]
  const v6 = lan.gateway[6]
  const result: { 4?: string; 6?: string } = {}
  if (v4 !== undefined) {
    const [address = '', length = ''] = v4.split('/')
    const last = Number(address.split('.')[3])
    result[4] = address.replace(/\d+$/, String(length === '29' ? last + 1 + index : 10 + index))
  }
  if (v6 !== undefined) result[6] = v6.replace(/::1\/64$/, `::${(0x10 + index).toString(16)}`)
  return result
}

function present(addresses: Addresses): string[] {
  return [addresses[4], addresses[6]].flatMap((address) =>
    address === undefined ? [] : [address.split('/')[0] ?? ''],
  )
}
