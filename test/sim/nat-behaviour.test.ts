// RFC 4787's knobs that no named kind turns, on routers of one's own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { SECOND } from '../../src/core/machine.ts'
import { extract, kinds, PORT_BLOCK, synthesize, World } from '../../src/sim/index.ts'
import type { Behaviour, RouterSpec, SimSocket } from '../../src/sim/index.ts'

const HELLO = Uint8Array.of(1)

function nat(behaviour: Partial<Behaviour>): RouterSpec {
  const spec = kinds['full-cone'].routers[0]!
  return { ...spec, behaviour: { ...spec.behaviour, ...behaviour } }
}

/** The outer ends that a public host sees, one per datagram. */
function watch(world: World, port = 7, address = '192.0.2.1'): { socket: SimSocket; seen: string[] } {
  const seen: string[] = []
  const socket = world.publicHost(`watch ${address}`, { addresses: [address] }).bind({ port })
  socket.onMessage = (_, from) => seen.push(`${from.address}:${from.port}`)
  return { socket, seen }
}

test('sequential ports go by the step, within the range, and wrap', () => {
  const world = new World({ seed: 1 })
  const spec = nat({ ports: 'sequential', step: 2, portRange: [2000, 2009] })
  const site = world.site('home', { kind: [spec] })
  const { socket, seen } = watch(world)
  for (let i = 0; i < 5; i++) site.client.bind().send(HELLO, socket.address)
  world.run()
  const ports = seen.map((at) => Number(at.split(':')[1]))
  const expected = ports.map((_, i) => 2000 + ((ports[0]! - 2000 + 2 * i) % 10))
  assert.deepEqual(ports, expected)
})

test('a NAT without a free port drops, and serves again when mappings have expired', () => {
  const world = new World({ seed: 1 })
  const site = world.site('home', { kind: [nat({ ports: 'random', portRange: [2000, 2003], lifetime: 60 })] })
  const { socket, seen } = watch(world)
  for (let i = 0; i < 6; i++) site.client.bind().send(HELLO, socket.address)
  world.run()
  assert.equal(new Set(seen).size, 4)
  assert.equal(world.trace.dropped.get('no-port'), 2)
  world.runFor(61 * SECOND)
  site.client.bind().send(HELLO, socket.address)
  world.run()
  assert.equal(seen.length, 5)
})

test('blocks of ports: one per client, aligned, never shared', () => {
  const world = new World({ seed: 3 })
  const site = world.site('home', {
    kind: [nat({ mapping: 'address-and-port-dependent', ports: 'block', filtering: 'address-dependent' })],
  })
  const { socket, seen } = watch(world)
  const clients = [site.client, ...['b', 'c', 'd', 'e'].map((name) => site.addClient(name))]
  const blocks = clients.map((client) => {
    seen.length = 0
    for (let i = 0; i < 20; i++) client.bind().send(HELLO, socket.address)
    world.run()
    const found = new Set(seen.map((at) => Math.floor(Number(at.split(':')[1]) / PORT_BLOCK)))
    assert.equal(found.size, 1)
    return [...found][0]
  })
  assert.equal(new Set(blocks).size, clients.length)
})

test('pooling: paired clients keep their address, arbitrary ones do not', () => {
  const addressesSeen = (pooling: 'paired' | 'arbitrary'): number => {
    const world = new World({ seed: 1 })
    const router = world.router('nat', nat({ pooling, ports: 'random' }))
    world.link(router, world.internet, { addresses: ['198.51.100.1', '198.51.100.2', '198.51.100.3'] })
    const client = world.host('client', { addresses: ['10.0.0.2'] })
    world.link(client, router)
    const { socket, seen } = watch(world)
    for (let i = 0; i < 30; i++) client.bind().send(HELLO, socket.address)
    world.run()
    return new Set(seen.map((at) => at.split(':')[0])).size
  }
  assert.equal(addressesSeen('paired'), 1)
  assert.equal(addressesSeen('arbitrary'), 3)
})

test('inbound refresh keeps a mapping alive only where it is on', () => {
  for (const inboundRefresh of [true, false]) {
    const world = new World({ seed: 1 })
    const site = world.site('home', { kind: [nat({ lifetime: 30, inboundRefresh })] })
    const client = site.client.bind({ port: 5000 })
    const { socket } = watch(world)
    client.send(HELLO, socket.address)
    let got = 0
    client.onMessage = () => got++
    for (let i = 0; i < 4; i++) {
      world.runFor(20 * SECOND)
      socket.send(HELLO, { address: '198.51.100.1', port: 5000 })
    }
    world.run()
    assert.equal(got, inboundRefresh ? 4 : 1)
  }
})

test('hairpin with the internal source shows the neighbour’s private address', () => {
  const world = new World({ seed: 1 })
  const site = world.site('home', { kind: [nat({ hairpin: 'internal-source' })] })
  const one = site.client.bind({ port: 5000 })
  const two = site.addClient('two').bind({ port: 6000 })
  const { socket } = watch(world)
  two.send(HELLO, socket.address)
  world.run()
  let from = ''
  two.onMessage = (_, source) => (from = source.address)
  one.send(HELLO, { address: '198.51.100.1', port: 6000 })
  world.run()
  assert.equal(from, site.client.addresses[0])
})

