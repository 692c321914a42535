// 30 s on two idle cores. Behind real routers of every kind, with our STUN server and with Debian’s coturn: the public
// address is what the routers’ own tables show, netcheck’s verdict is what the kind declares; so is other programs’.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { SocketAddress } from '../../src/core/address.ts'
import { Lab, type Site } from '../../src/lab/index.ts'
import { Observer } from '../../src/lab/observer.ts'
import { AGENT_PORT, kindNames, kinds, synthesize, type Kind } from '../../src/sim/index.ts'
import { root } from '../e2e/natwork.ts'
import { missing } from '../interop/stun-peers.ts'
import { labUnavailable } from './available.ts'

const skip = (await labUnavailable()) || missing('turnserver', 'stun', 'turnutils_natdiscovery')
const built = (path: string): string => JSON.stringify(pathToFileURL(join(root, 'dist', path)).href)

/** One site for each kind, with two clients that share its outermost NAT. */
const places = kindNames.map((name, i) => ({ kind: kinds[name], site: `k${i}` }))
type Place = (typeof places)[number]

/** What Debian's stun (RFC 3489) calls the kinds it has words for. */
const wordsOfStun: Readonly<Record<string, RegExp>> = {
  none: /Primary: Open/,
  firewall: /Primary: Firewall/,
  'full-cone': /Primary: Independent Mapping, Independent Filter, preserves ports, no hairpin/,
  'address-restricted': /Primary: Independent Mapping, Address Dependent Filter, preserves ports, no hairpin/,
  'port-restricted': /Primary: Independent Mapping, Port Dependent Filter, preserves ports, no hairpin/,
  hairpin: /Primary: Independent Mapping, Port Dependent Filter, preserves ports, will hairpin/,
  symmetric: /Primary: Dependent Mapping, random port, no hairpin/,
  'udp-blocked': /Primary: Blocked or could not reach STUN server/,
}

/** Servers: the first address and port 3478 are asked; the second one and 3479 are RFC 5780's others. */
let lab: Lab
let observer: Observer

describe('behind every kind of router', { skip, concurrency: 15 }, () => {
  before(async () => {
    const sites = places.map(({ kind, site }): [string, Site] => [site, { routers: [kind.name], clients: 2 }])
    const hosts = { ours: { addresses: 2 }, coturn: { addresses: 2 } }
    lab = await Lab.create({ hosts, sites: Object.fromEntries(sites) })
    observer = new Observer(lab)
    await startServers()
  })
  after(() => lab.close())

  for (const place of places) {
    test(`${place.kind.name}: the public address and the verdict`, () => checkKind(place))
  }
  for (const { kind, site } of places) {
    const words = wordsOfStun[kind.name]
    if (words)
      test(`${kind.name}: what others make of our server`, () => checkOthers(kind, `${site}2`, words))
  }
})

async function startServers(): Promise<void> {
  const all = lab.hosts.find(({ name }) => name === 'coturn')!.addresses
  const coturn = lab.exec('coturn', 'turnserver', [
    ...['-n', '--no-cli', '--log-file', 'stdout', '--simple-log', '--pidfile', '/dev/null'],
    ...['--stun-only', '--no-tls', '--no-dtls', '--no-tcp'],
    ...all.flatMap((address) => ['--listening-ip', address]),
  ])
  coturn.stdout.resume()
  coturn.stderr.resume()
  const own = lab.hosts.find(({ name }) => name === 'ours')!.addresses
  const pairs = [4, 6].map((family) => own.filter((one) => one.includes(':') === (family === 6)))
  const ours = lab.exec('ours', process.execPath, [
    ...['--input-type=module', '-e'],
    `
    import { getMappedAddress, StunService } from ${built('stun/index.js')}
    for (const [host, other] of ${JSON.stringify(pairs)}) {
      await StunService.listen({ host, port: 3478, tcp: false, alternate: { host: other, port: 3479 } })
      await StunService.listen({ host, port: 3500, tcp: false })
    }
    // Until coturn has started.
    const timing = { rto: 100_000, rc: 100, rm: 1 }
    await getMappedAddress('stun:${lab.address('coturn')}', { timing })
    await getMappedAddress('stun:[${lab.address('coturn', 6)}]', { timing })
    console.log('ready')`,
  ])
  ours.stderr.pipe(process.stderr)
  await once(ours.stdout, 'data')
}

async function checkKind({ kind, site }: Place): Promise<void> {
  for (const family of kind.families) {
    const addresses = ['ours', 'coturn'].map((host) => lab.address(host, family))
    const isNat64 = kind.name === 'nat64' && family === 4
    // netcheck finds the way through NAT64 by itself; a node is told.
    const stun = addresses.map((one) => uriOf(isNat64 ? synthesize(one) : one))
    const agent = new Agent(`${site}1`, {
      bind: { host: isNat64 || family === 6 ? '::' : '0.0.0.0', port: AGENT_PORT, stun },
      checks: checksOf(kind, addresses.map(uriOf), family),
    })
    const outer = await checkAddress(kind, site, family, agent)
    await occupy(kind, site, family)
    agent.goOn()
    for (const address of addresses) checkVerdict(kind, family, outer, await agent.verdict(uriOf(address)))
  }
}

