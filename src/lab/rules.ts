import {
  AGENT_PORT,
  FIRST_PORT,
  LAST_PORT,
  PORT_BLOCK,
  type Behaviour,
  type NetfilterRules,
  type RouterSpec,
} from '../sim/kinds.ts'
import type { RouterNode } from './plan.ts'

/** What a router's rules speak of. Interfaces: `ext0` towards the core, `lan0` towards the clients. */
type Router = Pick<RouterNode, 'spec' | 'external' | 'agent' | 'customers'>

/** Where the NAT64 translator's IPv4 side comes from inside its router. */
export const NAT64_POOL = '192.168.255'

/** The nft script that makes a namespace the router of this specification. Loading it again is a reboot. */
export function routerRules(router: Router): string {
  const { spec } = router
  const filtering = spec.netfilter ?? { source: 'none', input: 'drop', forward: 'established' }
  return [
    // Also when loaded a second time; blocks and losses that a test set have tables of their own and stay.
    ...['ip nat', 'inet filter', 'inet miniupnpd'].flatMap((table) => [
      `add table ${table}`,
      `delete table ${table}`,
    ]),
    ...(spec.netfilter ? netfilterNat(router, spec.netfilter) : behaviourNat(router)),
    ...filterTable(spec, filtering),
    ...(spec.portMapping ? PORT_MAPPING_TABLE : []),
    '',
  ].join('\n')
}

/** A router's UDP timeouts, where they are not Linux's own. */
export function routerSysctls({ netfilter, behaviour: { lifetime } }: RouterSpec): string[] {
  const own = Number.isFinite(lifetime) ? lifetime : undefined
  const timeout = netfilter ? netfilter.timeout : own
  const stream = netfilter ? netfilter.timeoutStream : own
  return [
    ...(timeout === undefined ? [] : [`net/netfilter/nf_conntrack_udp_timeout=${timeout}`]),
    ...(stream === undefined ? [] : [`net/netfilter/nf_conntrack_udp_timeout_stream=${stream}`]),
  ]
}

/**
 * The rule sets as people write them, line by line. `ROUTER_EXT` is `ext0`; AGENT_HOST, ROUTER_EXT_IP are the
 * router's own.
 */
function netfilterNat(router: Router, rules: NetfilterRules): string[] {
  const [external, agent] = [router.external[4], router.agent[4]]
  if (external === undefined || agent === undefined || router.spec.translation === 'none') return []
  const port = rules.forwardedPort
  const lines = [
    'add table ip nat',
    'add chain ip nat prerouting { type nat hook prerouting priority -100 ; }',
    'add chain ip nat postrouting { type nat hook postrouting priority 100 ; }',
  ]
  if (rules.source === 'snat') {
    lines.push(
      `add rule ip nat postrouting ip protocol udp ip saddr ${agent} meta oif ext0 snat to ${external}:${port ?? AGENT_PORT}`,
    )
  }
  if (port !== undefined) {
    lines.push(`add rule ip nat prerouting udp dport ${port} meta iif ext0 dnat to ${agent}:${AGENT_PORT}`)
  }
  if (rules.source === 'masquerade')
    lines.push('add rule ip nat postrouting meta oif ext0 masquerade persistent')
  if (rules.source === 'masquerade-random')
    lines.push('add rule ip nat postrouting meta oif ext0 masquerade random')
  return lines
}

/**
 * A NAT by its behaviour. netfilter's own NAT maps per flow, so what a behaviour adds is remembered in nft maps: the
 * `record` chain sees every outgoing datagram after its translation and writes down who has which external port.
 *
 * - `inside`: external port → client socket, for packets that come in (and hairpins).
 * - `mapped`: client socket (and remote address, where the mapping depends on it) → external address and port.
 * - `held`, `taken`: who has which port, for port preservation.
 * - `contacted`: remote address and external port, for address-dependent filtering.
 *
 * Entries live as long as the mapping: every outgoing datagram renews them (RFC 4787 REQ-6).
 */
