/**
 * The one list of router kinds, used by the simulator and the laboratory alike: what each is called, what it is in
 * one sentence, and how it behaves in RFC 4787's words. Both builders are checked against what is declared here.
 */

/** On what of the remote end a mapping or a filter depends (RFC 4787 §4.1, §5). */
export type Dependence = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent'

/**
 * How a NAT chooses the external port of a new mapping (RFC 4787 §4.2).
 * - `preserving`: the client's own port; another (uniform) one only where two clients clash.
 * - `fixed`: the one port of a static rule ({@link DMZ_PORT}), whatever port the client uses.
 * - `sequential`: the next port after the one given out last.
 * - `block`: a uniform choice out of the client's own aligned block of {@link PORT_BLOCK} ports (RFC 6888 §5, REQ-14).
 * - `random`: a uniform choice of 1024–65535.
 */
export type PortAllocation = 'preserving' | 'fixed' | 'sequential' | 'block' | 'random'

/**
 * What happens to a datagram from inside to an external address of the same NAT (RFC 4787 §6).
 * `external-source`: delivered, and the receiver sees the sender's external address (REQ-9a); `internal-source`:
 * delivered with the sender's private address; `none`: dropped.
 */
export type Hairpin = 'none' | 'internal-source' | 'external-source'

/** One NAT (or filter) as an observer outside sees it, in RFC 4787's words. */
export interface Behaviour {
  readonly mapping: Dependence
  readonly filtering: Dependence
  readonly ports: PortAllocation
  /** Seconds an idle mapping lives; Infinity where a static rule (or no NAT) keeps the port for ever. */
  readonly lifetime: number
  readonly hairpin: Hairpin
  /** Whether packets from outside keep a mapping alive too (RFC 4787 §4.3, REQ-6b). Default: true, as Linux does. */
  readonly inboundRefresh?: boolean
  /** Which of several external addresses a client gets: always the same, or any (§4.1, REQ-2). Default: paired. */
  readonly pooling?: 'paired' | 'arbitrary'
  /** How far apart `sequential` ports are. Default: 1. */
  readonly step?: number
  /** First and last port given out. Default: 1024–65535. */
  readonly portRange?: readonly [number, number]
}

/**
 * A router made of netfilter rules, for kinds that are defined by them. Absent: the router is defined by its
 * {@link Behaviour} alone.
 */
export interface NetfilterRules {
  /**
   * What happens to the source of flows that leave by the outer interface: `snat` = the agent's UDP to
   * `ROUTER_EXT_IP:DMZ_PORT`; `masquerade` = `masquerade persistent`; `masquerade-random` = `masquerade random`.
   */
  readonly source: 'none' | 'snat' | 'masquerade' | 'masquerade-random'
  /** The outer port whose UDP goes to the agent's socket (`dnat`), if any. */
  readonly forwardedPort?: number
  /** New packets from outside to the router itself: `accept` answers with ICMP and leaves a conntrack entry. */
  readonly input: 'accept' | 'drop'
  /** New flows from outside to inside: `accept` all, or only `established` ones (and what `dnat` sent there). */
  readonly forward: 'accept' | 'established'
  /** `nf_conntrack_udp_timeout`: seconds for a flow without an answer. Default: {@link LINUX_TIMEOUT}. */
  readonly timeout?: number
  /** `nf_conntrack_udp_timeout_stream`: seconds for a live flow. Default: {@link LINUX_TIMEOUT_STREAM}. */
  readonly timeoutStream?: number
}

/** One router of a site. */
export interface RouterSpec {
  readonly role: 'home' | 'carrier'
  readonly translation: 'none' | 'nat44' | 'nat64'
  readonly behaviour: Behaviour
  readonly netfilter?: NetfilterRules
  /** What may leave: everything, TCP to 80 and 443 only, or TLS on TCP 443 only. */
  readonly egress: 'all' | 'tcp-80-443' | 'tls-443'
  /** Clients of this router cannot reach each other, not even on the wire between them. */
  readonly isolated: boolean
  /** Answers NAT-PMP (RFC 6886), PCP (RFC 6887) and UPnP-IGD (RFC 6970). */
  readonly portMapping: boolean
}

