// 3 s. NAT behaviour discovery (RFC 5780) says of every router kind what the kind declares, in virtual time.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { familyOf, type SocketAddress } from '../../src/core/address.ts'
import { AGENT_PORT, kindNames, kinds, synthesize, World } from '../../src/sim/index.ts'
import type { Host, Kind, Site } from '../../src/sim/index.ts'
import {
  BehaviourDiscovery,
  judgePorts,
  Method,
  StunClient,
  StunResponder,
  StunServer,
  type BehaviourReport,
  type PortSample,
} from '../../src/stun/index.ts'

const PORTS = [3478, 3479] as const
const IPS = {
  4: ['192.0.2.1', '192.0.2.2'],
  6: ['2001:db8:ffff::1', '2001:db8:ffff::2'],
} as const

/** An RFC 5780 server on four sockets, or (`plain`) independent servers without CHANGE-REQUEST. */
function serve(host: Host, family: 4 | 6, plain: boolean): void {
  const responder = new StunResponder({
    rng: host.rng,
    ...(!plain && { origins: { addresses: IPS[family], ports: PORTS } }),
  })
  const places = IPS[family].flatMap((address) => PORTS.map((port) => ({ address, port })))
  const parts = places.map(({ address, port }, origin) => {
    const server = new StunServer(responder, {
      ...(!plain && { origin }),
      forward: (to, transmit) => {
        parts[to]!.server.send(transmit)
        parts[to]!.attachment.wake()
      },
    })
    return { server, attachment: host.bind({ address, port }).attach(server) }
  })
}

interface Bench {
  readonly world: World
  readonly site: Site
  /** P:1, P:2, Q:1, Q:2, as the client reaches them. */
  readonly endpoints: readonly SocketAddress[]
}

function build(kind: Kind, family: 4 | 6, seed: number, plain = false): Bench {
  const world = new World({ seed })
  const host = world.publicHost('stun', { addresses: [...IPS[4], ...IPS[6]] })
  serve(host, 4, plain)
  serve(host, 6, plain)
  const site = world.site('home', { kind: kind.name })
  const is6Only = site.client.addresses.every((one) => familyOf(one) === 6)
  const endpoints = IPS[family].flatMap((address) =>
    PORTS.map((port) => ({ address: is6Only && family === 4 ? synthesize(address) : address, port })),
  )
  return { world, site, endpoints }
}

function discover(
  { world, site }: Bench,
  servers: readonly SocketAddress[],
  spare: readonly SocketAddress[] = [],
): BehaviourReport {
  let report: BehaviourReport | undefined
  const socket = site.client.bind({ port: AGENT_PORT })
  const local = site.client.addresses.map((address) => ({ address, port: AGENT_PORT }))
  const machine = new BehaviourDiscovery(socket.now(), { rng: site.client.rng, servers, spare, local })
  socket.attach(machine, (event) => {
    assert.equal(report, undefined, 'one report')
    report = event
  })
  assert.ok(world.run(() => report !== undefined))
  assert.equal(machine.pollTimeout(), undefined)
  return report!
}

/** Another client of the same NAT wants the same port towards P:1: else what keeps ports looks independent. */
function occupy({ world, site, endpoints }: Bench): void {
  const neighbour = site.addClient('neighbour').bind({ port: AGENT_PORT })
  neighbour.send(Uint8Array.of(1), endpoints[0]!)
  world.runFor(1_000_000)
}

function samplePorts({ world, site, endpoints }: Bench): PortSample[] {
  const samples: PortSample[] = []
  for (let i = 0; i < 8; i++) {
    const socket = site.client.bind({ port: AGENT_PORT + 7 * i })
    const client = new StunClient({ rng: site.client.rng })
    client.request(socket.now(), { method: Method.Binding, path: { remote: endpoints[i % 4]! } })
    socket.attach(client, (event) => {
      const mapped = event.type === 'response' ? event.response.mappedAddress() : undefined
      if (mapped) samples.push({ local: socket.port, mapped: mapped.port })
    })
  }
  world.runFor(60_000_000)
  return samples
}