function uriOf(address: string): string {
  return `stun:${bracketed(address)}:3478`
}

/** A static rule serves one port; the others get a port that a neighbour wants too: see {@link occupy}. */
function checksOf(kind: Kind, uris: readonly string[], family: 4 | 6): unknown {
  const ports = isForwarded(kind) ? [AGENT_PORT, AGENT_PORT] : CHECKED_PORTS
  const more = kind.name === 'short-lifetime' ? ['--lifetime', '20'] : []
  const checks = uris.map((uri, i) => [
    'netcheck',
    uri,
    '--json',
    '--port',
    `${ports[i]}`,
    `-${family}`,
    ...more,
  ])
  // Of these two the second check would disturb the first one.
  const inTurn = isForwarded(kind) || kind.behaviour?.ports === 'sequential'
  return inTurn ? checks.map((each) => [each]) : [checks]
}

const CHECKED_PORTS = [AGENT_PORT + 1, AGENT_PORT + 2]
const isForwarded = (kind: Kind): boolean =>
  kind.routers.some(({ netfilter }) => netfilter?.forwardedPort !== undefined)

/** Another client of the same NAT wants the same port towards the server: else what keeps ports looks independent. */
async function occupy(kind: Kind, site: string, family: 4 | 6): Promise<void> {
  if (kind.routers.length === 0 || isForwarded(kind) || kind.name === 'nat64') return
  for (const [i, host] of ['ours', 'coturn'].entries()) {
    const neighbour = await observer.udp(`${site}2`, lab.address(`${site}2`, family), CHECKED_PORTS[i])
    neighbour.send({ address: lab.address(host, family), port: 3478 }, 'mine')
  }
}

/** What `network` says in a node on the agent's port is what the routers have in their tables. */
async function checkAddress(
  kind: Kind,
  site: string,
  family: 4 | 6,
  agent: Agent,
): Promise<string | undefined> {
  const { seen, address } = await agent.address()
  const translated = await Promise.all(
    ['ours', 'coturn'].map((host) => outerAddress(kind, site, family, lab.address(host, family))),
  )
  const [first, second] = translated
  if (kind.behaviour === undefined) {
    assert.deepEqual(translated, [undefined, undefined])
    assert.equal(seen.reason, 'no-answer')
    return undefined
  }
  const isOne = kind.behaviour.mapping === 'endpoint-independent' || kind.behaviour.ports === 'preserving'
  assert.equal(seen.known, isOne, JSON.stringify({ seen, translated }))
  if (isOne) {
    assert.deepEqual(first, second)
    assert.deepEqual(address, first)
    assert.equal(seen.observers?.length, 2)
  } else {
    assert.equal(seen.reason, 'per-destination')
    assert.deepEqual(new Set(seen.seen), new Set(translated))
  }
  return first?.address
}

/** Follows the node's flow to a server from table to table. Undefined: no router lets it through. */
async function outerAddress(
  kind: Kind,
  site: string,
  family: 4 | 6,
  server: string,
): Promise<SocketAddress | undefined> {
  const isNat64 = kind.name === 'nat64'
  let at: SocketAddress = { address: lab.address(`${site}1`, isNat64 ? 6 : family), port: AGENT_PORT }
  for (const { role } of kind.routers) {
    // NAT64's IPv4 side begins at the translator, which has addresses of its own.
    const from = isNat64 && family === 4 ? String.raw`src=\S+` : `src=${at.address}`
    const flow = new RegExp(
      `${from} dst=${server} sport=${isNat64 ? String.raw`\d+` : at.port} dport=3478 .*src=${server} dst=(\\S+) sport=3478 dport=(\\d+)`,
    )
    const found = (await lab.conntrack(`${site}-${role}`)).map((line) => flow.exec(line)).find(Boolean)
    if (!found) return undefined
    at = { address: found[1]!, port: Number(found[2]) }
  }
  return at
}

function checkVerdict(
  kind: Kind,
  family: 4 | 6,
  outer: string | undefined,
  { code, seen, said }: Verdict,
): void {
  // Behind NAT64, IPv6 only meets the firewall.
  const declared = kind.name === 'nat64' && family === 6 ? kinds.firewall6.behaviour : kind.behaviour
  assert.equal(code, declared === undefined ? 5 : 0, said)
  const { mapping, filtering, hairpin, ports } = declared ?? {}
  // Through NAT64 nobody knows a way to the own public address.
  const isTested = !(kind.name === 'nat64' && family === 4)
  const found = seen[family === 4 ? 'ipv4' : 'ipv6']
  assert.deepEqual(
    ['mapping', 'filtering', 'ports', 'hairpin'].map((word) => found[word]?.value),
    [mapping, filtering, ports, isTested ? hairpin : undefined].map((word) => word ?? null),
    said,
  )
  const [home] = kind.routers
  assert.equal((seen.portMapping.value ?? []).length > 0, home?.portMapping === true, said)
  assert.deepEqual(seen.nat64.value, kind.name === 'nat64' ? ['64:ff9b::/96'] : [], said)
  if (declared === undefined) return
  // A second NAT shows where the first one tells its outer address, or no NAT at all.
  const isBare = kind.routers.every(({ translation }) => translation === 'none')
  const isTold = home?.portMapping === true || (isBare && family === 4)
  assert.equal(seen.doubleNat.value, isTold ? kind.routers.length > 1 : null, said)
  const [address] = (found['publicAddress']?.value as string | null)?.split(/:\d+$/) ?? []
  assert.equal(address, mapping === 'endpoint-independent' ? bracketed(outer!) : undefined, said)
  // coturn answers padding with more than fits: in fragments, which the translator of NAT64 does not take.
  if (isTested) assert.equal(found['mtu']?.value, 1500, said)
  if (kind.name !== 'short-lifetime') return
  const { atLeast, lessThan } = found['lifetime']?.value as { atLeast: number; lessThan: number }
  assert.ok(atLeast < declared.lifetime + 0.5 && lessThan > declared.lifetime, said)
}

