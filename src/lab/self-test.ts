import { isDeepStrictEqual } from 'node:util'
import { kindNames, kinds, type Kind, type KindName } from '../sim/kinds.ts'
import { Lab } from './lab.ts'
import { observe, observeLifetime, openOutside, type Observed, type Scene } from './observe.ts'
import { Observer } from './observer.ts'
import { probeFeatures, type Features, type LabView } from './features.ts'
import { observeSimulated, type Simulated } from './simulated.ts'
import type { Site } from './topology.ts'

/** What was seen of one router kind, and where that is not what `natwork/sim` declares, or does itself. */
export interface KindReport {
  readonly kind: KindName
  readonly observed: Observed | undefined
  readonly features: Features
  /** Idle seconds → whether the mapping was still open. Empty where nothing can expire. */
  readonly lifetime: Readonly<Record<number, boolean>>
  /** Empty: as declared, and as the simulator. */
  readonly disagreements: readonly string[]
}

export interface SelfTestOptions {
  /** Default: all of them. */
  readonly kinds?: readonly KindName[]
  readonly signal?: AbortSignal
  /** Called for each kind as soon as it is done. */
  readonly onReport?: (report: KindReport) => void
}

/**
 * Builds every router kind in one lab and looks at each from outside: mapping, filtering, port allocation, hairpin,
 * lifetime, and what else its kind promises. Takes as long as the longest idle time it waits for (33 s).
 *
 * @throws {LabSystemError} where no lab can be made.
 */
export async function selfTest(options: SelfTestOptions = {}): Promise<KindReport[]> {
  const chosen = options.kinds ?? kindNames
  const places = chosen.map((kind, i) => placeFor(kinds[kind], `k${i}`))
  const sites = Object.fromEntries(places.flatMap((place) => Object.entries(place.sites)))
  await using lab = await Lab.create(
    { hosts: { one: {}, two: {} }, sites },
    options.signal ? { signal: options.signal } : {},
  )
  const observer = new Observer(lab)
  const scene = sceneOf(lab, observer)
  const services = await startServices(lab, observer)
  return await Promise.all(
    places.map(async ({ kind, site, clients }) => {
      const from = await openOutside(scene, ['one', 'two'], kind.families.includes(4) ? 4 : 6)
      const report = await examine(kind, { scene, lab, observer, site, clients, from }, services)
      options.onReport?.(report)
      return report
    }),
  )
}

interface Place {
  readonly kind: Kind
  readonly site: string
  readonly sites: Readonly<Record<string, Site>>
  readonly clients: readonly [string, string]
}

/** Two clients that share the kind's outermost NAT. */
function placeFor(kind: Kind, name: string): Place {
  if (kind.shared !== 'carrier') {
    return {
      kind,
      site: name,
      sites: { [name]: { routers: [kind.name], clients: 2 } },
      clients: [`${name}1`, `${name}2`],
    }
  }
  const neighbour = `${name}n`
  const inner: Site = { routers: kind.routers.slice(0, -1), behind: name }
  return {
    kind,
    site: name,
    sites: { [name]: { routers: [kind.name] }, [neighbour]: inner },
    clients: [`${name}1`, `${neighbour}1`],
  }
}

function sceneOf(lab: Lab, observer: Observer): Scene {
  const addresses = new Map(lab.hosts.map((host) => [host.name, host.addresses]))
  return {
    addresses: (host) => addresses.get(host) ?? [],
    udp: (host, address, port) => observer.udp(host, address, port),
    wait: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  }
}

/** TCP on public host `one`: what firewalls tell apart. */
async function startServices(lab: Lab, observer: Observer): Promise<readonly number[]> {
  const ports = [22, 80, 443]
  for (const family of [4, 6] as const) {
    await Promise.all(ports.map((port) => observer.tcpEcho('one', lab.address('one', family), port)))
  }
  return ports
}