function behaviourNat(router: Router): string[] {
  const external = router.external[4]
  const { behaviour, translation } = router.spec
  if (external === undefined || translation === 'none') return []
  const mappingKey = { 'endpoint-independent': '', 'address-dependent': ' . ip daddr' } as const
  const depends =
    behaviour.mapping === 'address-and-port-dependent' ? undefined : mappingKey[behaviour.mapping]
  const store = `size 65536; flags dynamic,timeout; timeout ${behaviour.lifetime}s;`
  const remoteType = depends ? ' . ipv4_addr' : ''
  const preserving = behaviour.ports === 'preserving'
  const learn = (client: string): string[] => [
    `meta l4proto udp update @inside { udp sport : ${client} }`,
    ...(depends === undefined
      ? []
      : [`meta l4proto udp update @mapped { ${client}${depends} : ip saddr . udp sport }`]),
    ...(preserving
      ? [
          `meta l4proto udp update @held { udp sport . ${client.split(' . ')[0] ?? ''} }`,
          'meta l4proto udp update @taken { udp sport }',
        ]
      : []),
    ...(behaviour.filtering === 'address-dependent'
      ? ['meta l4proto udp update @contacted { ip daddr . udp sport }']
      : []),
  ]
  return [
    'table ip nat {',
    `  map inside { type inet_service : ipv4_addr . inet_service; ${store} }`,
    ...(depends === undefined
      ? []
      : [`  map mapped { type ipv4_addr . inet_service${remoteType} : ipv4_addr . inet_service; ${store} }`]),
    ...(preserving
      ? [
          `  set held { type inet_service . ipv4_addr; ${store} }`,
          `  set taken { type inet_service; ${store} }`,
        ]
      : []),
    ...(behaviour.filtering === 'address-dependent'
      ? [`  set contacted { type ipv4_addr . inet_service; ${store} }`]
      : []),
    '  chain prerouting {',
    '    type nat hook prerouting priority -100;',
    ...incoming(behaviour, external).map(indent),
    '  }',
    '  chain postrouting {',
    '    type nat hook postrouting priority 100;',
    `    oifname "ext0" meta l4proto != udp snat to ${external}`,
    '    oifname "ext0" jump translate',
    ...(behaviour.hairpin === 'external-source' ? ['    oifname "lan0" ct status dnat jump translate'] : []),
    '  }',
    '  chain translate {',
    ...(depends === undefined
      ? []
      : [`    meta l4proto udp snat ip to ip saddr . udp sport${depends} map @mapped`]),
    ...allocation(behaviour, external, router.customers).map(indent),
    '  }',
    '  chain record {',
    '    type filter hook postrouting priority 110;',
    `    meta l4proto udp ip saddr ${external} ct direction original jump learn_original`,
    `    meta l4proto udp ip saddr ${external} ct direction reply jump learn_reply`,
    '  }',
    '  chain learn_original {',
    ...learn('ct original ip saddr . ct original proto-src').map(indent),
    '  }',
    '  chain learn_reply {',
    ...learn('ct reply ip saddr . ct reply proto-src').map(indent),
    '  }',
    '}',
  ]
}

function incoming(behaviour: Behaviour, external: string): string[] {
  const to = 'dnat ip to udp dport map @inside'
  const rules = []
  // Address-and-port-dependent filtering is what conntrack does by itself: only replies come in.
  if (behaviour.filtering === 'endpoint-independent') rules.push(`iifname "ext0" meta l4proto udp ${to}`)
  if (behaviour.filtering === 'address-dependent') {
    rules.push(`iifname "ext0" ip saddr . udp dport @contacted ${to}`)
  }
  if (behaviour.hairpin !== 'none') rules.push(`iifname "lan0" ip daddr ${external} meta l4proto udp ${to}`)
  return rules
}