test('a mapped port is open to everybody until it is taken away', () => {
  for (const kind of ['upnp', 'full-cone'] as const) {
    const world = new World({ seed: 1 })
    const site = world.site('home', { kind })
    const client = site.client.bind({ port: 5000 })
    let got = 0
    client.onMessage = () => got++
    const { socket } = watch(world)
    const say = (): void => {
      socket.send(HELLO, { address: '198.51.100.1', port: 9000 })
      world.runFor(SECOND)
    }
    say()
    assert.equal(got, 0)
    site.routers[0]!.mapPort(9000, client.address)
    say()
    assert.equal(got, 1)
    site.routers[0]!.mapPort(9000, undefined)
    site.reboot()
    say()
    assert.equal(got, 1)
  }
})

test('clients of an isolating router cannot reach each other even by their private addresses', () => {
  for (const [kind, reaches] of [
    ['client-isolation', 0],
    ['no-hairpin', 1],
  ] as const) {
    const world = new World({ seed: 1 })
    const a = world.site('a', { kind })
    const b = world.site('b', { kind, beside: a })
    const to = b.client.bind({ port: 7 })
    let got = 0
    to.onMessage = () => got++
    a.client.bind().send(HELLO, to.address)
    world.run()
    assert.equal(got, reaches)
  }
})

test('a mapping never serves two inner ends, whatever the behaviour', () => {
  const dependence = fc.constantFrom(
    'endpoint-independent',
    'address-dependent',
    'address-and-port-dependent',
  ) as fc.Arbitrary<Behaviour['mapping']>
  fc.assert(
    fc.property(
      fc.record({
        mapping: dependence,
        filtering: dependence,
        ports: fc.constantFrom<Behaviour['ports']>('preserving', 'sequential', 'block', 'random'),
      }),
      fc.integer({ min: 0, max: 0xffffffff }),
      fc.array(fc.tuple(fc.nat(2), fc.nat(2), fc.nat(2)), { minLength: 1, maxLength: 30 }),
      (behaviour, seed, steps) => {
        const world = new World({ seed })
        const site = world.site('home', { kind: [nat(behaviour)] })
        const hosts = [site.client, site.addClient('two'), site.addClient('three')]
        const sockets = hosts.map((host) => [1, 2, 3].map((n) => host.bind({ port: 5000 + n })))
        const watchers = [1, 2, 3].map((n) => watch(world, 7, `192.0.2.${n}`))
        for (const [host, port, to] of steps) {
          const socket = sockets[host]![port]!
          const { socket: remote, seen } = watchers[to]!
          socket.send(HELLO, remote.address)
          world.runFor(SECOND)
          // The answer to what was seen reaches the very socket that sent, and no other.
          const [address, outer] = seen.at(-1)!.split(':')
          const got: SimSocket[] = []
          for (const one of sockets.flat()) one.onMessage = () => got.push(one)
          remote.send(HELLO, { address: address!, port: Number(outer) })
          world.runFor(SECOND)
          assert.deepEqual(got, [socket])
        }
      },
    ),
    { numRuns: 200 },
  )
})

test('NAT64: an address goes into IPv6 and back (RFC 6052 §2.4)', () => {
  assert.equal(synthesize('192.0.2.33'), '64:ff9b::c000:221')
  fc.assert(fc.property(fc.ipV4(), (address) => assert.equal(extract(synthesize(address)), address)))
  assert.equal(extract('2001:db8::1'), undefined)
  assert.throws(() => synthesize('2001:db8::1'), { code: 'ERR_NATWORK_SIM_ADDRESS' })
})

test('an unknown kind, or sites that share nothing, are told in one line', () => {
  const world = new World({ seed: 1 })
  assert.throws(() => world.site('a', { kind: 'cone' as 'full-cone' }), {
    code: 'ERR_NATWORK_SIM_SITE',
    message: /no router kind "cone".*full-cone/,
  })
  const a = world.site('a', { kind: 'symmetric' })
  assert.throws(() => world.site('b', { kind: 'symmetric', beside: a }), { code: 'ERR_NATWORK_SIM_SITE' })
  assert.throws(() => world.site('c', { kind: [nat({ ports: 'fixed' })] }), { code: 'ERR_NATWORK_SIM_NAT' })
})

test('a host with two wires sends by the one whose address the socket has', () => {
  const world = new World({ seed: 1 })
  const wifi = world.site('wifi', { kind: 'port-restricted' })
  const mobile = world.site('mobile', { kind: 'cgn-cone' })
  world.link(wifi.client, mobile.routers[0]!, { addresses: ['10.99.0.9'] })
  const { socket, seen } = watch(world)
  wifi.client.bind({ port: 5000, address: wifi.client.addresses[0]! }).send(HELLO, socket.address)
  wifi.client.bind({ port: 5000, address: '10.99.0.9' }).send(HELLO, socket.address)
  world.run()
  assert.deepEqual(seen, [`${wifi.publicAddresses[0]}:5000`, `${mobile.publicAddresses[0]}:5000`])
})

test('a client that gets a new private address gets a new mapping, and answers reach it there', () => {
  const world = new World({ seed: 1 })
  const site = world.site('home', { kind: [nat({ ports: 'random' })] })
  const client = site.client.bind({ port: 5000 })
  const { socket, seen } = watch(world)
  let got = 0
  client.onMessage = () => got++
  client.send(HELLO, socket.address)
  world.run()
  site.client.rebind('10.0.1.77')
  const [address, port] = seen[0]!.split(':')
  socket.send(HELLO, { address: address!, port: Number(port) })
  world.run()
  assert.equal(got, 0, 'the old mapping leads nowhere')
  client.send(HELLO, socket.address)
  world.run()
  assert.notEqual(seen[1], seen[0])
  socket.send(HELLO, { address: address!, port: Number(seen[1]!.split(':')[1]) })
  world.run()
  assert.equal(got, 1)
})