async function examine(kind: Kind, view: LabView, tcpPorts: readonly number[]): Promise<KindReport> {
  const idle = idleTimes(kind)
  const [observed, alive, features, simulated] = await Promise.all([
    observe(view),
    observeLifetime(view, idle),
    probeFeatures(kind, view, tcpPorts),
    observeSimulated(kind, idle),
  ])
  const lifetime = Object.fromEntries(idle.map((seconds, i) => [seconds, alive[i] ?? false]))
  return {
    kind: kind.name,
    observed,
    features,
    lifetime,
    disagreements: [
      ...compare(kind, observed),
      ...compareLifetime(kind, lifetime),
      ...compareFeatures(kind, features),
      ...compareSimulated(simulated, { observed, alive }),
    ],
  }
}

const MARGIN = 3
const LONGEST_WAIT = 33

/** A little before and after the declared end; where that would take minutes, longer than the kernel's own default. */
function idleTimes({ behaviour, routers }: Kind): number[] {
  // A static rule never closes.
  if (behaviour === undefined || routers.some(({ netfilter }) => netfilter?.forwardedPort !== undefined))
    return []
  const { lifetime } = behaviour
  return lifetime + MARGIN > LONGEST_WAIT ? [LONGEST_WAIT] : [lifetime - MARGIN, lifetime + MARGIN]
}

function compare({ behaviour, routers }: Kind, observed: Observed | undefined): string[] {
  if (behaviour === undefined) return observed ? ['UDP gets out and back, declared: none'] : []
  if (observed === undefined) return ['no UDP gets out and back']
  const found: string[] = []
  const expect = (what: string, seen: string, declared: string): void => {
    if (seen !== declared) found.push(`${what}: ${seen}, declared: ${declared}`)
  }
  // A dependent mapping on preserved ports shows where another client has the port already.
  const onlyOnClash = behaviour.ports === 'preserving' && behaviour.mapping === 'address-and-port-dependent'
  expect('mapping', onlyOnClash ? observed.mappingOnClash : observed.mapping, behaviour.mapping)
  // netfilter's masquerade becomes dependent on a clash; what is defined by its behaviour does not.
  if (routers.every(({ netfilter }) => netfilter === undefined)) {
    expect('mapping of a second client', observed.mappingOnClash, behaviour.mapping)
  }
  expect('filtering', observed.filtering, behaviour.filtering)
  expect('ports', observed.ports, behaviour.ports)
  // Who has a public address is reached there, NAT or not.
  if (routers.some(({ translation }) => translation !== 'none')) {
    expect('hairpin', observed.hairpin, behaviour.hairpin)
  }
  return found
}

function compareLifetime({ behaviour }: Kind, lifetime: Readonly<Record<number, boolean>>): string[] {
  return Object.entries(lifetime).flatMap(([seconds, alive]) => {
    const declared = behaviour?.lifetime ?? 0
    if (alive === Number(seconds) < declared) return []
    return [`lifetime: ${alive ? 'open' : 'closed'} after ${seconds} s, declared: ${declared} s`]
  })
}

/** The same probes in virtual time: where they see something else, the simulator is wrong until shown otherwise. */
function compareSimulated(simulated: Simulated, real: Simulated): string[] {
  if (isDeepStrictEqual(simulated, real)) return []
  return [`the simulator: ${JSON.stringify(simulated)}, here: ${JSON.stringify(real)}`]
}

/** What the kind's routers promise besides their NAT. */
function compareFeatures(kind: Kind, features: Features): string[] {
  const wanted = promisedFeatures(kind)
  return Object.entries(features).flatMap(([name, seen]) => {
    const promised: unknown = wanted[name as keyof Features]
    if (isDeepStrictEqual(seen, promised)) return []
    return [`${name}: ${JSON.stringify(seen)}, declared: ${JSON.stringify(promised)}`]
  })
}

function promisedFeatures({ routers, shared }: Kind): Features {
  const [home] = routers
  const outermost = routers.at(-1)
  const egress = new Set(routers.map((router) => router.egress))
  // A DMZ rule translates the agent's UDP and nothing else: TCP leaves with a private address and is not answered.
  const udpOnly = routers.some(({ netfilter }) => netfilter?.source === 'snat')
  const open = !udpOnly && !egress.has('tls-443')
  return {
    tcp22: open && !egress.has('tcp-80-443'),
    tcp80: open,
    tls443: !udpOnly,
    plain443: open,
    neighbour: shared !== 'carrier' && home?.isolated !== true,
    portMapping: home?.portMapping === true && outermost === home,
    dns64: home?.translation === 'nat64',
  }
}
