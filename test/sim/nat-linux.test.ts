// What real Linux routers do beyond RFC 4787's words, as conntrack makes them do it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND } from '../../src/core/machine.ts'
import { AGENT_PORT, DMZ_PORT, World } from '../../src/sim/index.ts'
import type { KindName, SimSocket, Site } from '../../src/sim/index.ts'

const HELLO = Uint8Array.of(1)

interface Setting {
  readonly world: World
  readonly site: Site
  readonly client: SimSocket
  readonly helper: SimSocket
  readonly peer: SimSocket
}

function behind(kind: KindName, seed = 1): Setting {
  const world = new World({ seed, trace: true })
  const site = world.site('home', { kind })
  const client = site.client.bind({ port: AGENT_PORT })
  const [helper, peer] = ['192.0.2.1', '192.0.2.2'].map((address) =>
    world.publicHost(address, { addresses: [address], link: { hops: 4 } }).bind({ port: 7 }),
  )
  return { world, site, client, helper: helper!, peer: peer! }
}

/** The port that `to` sees when `from` sends, if anything arrives. */
function seenBy(world: World, to: SimSocket, from: SimSocket, ttl?: number): number | undefined {
  let port: number | undefined
  to.onMessage = (_, source) => (port = source.port)
  from.send(HELLO, to.address, ttl)
  world.runFor(SECOND)
  return port
}

const routerAt = { address: '198.51.100.1', port: AGENT_PORT }

test('literal: a packet that comes before the punch takes the port, and the mapping moves for good', () => {
  const { world, client, helper, peer } = behind('port-restricted-literal')
  assert.equal(seenBy(world, helper, client), AGENT_PORT)
  const refused: string[] = []
  peer.onIcmp = (error) => refused.push(error.type)
  peer.send(HELLO, routerAt)
  world.runFor(SECOND)
  assert.deepEqual(refused, ['port-unreachable'], 'the unfiltered router answers with ICMP')
  const moved = seenBy(world, peer, client)
  assert.notEqual(moved, AGENT_PORT)
  const third = world.publicHost('third', { addresses: ['192.0.2.3'] }).bind({ port: 7 })
  assert.equal(seenBy(world, third, client), moved, 'new destinations follow the moved mapping')
  assert.equal(seenBy(world, helper, client), AGENT_PORT, 'flows that exist keep theirs')
})

test('literal: retries from outside keep the entry alive; silence for 30 s ends it', () => {
  const { world, client, helper, peer } = behind('port-restricted-literal')
  seenBy(world, helper, client)
  for (let i = 0; i < 6; i++) {
    peer.send(HELLO, routerAt)
    world.runFor(20 * SECOND)
  }
  assert.notEqual(seenBy(world, peer, client), AGENT_PORT)
  const again = behind('port-restricted-literal')
  again.peer.send(HELLO, routerAt)
  again.world.runFor(31 * SECOND)
  assert.equal(seenBy(again.world, again.peer, again.client), AGENT_PORT)
})

test('literal: the input drop, a low TTL of the early packet, or the client being first cure it', () => {
  const filtered = behind('port-restricted')
  filtered.peer.send(HELLO, routerAt)
  filtered.world.runFor(SECOND)
  assert.equal(filtered.world.trace.dropped.get('filtered'), 1)
  assert.equal(seenBy(filtered.world, filtered.peer, filtered.client), AGENT_PORT)

  const low = behind('port-restricted-literal')
  low.peer.send(HELLO, routerAt, 5)
  low.world.runFor(SECOND)
  assert.equal(low.world.trace.dropped.get('ttl'), 1)
  assert.equal(seenBy(low.world, low.peer, low.client), AGENT_PORT)

  const first = behind('port-restricted-literal')
  assert.equal(seenBy(first.world, first.peer, first.client), AGENT_PORT)
  let got = false
  first.client.onMessage = () => (got = true)
  first.peer.send(HELLO, routerAt)
  first.world.runFor(SECOND)
  assert.ok(got)
})

test('a low TTL opens the client’s own NAT and dies before the other', () => {
  const { world, client, peer } = behind('port-restricted')
  assert.equal(seenBy(world, peer, client, 3), undefined)
  let got = false
  client.onMessage = () => (got = true)
  peer.send(HELLO, routerAt)
  world.runFor(SECOND)
  assert.ok(got)
})