describe('the verdict is what the kind declares', () => {
  for (const name of kindNames) {
    const kind = kinds[name]
    for (const family of kind.families) {
      test(`${name}, IPv${family}`, () => {
        for (const seed of [1, 2, 3]) {
          const bench = build(kind, family, seed)
          const declared = name === 'nat64' && family === 6 ? kinds.firewall6.behaviour : kind.behaviour
          const isForwarded = bench.site.routers.some(({ spec }) => spec.netfilter?.forwardedPort)
          if (bench.site.routers.length > 0 && !isForwarded) occupy(bench)
          const report = discover(bench, [bench.endpoints[0]!])
          assert.equal(report.udp.value, declared !== undefined)
          const { mapping, filtering, hairpin } = report
          assert.deepEqual(
            [mapping.value, filtering.value],
            [declared?.mapping, declared?.filtering],
            `seed ${seed}: ${JSON.stringify(report, null, 1)}`,
          )
          // Through NAT64 nobody knows a way to the own public address.
          const isTested = !(name === 'nat64' && family === 4)
          assert.equal(hairpin.value, isTested ? declared?.hairpin : undefined)
          if (declared === undefined) continue
          const seen = report.publicAddress.value?.address
          const isOne = declared.mapping === 'endpoint-independent'
          assert.equal(
            seen,
            isOne ? bench.site.publicAddresses.find((one) => familyOf(one) === family) : undefined,
          )
          const isTranslated = kind.routers.some(({ translation }) => translation !== 'none')
          const translation = !isTranslated || family === 6 ? 'none' : name === 'nat64' ? 'nat64' : 'nat'
          assert.equal(report.translation.value, translation)
          assert.equal(judgePorts(samplePorts(build(kind, family, seed))).value, declared.ports)
        }
      })
    }
  }
})

describe('servers without RFC 5780 are compared', () => {
  for (const [name, asked, expected] of [
    ['port-restricted', [0, 2], 'endpoint-independent'],
    ['symmetric-address', [0, 1, 2], 'address-dependent'],
    ['symmetric', [0, 1, 2], 'address-and-port-dependent'],
    ['symmetric', [0], undefined],
  ] as const) {
    test(`${name} by ${asked.length}`, () => {
      const bench = build(kinds[name], 4, 1, true)
      const report = discover(
        bench,
        asked.map((i) => bench.endpoints[i]!),
      )
      assert.equal(report.mapping.value, expected)
      assert.equal(report.filtering.value, undefined)
    })
  }

  test('second addresses are asked where none of the servers has RFC 5780, and only there', () => {
    const plain = build(kinds['port-restricted'], 4, 1, true)
    const spare = [plain.endpoints[2]!]
    assert.equal(discover(plain, [plain.endpoints[0]!], spare).mapping.value, 'endpoint-independent')
    const full = build(kinds['address-restricted'], 4, 1)
    const { filtering } = discover(full, [full.endpoints[0]!], [full.endpoints[2]!])
    assert.equal(filtering.value, 'address-dependent')
  })

  test('two addresses alone cannot tell the stricter kind: said so', () => {
    const bench = build(kinds['symmetric-address'], 4, 1, true)
    const { mapping, publicAddress } = discover(bench, [bench.endpoints[0]!, bench.endpoints[2]!])
    assert.deepEqual([mapping.value, mapping.certain], ['address-and-port-dependent', false])
    assert.equal(publicAddress.value, undefined)
  })
})

test('a lossy line changes no verdict while some of the repeats arrive', () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const world = build(kinds['port-restricted'], 4, seed)
    world.site.uplink.change({ loss: 0.1 })
    const { mapping, filtering } = discover(world, [world.endpoints[0]!])
    assert.equal(mapping.value, 'endpoint-independent')
    assert.equal(filtering.value, 'address-and-port-dependent')
  }
})

test('steps and blocks of ports', () => {
  const judged = (ports: number[]): unknown[] => {
    const { value, step, certain } = judgePorts(ports.map((mapped, i) => ({ local: i + 1, mapped })))
    return [value, step, certain]
  }
  assert.deepEqual(judged([5000, 5002, 5004, 5008, 5010, 5012]), ['sequential', 2, true])
  assert.deepEqual(judged([65534, 65535, 1024, 1025, 1026, 1027]), ['sequential', 1, true])
  assert.deepEqual(judged([5000, 4300, 4999, 4400, 5100, 4500]), ['block', undefined, true])
  assert.deepEqual(judged([5000, 43_000, 14_999, 4400, 5100, 4500]), ['random', undefined, true])
  assert.deepEqual(judged([5000]), [undefined, undefined, false])
})