export interface Kind {
  readonly name: KindName
  /** One sentence for people. */
  readonly summary: string
  /** From the client to the core; empty when the client is a public host. */
  readonly routers: readonly RouterSpec[]
  /** What the whole chain looks like from outside; undefined when no UDP passes at all. */
  readonly behaviour: Behaviour | undefined
  /**
   * The address families with which the client can talk to public hosts. NAT64 clients have both: IPv6 of their own
   * and IPv4 through {@link NAT64_PREFIX}.
   */
  readonly families: readonly (4 | 6)[]
  /**
   * What two peers of this same kind share: nothing (each has its own site), the home router (two clients of one
   * NAT), or the carrier's NAT (two homes behind it).
   */
  readonly shared: 'nothing' | 'router' | 'carrier'
}

export type KindName = (typeof kindNames)[number]

/** Every kind, in the order of the tables. The names are stable: reports and scenario files use them. */
export const kindNames = [
  'none',
  'dmz-literal',
  'dmz',
  'full-cone',
  'port-forward',
  'firewall',
  'address-restricted',
  'port-restricted-literal',
  'port-restricted',
  'short-lifetime',
  'upnp',
  'symmetric-preserving',
  'symmetric-address',
  'symmetric-sequential',
  'symmetric-block',
  'symmetric-literal',
  'symmetric',
  'symmetric-random',
  'cgn-cone',
  'cgn-symmetric',
  'upnp-behind-cgn',
  'hairpin',
  'no-hairpin',
  'client-isolation',
  'same-cgn',
  'firewall6',
  'nat64',
  'udp-blocked',
  'tls-only',
] as const

/** The UDP port of the agent behind the NAT (AGENT_PORT of the rule sets). */
export const AGENT_PORT = 1315
/** The router's outer port of the DMZ rules (DMZ_PORT of the rule sets). */
export const DMZ_PORT = 55555
/** Ports per client of a carrier's block. */
export const PORT_BLOCK = 1024
/** First and last port that a NAT gives out. */
export const FIRST_PORT = 1024
export const LAST_PORT = 65535
/** The well-known NAT64 prefix (RFC 6052 §2.1), a /96. */
export const NAT64_PREFIX = '64:ff9b::'

/** Linux keeps an unanswered UDP flow 30 s and a live one 120 s; the shorter is what is declared as the lifetime. */
export const LINUX_TIMEOUT = 30
export const LINUX_TIMEOUT_STREAM = 120
/** RFC 4787 §4.3, REQ-5: at least two minutes, five recommended. */
const RFC_LIFETIME = 300
const SHORT_LIFETIME = 10

const open: Behaviour = {
  mapping: 'endpoint-independent',
  filtering: 'endpoint-independent',
  ports: 'preserving',
  lifetime: Infinity,
  hairpin: 'none',
}
const dmz: Behaviour = { ...open, ports: 'fixed' }
const fullCone: Behaviour = { ...open, lifetime: RFC_LIFETIME }
const portRestricted: Behaviour = {
  ...open,
  filtering: 'address-and-port-dependent',
  lifetime: LINUX_TIMEOUT,
}
const addressRestricted: Behaviour = {
  ...open,
  filtering: 'address-dependent',
  lifetime: RFC_LIFETIME,
}
const symmetric: Behaviour = {
  mapping: 'address-and-port-dependent',
  filtering: 'address-and-port-dependent',
  ports: 'random',
  lifetime: LINUX_TIMEOUT,
  hairpin: 'none',
}

const masquerade: NetfilterRules = { source: 'masquerade', input: 'drop', forward: 'established' }
const masqueradeShort = { ...masquerade, timeout: SHORT_LIFETIME, timeoutStream: SHORT_LIFETIME }
const masqueradeRandom: NetfilterRules = { ...masquerade, source: 'masquerade-random' }
const forwardToAgent: NetfilterRules = { ...masquerade, forwardedPort: AGENT_PORT }
const dmzRules: NetfilterRules = { ...masquerade, source: 'snat', forwardedPort: DMZ_PORT }
const stateful: NetfilterRules = { ...masquerade, source: 'none' }
/** The rule set exactly as written: no filter chains at all. */
const unfiltered = { input: 'accept', forward: 'accept' } as const