/** Debian's stun (RFC 3489) and coturn's clients (RFC 5780), with our server. */
async function checkOthers(kind: Kind, client: string, words: RegExp): Promise<void> {
  const server = lab.address('ours')
  const stun = await lab.run(client, 'stun', [`${server}:3478`])
  assert.match(stun.stdout, words)
  const { behaviour } = kind
  if (behaviour === undefined) return
  const said = await lab.run(client, 'turnutils_natdiscovery', ['-m', '-f', server])
  const spoken = (dependence: string): string =>
    dependence
      .replace(/\b[a-z]/g, (letter) => letter.toUpperCase())
      .replaceAll('-', ' ')
      .replace('And', 'and')
  assert.match(said.stdout, new RegExp(`NAT with ${spoken(behaviour.mapping)} Mapping!`))
  assert.match(said.stdout, new RegExp(`NAT with ${spoken(behaviour.filtering)} Filtering!`))
  // It waits for ever for an answer to a port it has not sent from, which no NAT lets in: so a plain server.
  const plain = await lab.run(client, 'turnutils_stunclient', ['-p', '3500', server])
  const outermost = kind.routers.at(-1)
  const public4 =
    outermost?.translation === 'nat44'
      ? lab.address(`${client.slice(0, -1)}-${outermost.role}`)
      : lab.address(client)
  assert.match(plain.stdout, new RegExp(`UDP reflexive addr: ${public4}:`))
}

interface Seen {
  readonly seen: {
    readonly known: boolean
    readonly reason?: string
    readonly seen?: readonly SocketAddress[]
    readonly observers?: readonly SocketAddress[]
  }
  readonly address: SocketAddress
}

interface Verdict {
  readonly code: number
  readonly seen: Readonly<Record<'ipv4' | 'ipv6', Readonly<Record<string, { readonly value: unknown }>>>> & {
    readonly portMapping: { readonly value: readonly string[] | null }
    readonly nat64: { readonly value: readonly string[] | null }
    readonly doubleNat: { readonly value: boolean | null }
  }
  readonly said: string
}

/** One process in a client: first a node, then `natwork netcheck` as often as asked. */
class Agent {
  readonly #lines: AsyncIterator<string>
  readonly #goOn: () => void
  #verdicts: Promise<Map<string, Verdict>> | undefined

  constructor(client: string, job: object) {
    const child = lab.exec(client, process.execPath, [
      '--input-type=module',
      '-e',
      agentProgram,
      JSON.stringify(job),
    ])
    child.stderr.resume()
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    this.#goOn = () => child.stdin.end('go on\n')
  }

  async address(): Promise<Seen> {
    return JSON.parse(await this.#line()) as Seen
  }

  goOn(): void {
    this.#goOn()
    this.#verdicts = this.#line().then((line) => new Map(JSON.parse(line) as [string, Verdict][]))
  }

  async verdict(uri: string): Promise<Verdict> {
    return (await this.#verdicts)!.get(uri)!
  }

  async #line(): Promise<string> {
    const line = await this.#lines.next()
    assert.ok(line.done !== true, 'the agent ended')
    return line.value
  }
}

const agentProgram = `
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { run } from ${built('cli/program.js')}
import { createContext, memoryDirectory } from ${built('directory/index.js')}
import { Network } from ${built('network/index.js')}

const { bind, checks } = JSON.parse(process.argv.at(-1))
const network = new Network(createContext({ directory: memoryDirectory() }), bind)
await network.start()
while (network.publicAddress.reason === 'pending') await once(network, 'publicAddress')
console.log(JSON.stringify({ seen: network.publicAddress, address: network.address() }))
await once(process.stdin, 'data')
await network.stop()

const check = async (args) => {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const code = await run(args, { ...process, env: process.env, stdout, stderr, on() {}, off() {} })
  const said = await text(stdout.end()) + await text(stderr.end())
  return [args[1], { code, seen: JSON.parse(said.split('\\n')[0]), said }]
}
const verdicts = []
for (const together of checks) verdicts.push(...await Promise.all(together.map(check)))
console.log(JSON.stringify(verdicts))
`

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address
}
