// 1 s. The public address of a socket stays known: through reboots, silence and forgetful NATs, in virtual time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND } from '../../src/core/machine.ts'
import { AGENT_PORT, kindNames, kinds, World } from '../../src/sim/index.ts'
import type { KindName, RouterSpec } from '../../src/sim/index.ts'
import { AddressKeeper, StunResponder, StunServer, type PublicAddress } from '../../src/stun/index.ts'

const SERVERS = ['192.0.2.1', '192.0.2.2'].map((address) => ({ address, port: 3478 }))

function start(kind: KindName | readonly RouterSpec[], count = 2) {
  const world = new World({ seed: 7 })
  const servers = SERVERS.slice(0, count)
  const seen: string[] = []
  for (const { address, port } of servers) {
    const host = world.publicHost(address, { addresses: [address] })
    const socket = host.bind({ port })
    // What arrives is the truth that the keeper has to find.
    socket.attach({
      handleDatagram: (_now, { remote }) => {
        seen.push(`${remote.address}:${remote.port}`)
        return false
      },
      handleTimeout: () => undefined,
      pollTransmit: () => undefined,
      pollEvent: () => undefined,
      pollTimeout: () => undefined,
    })
    socket.attach(new StunServer(new StunResponder({ rng: host.rng })))
  }
  const site = world.site('home', { kind })
  const socket = site.client.bind({ port: AGENT_PORT })
  const keeper = new AddressKeeper(socket.now(), { rng: site.client.rng, servers })
  const events: PublicAddress[] = []
  const attachment = socket.attach(keeper, (event) => events.push(event))
  return { world, site, keeper, attachment, events, seen, servers }
}

for (const name of kindNames.filter((one) => kinds[one].families.includes(4) && one !== 'nat64')) {
  test(`${name}: the address is what the servers see, or a reason`, () => {
    const { world, keeper, events, seen, servers } = start(name)
    world.runFor(30 * SECOND)
    const { current } = keeper
    const { behaviour } = kinds[name]
    // Preserving ports, it looks endpoint-independent as long as nobody else has the port.
    const isOne = behaviour?.mapping === 'endpoint-independent' || behaviour?.ports === 'preserving'
    assert.equal(events.length, 1)
    if (isOne) {
      assert.ok(current.known)
      assert.equal(`${current.address.address}:${current.address.port}`, seen[0])
      assert.deepEqual(current.observers, servers)
    } else {
      assert.ok(!current.known)
      assert.equal(current.reason, behaviour === undefined ? 'no-answer' : 'per-destination')
      assert.equal(current.seen.length, behaviour === undefined ? 0 : 2)
    }
  })
}

test('at first, servers that see different addresses are asked again at once', () => {
  const { world, keeper, events } = start('symmetric')
  world.run(() => events.length > 0, SECOND / 2)
  assert.ok(!keeper.current.known)
  assert.equal(keeper.current.reason, 'per-destination')
})

const forgetful: RouterSpec = {
  role: 'home',
  translation: 'nat44',
  behaviour: {
    mapping: 'endpoint-independent',
    filtering: 'address-and-port-dependent',
    ports: 'random',
    lifetime: 300,
    hairpin: 'none',
  },
  egress: 'all',
  isolated: false,
  portMapping: false,
}

test('a reboot of the router gives a new address within one interval', () => {
  const { world, site, keeper, events, seen } = start([forgetful])
  world.runFor(60 * SECOND)
  assert.equal(events.length, 1)
  const before = keeper.current
  site.reboot()
  const { interval } = keeper
  world.runFor(interval)
  assert.equal(events.length, 2)
  const after = keeper.current
  assert.ok(before.known && after.known)
  assert.notDeepEqual(after.address, before.address)
  assert.equal(`${after.address.address}:${after.address.port}`, seen.at(-1))
})

test('a recheck does not wait for the interval', () => {
  const { world, site, keeper, attachment, events } = start([forgetful])
  world.runFor(5 * SECOND)
  site.reboot()
  keeper.recheck(site.client.now())
  attachment.wake()
  world.runFor(SECOND)
  assert.equal(events.length, 2)
})

test('a NAT that forgets sooner makes the interval shorter, until the address stays', () => {
  const behaviour = { ...forgetful.behaviour, lifetime: 10 }
  const { world, keeper, events } = start([{ ...forgetful, behaviour }])
  assert.equal(keeper.interval, 25 * SECOND)
  world.runFor(300 * SECOND)
  assert.equal(keeper.interval, 6.25 * SECOND)
  const changes = events.length
  world.runFor(600 * SECOND)
  assert.equal(events.length, changes)
})

test('silence is believed the second time, and ends with the first answer', () => {
  const { world, site, keeper, events } = start('port-restricted')
  world.runFor(SECOND)
  const home = site.publicAddresses[0]!
  for (const { address } of SERVERS) world.internet.block(home, address)
  world.runFor(40 * SECOND)
  assert.ok(!keeper.current.known)
  assert.equal(keeper.current.reason, 'no-answer')
  for (const { address } of SERVERS) world.internet.unblock(home, address)
  world.runFor(25 * SECOND)
  assert.ok(keeper.current.known)
  assert.equal(events.length, 3)
})

test('one server’s word is taken, and said to be one’s', () => {
  const { world, keeper } = start('port-restricted', 1)
  world.runFor(SECOND)
  assert.ok(keeper.current.known)
  assert.equal(keeper.current.observers.length, 1)
})