const home: Omit<RouterSpec, 'behaviour'> = {
  role: 'home',
  translation: 'nat44',
  egress: 'all',
  isolated: false,
  portMapping: false,
}
const homeNat: RouterSpec = { ...home, behaviour: portRestricted, netfilter: masquerade }
const carrierCone: RouterSpec = {
  ...home,
  role: 'carrier',
  behaviour: { ...portRestricted, lifetime: RFC_LIFETIME, hairpin: 'external-source' },
}
const carrierSymmetric: RouterSpec = {
  ...home,
  role: 'carrier',
  behaviour: { ...symmetric, ports: 'block', lifetime: RFC_LIFETIME },
}

const shape: Pick<Kind, 'families' | 'shared'> = { families: [4], shared: 'nothing' }
type Entry = Omit<Kind, 'name'>

/** A kind of one NAT44 whose declared behaviour is the router's own. */
function nat(summary: string, behaviour: Behaviour, netfilter?: NetfilterRules): Entry {
  return {
    ...shape,
    summary,
    behaviour,
    routers: [netfilter ? { ...home, behaviour, netfilter } : { ...home, behaviour }],
  }
}

const entries: Record<KindName, Entry> = {
  none: { ...shape, summary: 'No router: the host has a public address.', routers: [], behaviour: open },
  'dmz-literal': nat(
    'A DMZ host by two nft rules and no filter: one outer port leads to the agent’s socket, whoever sends.',
    dmz,
    { ...dmzRules, ...unfiltered },
  ),
  dmz: nat('A DMZ host on a router that drops what is sent to itself.', dmz, dmzRules),
  'full-cone': nat('A NAT with one mapping per client socket, open to everybody.', fullCone),
  'port-forward': nat(
    'A port-restricted NAT with the agent’s port forwarded to it by hand.',
    { ...portRestricted, filtering: 'endpoint-independent', lifetime: Infinity },
    forwardToAgent,
  ),
  firewall: {
    ...nat('Public IPv4 addresses behind a stateful firewall: only answers come in.', portRestricted),
    routers: [{ ...home, translation: 'none', behaviour: portRestricted, netfilter: stateful }],
  },
  'address-restricted': nat(
    'A NAT with one mapping per client socket, open to every port of the addresses it has sent to.',
    addressRestricted,
  ),
  'port-restricted-literal': nat(
    'nft `masquerade persistent` and no filter: an early packet to the router takes the port and moves the mapping.',
    portRestricted,
    { ...masquerade, ...unfiltered },
  ),
  'port-restricted': nat(
    'The usual home router: one mapping per client socket, open to exactly the addresses and ports it has sent to.',
    portRestricted,
    masquerade,
  ),
  'short-lifetime': nat(
    `A port-restricted NAT that forgets an idle mapping after ${SHORT_LIFETIME} seconds.`,
    { ...portRestricted, lifetime: SHORT_LIFETIME },
    masqueradeShort,
  ),
  upnp: {
    ...nat('A home router that maps ports on request (NAT-PMP, PCP, UPnP-IGD).', portRestricted),
    routers: [{ ...homeNat, portMapping: true }],
  },
  'symmetric-preserving': nat(
    'One mapping per destination, each on the client’s own port while no other client holds it.',
    { ...symmetric, ports: 'preserving' },
  ),
  'symmetric-address': nat('One mapping per remote address, on a random port.', {
    ...symmetric,
    mapping: 'address-dependent',
  }),
  'symmetric-sequential': nat('One mapping per destination, each on the port after the last one.', {
    ...symmetric,
    ports: 'sequential',
  }),
  'symmetric-block': nat(
    `One mapping per destination, on a random port of the client’s own block of ${PORT_BLOCK}.`,
    { ...symmetric, ports: 'block' },
  ),
  'symmetric-literal': nat(
    'nft `masquerade random` and no filter: one mapping per destination, on a random port.',
    symmetric,
    { ...masqueradeRandom, ...unfiltered },
  ),
  symmetric: nat(
    'The symmetric NAT: one mapping per destination, on a random port, and a router that drops what is sent to itself.',
    symmetric,
    masqueradeRandom,
  ),
  'symmetric-random': nat(
    'A symmetric NAT by behaviour alone, without conntrack: every destination a fresh, uniform port, kept 5 minutes.',
    { ...symmetric, lifetime: RFC_LIFETIME },
  ),
  'cgn-cone': {
    ...shape,
    summary: 'A home router behind a carrier’s port-restricted NAT (RFC 6888).',
    routers: [homeNat, carrierCone],
    behaviour: { ...portRestricted, hairpin: 'external-source' },
  },
  'cgn-symmetric': {
    ...shape,
    summary: `A home router behind a carrier’s symmetric NAT with blocks of ${PORT_BLOCK} ports.`,
    routers: [homeNat, carrierSymmetric],
    behaviour: { ...symmetric, ports: 'block' },
  },
  'upnp-behind-cgn': {
    ...shape,
    summary:
      'A home router that maps ports on request, behind a carrier’s NAT where such a mapping is useless.',
    routers: [{ ...homeNat, portMapping: true }, carrierCone],
    behaviour: { ...portRestricted, hairpin: 'external-source' },
  },
  hairpin: {
    ...nat('Two clients of one port-restricted NAT that sends their packets back in (hairpin).', {
      ...portRestricted,
      lifetime: RFC_LIFETIME,
      hairpin: 'external-source',
    }),
    shared: 'router',
  },
  'no-hairpin': {
    ...nat('Two clients of one port-restricted NAT without hairpin.', portRestricted, masquerade),
    shared: 'router',
  },
  'client-isolation': {
    ...shape,
    summary: 'Two clients of one port-restricted NAT that keeps them apart (guest Wi-Fi), without hairpin.',
    routers: [{ ...homeNat, isolated: true }],
    behaviour: portRestricted,
    shared: 'router',
  },
  'same-cgn': {
    ...shape,
    summary: 'Two homes behind the same carrier NAT, which sends their packets back in (RFC 6888 §3, REQ-1).',
    routers: [homeNat, carrierCone],
    behaviour: { ...portRestricted, hairpin: 'external-source' },
    shared: 'carrier',
  },
  firewall6: {
    summary: 'Global IPv6 addresses, and no IPv4, behind a stateful firewall: only answers come in.',
    routers: [{ ...home, translation: 'none', behaviour: portRestricted, netfilter: stateful }],
    behaviour: portRestricted,
    families: [6],
    shared: 'nothing',
  },
  nat64: {
    summary:
      'An IPv6-only client: IPv4 through NAT64 (RFC 6146, port-restricted), IPv6 behind a stateful firewall.',
    routers: [{ ...home, translation: 'nat64', behaviour: { ...portRestricted, lifetime: RFC_LIFETIME } }],
    behaviour: { ...portRestricted, lifetime: RFC_LIFETIME },
    families: [4, 6],
    shared: 'nothing',
  },
  'udp-blocked': {
    ...shape,
    summary: 'No UDP at all; TCP goes out to ports 80 and 443 only.',
    routers: [{ ...homeNat, egress: 'tcp-80-443' }],
    behaviour: undefined,
  },
  'tls-only': {
    ...shape,
    summary: 'Everything but TLS to TCP port 443 is blocked.',
    routers: [{ ...homeNat, egress: 'tls-443' }],
    behaviour: undefined,
  },
}

/** Every kind by its name. */
export const kinds = Object.fromEntries(
  kindNames.map((name) => [name, { name, ...entries[name] }]),
) as Readonly<Record<KindName, Kind>>

export function isKindName(name: string): name is KindName {
  return Object.hasOwn(kinds, name)
}
