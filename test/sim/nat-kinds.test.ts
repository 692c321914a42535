// Every router kind behaves as declared, seen from outside: the self-check of the simulator.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { SocketAddress } from '../../src/core/address.ts'
import { familyOf } from '../../src/core/address.ts'
import { SECOND } from '../../src/core/machine.ts'
import { AGENT_PORT, DMZ_PORT, kindNames, kinds, PORT_BLOCK, synthesize, World } from '../../src/sim/index.ts'
import type { Behaviour, Host, Kind, KindName, SimSocket, Site } from '../../src/sim/index.ts'

const HELLO = Uint8Array.of(1)

/** A client behind a kind, two public hosts with two ports each. */
class Bench {
  readonly world: World
  readonly site: Site
  /** P:1, P:2, Q:1, Q:2. */
  readonly public: SimSocket[]
  readonly #family: 4 | 6

  constructor(kind: KindName, seed: number, family: 4 | 6) {
    this.world = new World({ seed, trace: true })
    this.#family = family
    this.site = this.world.site('home', { kind })
    this.public = ['192.0.2.1', '192.0.2.2'].flatMap((address, i) => {
      const host = this.world.publicHost(`public ${i}`, {
        addresses: [address, `2001:db8:ffff::${i + 1}`],
      })
      return [1, 2].map((port) => host.bind({ port }))
    })
  }

  addressOf(which: number): SocketAddress {
    const host = this.public[which]!.host
    const address = host.addresses.find((one) => familyOf(one) === this.#family)!
    const is6Only = this.site.client.addresses.every((one) => familyOf(one) === 6)
    return {
      address: is6Only && this.#family === 4 ? synthesize(address) : address,
      port: this.public[which]!.port,
    }
  }

  /** The source that the public socket sees when the client's socket sends to it. */
  mapped(from: SimSocket, which: number): SocketAddress | undefined {
    let seen: SocketAddress | undefined
    this.public[which]!.onMessage = (_, source) => (seen = source)
    from.send(HELLO, this.addressOf(which))
    this.world.runFor(SECOND)
    return seen
  }

  /** Whether a datagram from the public socket to `to` reaches the client's socket. */
  reaches(which: number, to: SocketAddress, client: SimSocket): boolean {
    let got = false
    client.onMessage = () => (got = true)
    this.public[which]!.send(HELLO, to)
    this.world.runFor(SECOND)
    return got
  }
}

type Observed = Pick<Behaviour, 'mapping' | 'filtering' | 'ports' | 'hairpin'> & { lifetime: number }

function observe(kind: Kind, family: 4 | 6, seed: number, lifetime: number): Observed | undefined {
  const bench = (): Bench => new Bench(kind.name, seed, family)
  const probe = bench()
  if (!probe.mapped(probe.site.client.bind({ port: AGENT_PORT }), 0)) return undefined
  return {
    mapping: mappingOf(bench()),
    filtering: filteringOf(bench()),
    ports: portsOf(bench()),
    hairpin: kind.routers.length === 0 ? 'none' : hairpinOf(bench(), kind),
    lifetime: lifetimeOf(bench, lifetime),
  }
}

/**
 * As RFC 5780 §4.3 does, but with the port held by somebody else towards the first remote: a NAT that preserves ports
 * would look endpoint-independent otherwise, whatever it is.
 */
function mappingOf(bench: Bench): Behaviour['mapping'] {
  const isFixed = bench.site.routers.some(({ spec }) => spec.netfilter?.forwardedPort !== undefined)
  if (bench.site.routers.length > 0 && !isFixed) {
    bench.mapped(bench.site.addClient('neighbour').bind({ port: AGENT_PORT }), 0)
  }
  const socket = bench.site.client.bind({ port: AGENT_PORT })
  const [p1, p2, q1] = [0, 1, 2].map((which) => bench.mapped(socket, which)!.port)
  if (p1 === p2 && p2 === q1) return 'endpoint-independent'
  return p1 === p2 ? 'address-dependent' : 'address-and-port-dependent'
}

function filteringOf(bench: Bench): Behaviour['filtering'] {
  const socket = bench.site.client.bind({ port: AGENT_PORT })
  const at = bench.mapped(socket, 0)!
  if (bench.reaches(2, at, socket)) return 'endpoint-independent'
  return bench.reaches(1, at, socket) ? 'address-dependent' : 'address-and-port-dependent'
}

function portsOf(bench: Bench): Behaviour['ports'] {
  const sockets = Array.from({ length: 8 }, (_, i) => bench.site.client.bind({ port: AGENT_PORT + 7 * i }))
  const pairs = sockets.map((socket, i) => [socket.port, bench.mapped(socket, i % 4)?.port] as const)
  // The DMZ's one port serves one socket per remote end (the others get nothing through).
  const ports = pairs.map(([, port]) => port).filter((port) => port !== undefined)
  if (ports.every((port) => port === DMZ_PORT)) return 'fixed'
  if (pairs.every(([own, port]) => own === port)) return 'preserving'
  if (ports.every((port, i) => i === 0 || port === ports[i - 1]! + 1)) return 'sequential'
  const block = (port: number): number => Math.floor(port / PORT_BLOCK)
  return ports.every((port) => block(port) === block(ports[0]!)) ? 'block' : 'random'
}

function lifetimeOf(bench: () => Bench, declared: number): number {
  const survives = (seconds: number): boolean => {
    const one = bench()
    const socket = one.site.client.bind({ port: AGENT_PORT })
    const at = one.mapped(socket, 0)!
    one.world.runFor((seconds - 1) * SECOND)
    return one.reaches(0, at, socket)
  }
  if (declared === Infinity) return survives(86_400) ? Infinity : NaN
  assert.ok(survives(declared - 1), `a mapping lives ${declared} s`)
  assert.ok(!survives(declared + 1), `and no longer than ${declared} s`)
  return declared
}

function hairpinOf(bench: Bench, kind: Kind): Behaviour['hairpin'] {
  const beside =
    kind.shared === 'carrier'
      ? bench.world.site('next door', { kind: kind.name, beside: bench.site }).client
      : bench.site.addClient('neighbour')
  const open = (host: Host, port: number): [SimSocket, SocketAddress | undefined] => {
    const socket = host.bind({ port })
    return [socket, bench.mapped(socket, 0)]
  }
  const [one, oneAt] = open(bench.site.client, AGENT_PORT)
  const [two, twoAt] = open(beside, AGENT_PORT + 1)
  // Untranslated neighbours reach each other on their own wire: that is no hairpin.
  if (!oneAt || !twoAt || beside.addresses.includes(twoAt.address)) return 'none'
  let seen: SocketAddress | undefined
  one.onMessage = (_, from) => (seen = from)
  one.send(HELLO, twoAt)
  bench.world.runFor(SECOND)
  two.send(HELLO, oneAt)
  bench.world.runFor(SECOND)
  if (!seen) return 'none'
  return seen.address === twoAt.address ? 'external-source' : 'internal-source'
}

describe('every kind behaves as declared', () => {
  for (const name of kindNames) {
    test(name, () => {
      const kind = kinds[name]
      for (const family of kind.families) {
        for (const seed of [1, 2, 3]) {
          // IPv6 is filtered by Linux's conntrack and never translated.
          const declared = name === 'nat64' && family === 6 ? kinds.firewall6.behaviour : kind.behaviour
          const observed = observe(kind, family, seed, declared?.lifetime ?? 0)
          assert.deepEqual(observed, declared, `seed ${seed}, IPv${family}`)
        }
      }
    })
  }
})