for (const kind of ['dmz', 'dmz-literal'] as const) {
  test(`${kind}: one socket of the host talks to a remote end, a second one’s packets vanish`, () => {
    const { world, site, client, helper, peer } = behind(kind)
    assert.equal(seenBy(world, helper, client), DMZ_PORT)
    const second = site.client.bind({ port: 2000 })
    assert.equal(seenBy(world, helper, second), undefined)
    assert.equal(world.trace.dropped.get('clash'), 1)
    assert.equal(seenBy(world, peer, second), DMZ_PORT, 'another remote end is free')
  })

  test(`${kind}: whoever sends to the DMZ port reaches the agent’s socket`, () => {
    const { world, client, peer } = behind(kind)
    let from: string | undefined
    client.onMessage = (_, source) => (from = source.address)
    peer.send(HELLO, { address: '198.51.100.1', port: DMZ_PORT })
    world.runFor(SECOND)
    assert.equal(from, '192.0.2.2')
    assert.equal(seenBy(world, peer, client), DMZ_PORT, 'the answer comes from the same port')
  })
}

test('masquerade random: ports are uniform in 1024–65535, and a flow keeps its own', () => {
  const { world, client, helper } = behind('symmetric')
  const ports: number[] = []
  for (let port = 1; port <= 400; port++) {
    const to = helper.host.bind({ port: 100 + port })
    ports.push(seenBy(world, to, client)!)
    assert.equal(seenBy(world, to, client), ports.at(-1))
    to.close()
  }
  assert.ok(Math.min(...ports) >= 1024 && Math.min(...ports) < 2500)
  assert.ok(Math.max(...ports) > 64_000)
  assert.ok(new Set(ports).size > 390)
  const mean = ports.reduce((a, b) => a + b) / ports.length
  assert.ok(Math.abs(mean - 33_280) < 3_000, `mean ${mean}`) // standard error 931
})

test('masquerade: two clients with one port share it until they speak to the same remote end', () => {
  const { world, site, client, helper, peer } = behind('port-restricted')
  const other = site.addClient('other').bind({ port: AGENT_PORT })
  assert.equal(seenBy(world, helper, client), AGENT_PORT)
  assert.equal(seenBy(world, peer, other), AGENT_PORT)
  const moved = seenBy(world, helper, other)
  assert.notEqual(moved, AGENT_PORT)
})

test('a stream lives longer than an unanswered flow', () => {
  const { world, client, helper } = behind('port-restricted')
  let got = 0
  client.onMessage = () => got++
  for (let i = 0; i < 3; i++) {
    seenBy(world, helper, client)
    helper.send(HELLO, routerAt)
    world.runFor(2 * SECOND)
  }
  assert.equal(got, 3)
  world.runFor(110 * SECOND)
  helper.send(HELLO, routerAt)
  world.runFor(SECOND)
  assert.equal(got, 4)
  world.runFor(121 * SECOND)
  helper.send(HELLO, routerAt)
  world.runFor(SECOND)
  assert.equal(got, 4)
})

test('a reboot forgets the flows: answers are dropped until the client speaks again', () => {
  const { world, site, client, helper } = behind('port-restricted')
  let got = 0
  client.onMessage = () => got++
  seenBy(world, helper, client)
  site.reboot()
  helper.send(HELLO, routerAt)
  world.runFor(SECOND)
  assert.equal(got, 0)
  seenBy(world, helper, client)
  helper.send(HELLO, routerAt)
  world.runFor(SECOND)
  assert.equal(got, 1)
})

test('ICMP errors find their way through the NATs, in both directions', () => {
  for (const kind of ['port-restricted', 'full-cone', 'cgn-cone'] as const) {
    const { world, client, helper } = behind(kind)
    const told: string[] = []
    client.onIcmp = (error, to) => told.push(`client ${error.type} ${to.address}:${to.port}`)
    helper.onIcmp = (error, to) => told.push(`helper ${error.type} ${to.address}:${to.port}`)
    client.send(HELLO, { address: '192.0.2.1', port: 9 })
    seenBy(world, helper, client)
    client.close()
    helper.send(HELLO, routerAt)
    world.runFor(SECOND)
    assert.deepEqual(told, [
      'client port-unreachable 192.0.2.1:9',
      `helper port-unreachable 198.51.100.1:${AGENT_PORT}`,
    ])
  }
})