/** The external port of a new mapping. */
function allocation(behaviour: Behaviour, external: string, customers: readonly string[]): string[] {
  const [first, last] = behaviour.portRange ?? [FIRST_PORT, LAST_PORT]
  const anyPort = `snat to ${external}:${first}-${last} random`
  switch (behaviour.ports) {
    case 'preserving':
    case 'fixed':
      return [
        `udp sport . ip saddr @held snat to ${external}`,
        `udp sport @taken ${anyPort}`,
        `meta l4proto udp snat to ${external}`,
      ]
    case 'sequential':
      return [sequential(external, behaviour.portRange ?? SEQUENCE, behaviour.step ?? 1)]
    case 'block':
      return customers.map((customer, i) => {
        const start = PORT_BLOCK * (1 + ((i + FIRST_BLOCK) % BLOCKS))
        return `meta l4proto udp ip saddr ${customer} snat to ${external}:${start}-${start + PORT_BLOCK - 1} random`
      })
    case 'random':
      return [`meta l4proto udp ${anyPort}`]
  }
}

/** Where the sequential NAT begins, and begins again; every port of it is an element of an nft map. */
const SEQUENCE = [16384, 20479] as const

/** nft gives `numgen`'s number to NAT in the machine's byte order, not as a port: the map makes ports of it. */
function sequential(external: string, [first, last]: readonly [number, number], step: number): string {
  const count = Math.min(SEQUENCE[1] - SEQUENCE[0], Math.floor((last - first) / step)) + 1
  const ports = Array.from({ length: count }, (_, i) => `${i} : ${first + i * step}`)
  return `meta l4proto udp snat to ${external}:numgen inc mod ${count} map { ${ports.join(', ')} }`
}

const BLOCKS = 63
const FIRST_BLOCK = 31

function filterTable(spec: RouterSpec, { input, forward }: NetfilterRules): string[] {
  return [
    'table inet filter {',
    // miniupnpd's: what it forwards, and the holes of IPv6 hosts.
    ...(spec.portMapping ? ['  chain miniupnpd { }'] : []),
    '  chain input {',
    '    type filter hook input priority 0;',
    ...(input === 'drop' ? ['    iifname "ext0" ct state new,invalid drop'] : []),
    '  }',
    '  chain forward {',
    '    type filter hook forward priority 0;',
    ...(spec.isolated ? ['    iifname "lan0" oifname "lan0" drop'] : []),
    ...EGRESS[spec.egress].map(indent),
    ...(forward === 'established'
      ? [
          '    iifname "ext0" ct state established,related accept',
          '    iifname "ext0" ct status dnat accept',
          ...(spec.portMapping ? ['    jump miniupnpd'] : []),
          '    iifname "ext0" drop',
        ]
      : []),
    '  }',
    '}',
  ]
}

/** Rules of the forward chain for what leaves. Answers to it are not looked at. */
const EGRESS: Readonly<Record<RouterSpec['egress'], readonly string[]>> = {
  all: [],
  'tcp-80-443': ['iifname "lan0" tcp dport { 80, 443 } accept', 'iifname "lan0" drop'],
  // A connection is TLS from its first byte of data: a handshake record (22) of version 3.x. Mark 1: seen to be so.
  // The last rule lets pass what carries no data yet: `@ih` (the bytes after the TCP header) matches nothing there.
  'tls-443': [
    'iifname "lan0" tcp dport != 443 drop',
    'iifname "lan0" meta l4proto != tcp drop',
    'iifname "lan0" ct mark 1 accept',
    'iifname "lan0" @ih,0,16 0x1603 ct mark set 1 accept',
    'iifname "lan0" @ih,0,8 0x00-0xff drop',
  ],
}

/** Where miniupnpd translates. */
const PORT_MAPPING_TABLE = [
  'table inet miniupnpd {',
  '  chain prerouting_miniupnpd { }',
  '  chain postrouting_miniupnpd { }',
  '  chain prerouting { type nat hook prerouting priority -101; jump prerouting_miniupnpd; }',
  '  chain postrouting { type nat hook postrouting priority 99; jump postrouting_miniupnpd; }',
  '}',
]

function indent(line: string): string {
  return `    ${line}`
}
