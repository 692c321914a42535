import { NEXT_HOP, type Attachment, type ClientNode, type Node, type Plan, type RouterNode } from './plan.ts'
import { NAT64_PREFIX } from '../sim/kinds.ts'
import { NAT64_POOL, routerRules, routerSysctls } from './rules.ts'

/** The two ends of the veth pair between a NAT64 router and its translator: the translator's, the router's. */
export const TRANSLATOR = 'nat64x'
export const TRANSLATOR_PEER = 'nat64'

/** The emulator's address on the wire: a neighbour everybody has configured, so that nobody asks. */
const EMULATOR_MAC = '02:00:00:00:00:01'

/**
 * The shell script that, run inside a fresh lab, makes the plan's hosts and wires. One `ip` and one `nft` per
 * namespace: starting programs is what set-up time goes to. `helper` is the lab's helper program.
 */
export function setupScript(plan: Plan, helper: string): string {
  const names = ['core', ...plan.nodes.keys()]
  const nodes = [...plan.nodes.values()]
  return [
    'set -e',
    `H='${helper.replaceAll("'", "'\\''")}'`,
    heredoc(
      'ip -batch -',
      names.map((name) => `netns add ${name}`),
    ),
    '"$H" sysctl core net/ipv6/conf/default/disable_ipv6=1',
    ...nodes.map((node) => `"$H" sysctl ${node.name} ${sysctls(node).join(' ')}`),
    heredoc('ip -batch -', links(plan)),
    heredoc('ip -n core -batch -', [
      'link set lo up',
      ...plan.attachments.map((_, i) => `link set ${coreInterface(i)} up`),
    ]),
    ...nodes.map((node) => heredoc(`ip -n ${node.name} -batch -`, configuration(node, plan))),
    ...nodes
      .filter((node) => node.role === 'router')
      .map((node) => heredoc(`"$H" in ${node.name} nft -f -`, [routerRules(node)])),
    ...nodes.flatMap(files),
    '',
  ].join('\n')
}

/** The name in the `core` namespace of the far end of the plan's attachment with this index. */
export function coreInterface(index: number): string {
  return `p${index}`
}

function heredoc(command: string, lines: readonly string[]): string {
  return `${command} <<'END'\n${lines.join('\n')}\nEND`
}

function sysctls(node: Node): string[] {
  const all = [
    // Addresses are ours to give: nobody need look for doubles or wait for a router to speak.
    'net/ipv6/conf/default/accept_dad=0',
    'net/ipv6/conf/default/dad_transmits=0',
    'net/ipv6/conf/default/accept_ra=0',
    'net/ipv6/conf/default/router_solicitations=0',
    'net/ipv4/ping_group_range=0 0',
  ].map((setting) => `'${setting}'`)
  if (node.role !== 'router') return all
  return [
    ...all,
    'net/ipv4/ip_forward=1',
    'net/ipv6/conf/all/forwarding=1',
    'net/ipv4/conf/all/rp_filter=0',
    'net/ipv4/conf/default/rp_filter=0',
    'net/ipv4/conf/all/send_redirects=0',
    'net/ipv4/conf/default/send_redirects=0',
    // Else a hairpin through the bridge is dropped (where br_netfilter is there at all).
    "'?net/bridge/bridge-nf-call-iptables=0'",
    "'?net/bridge/bridge-nf-call-ip6tables=0'",
    "'?net/bridge/bridge-nf-call-arptables=0'",
    ...routerSysctls(node.spec),
  ]
}

function links(plan: Plan): string[] {
  const wires = plan.attachments.map(
    (at, i) =>
      `link add name ${at.interface} netns ${at.node} type veth peer name ${coreInterface(i)} netns core`,
  )
  const clients = clientsOf(plan).map(
    (client) =>
      `link add name eth0 netns ${client.name} type veth peer name ${client.name} netns ${client.router}`,
  )
  return [...wires, ...clients]
}

function clientsOf(plan: Plan): ClientNode[] {
  return [...plan.nodes.values()].filter((node) => node.role === 'client')
}

function configuration(node: Node, plan: Plan): string[] {
  const own = plan.attachments.filter((at) => at.node === node.name)
  const inward =
    node.role === 'router' ? routerLan(node, plan) : node.role === 'client' ? clientLan(node) : []
  return [
    'link set lo up',
    ...inward,
    ...own.flatMap(attached),
    ...(node.role === 'router' ? translatorLink(node) : []),
  ]
}

function attached(at: Attachment): string[] {
  // What a host with several addresses says unasked it says from the first: the kernel takes no deprecated IPv6 one
  // (RFC 6724 §5), and of IPv4 the first that was added.
  const main6 = at.addresses.find((address) => address.includes(':'))
  const lines = at.addresses.map((address) => {
    const isSpare = address.includes(':') && address !== main6
    return addressLine(address, at.interface) + (isSpare ? ' preferred_lft 0' : '')
  })
  lines.push(`link set ${at.interface} up`)
  for (const family of [4, 6] as const) {
    const hop = NEXT_HOP[family]
    lines.push(`neigh add ${hop} lladdr ${EMULATOR_MAC} dev ${at.interface} nud permanent`)
    // The inside of a carrier leads to its customers only; everything else is outside.
    const target = at.interface === 'lan0' ? customersOf(at, family) : 'default'
    if (target !== undefined) lines.push(`route add ${target} via ${hop} dev ${at.interface} onlink`)
  }
  return lines
}

function customersOf(at: Attachment, family: 4 | 6): string | undefined {
  const [address] = at.addresses
  return family === 4 ? address?.replace(/\.\d+$/, '.0/24') : undefined
}

/** @internal */
export function addressLine(address: string, device: string): string {
  return address.includes(':')
    ? `address add ${address}/128 dev ${device} nodad`
    : `address add ${address}/32 dev ${device}`
}

function routerLan(node: RouterNode, plan: Plan): string[] {
  if (node.inside !== 'bridge') return []
  const ports = clientsOf(plan).filter((client) => client.router === node.name)
  return [
    'link add name lan0 type bridge mcast_snooping 0',
    ...[node.lan.gateway[4], node.lan.gateway[6]].flatMap((at) => (at ? [`address add ${at} dev lan0`] : [])),
    'link set lan0 up',
    ...ports.map(({ name }) => `link set ${name} master lan0 up`),
    ...(node.spec.isolated ? ports.map(({ name }) => `link set ${name} type bridge_slave isolated on`) : []),
  ]
}

/** A veth pair whose far end the translator reads; IPv4 comes out of the NAT's inside. */
function translatorLink(node: RouterNode): string[] {
  if (node.spec.translation !== 'nat64') return []
  return [
    `link add name ${TRANSLATOR_PEER} mtu 1600 type veth peer name ${TRANSLATOR} mtu 1600`,
    `link set ${TRANSLATOR} up`,
    `link set ${TRANSLATOR_PEER} up`,
    ...([4, 6] as const).map(
      (family) => `neigh add ${NEXT_HOP[family]} lladdr ${EMULATOR_MAC} dev ${TRANSLATOR_PEER} nud permanent`,
    ),
    `route add ${NAT64_PREFIX}/96 via ${NEXT_HOP[6]} dev ${TRANSLATOR_PEER} onlink`,
    // IPv6 headers are 20 bytes longer: the router fragments before, or says so. (A fragment's are 8 more; that fits.)
    `route add ${NAT64_POOL}.0/24 via ${NEXT_HOP[4]} dev ${TRANSLATOR_PEER} onlink mtu lock 1480`,
  ]
}

/** What programs of a host read: its name server, its daemon's configuration. */
function files(node: Node, _index: number, all: readonly Node[]): string[] {
  const write = (name: string, lines: string[]): string =>
    heredoc(`cat > /run/lab/${node.name}.${name}`, lines)
  if (node.role === 'router' && node.spec.portMapping) return [write('miniupnpd.conf', MINIUPNPD)]
  if (node.role !== 'client') return []
  const router = all.find(({ name }) => name === node.router)
  if (router?.role !== 'router' || router.spec.translation !== 'nat64') return []
  return [write('resolv.conf', [`nameserver ${node.gateway[6]?.split('/')[0] ?? ''}`])]
}

/** Debian's miniupnpd as a home router sets it up. Its nft chains are made by `routerRules`. */
const MINIUPNPD = [
  'ext_ifname=ext0',
  'listening_ip=lan0',
  'http_port=5000',
  'enable_natpmp=yes',
  'enable_upnp=yes',
  'secure_mode=yes',
  // The machine's own goes on when a router of the lab reboots.
  'system_uptime=no',
  'uuid=6e617477-6f72-4b6c-8162-000000000001',
  'upnp_table_name=filter',
  'upnp_nat_table_name=miniupnpd',
  'upnp_forward_chain=miniupnpd',
  'upnp_nat_chain=prerouting_miniupnpd',
  'upnp_nat_postrouting_chain=postrouting_miniupnpd',
  'allow 1024-65535 0.0.0.0/0 1024-65535',
  'deny 0-65535 0.0.0.0/0 0-65535',
]

function clientLan(node: ClientNode): string[] {
  const lines = ['link set eth0 up']
  for (const family of [4, 6] as const) {
    const [address, gateway] = [node.addresses[family], node.gateway[family]?.split('/')]
    if (address === undefined || gateway === undefined) continue
    lines.push(`address add ${address}/${gateway[1] ?? ''} dev eth0${family === 6 ? ' nodad' : ''}`)
    lines.push(`route add default via ${gateway[0] ?? ''} dev eth0`)
  }
  return lines
}
