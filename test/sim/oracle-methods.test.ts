// The oracle's harder methods, tried out: what it calls possible by prediction, birthday or exhaustive probing is done
// here with bare sockets, against the simulated NATs.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MILLISECOND, SECOND } from '../../src/core/machine.ts'
import { BIRTHDAY, birthdayOdds, directPathPossible, PORT_BLOCK, World } from '../../src/sim/index.ts'
import type { KindName, SimSocket, SocketAddress } from '../../src/sim/index.ts'

const HELLO = Uint8Array.of(1)
const ALL_PORTS = Array.from({ length: 64_512 }, (_, i) => 1024 + i)

interface Meeting {
  readonly world: World
  readonly a: SimSocket
  readonly b: SimSocket
  /** As the helper sees them. */
  readonly seenA: SocketAddress
  readonly seenB: SocketAddress
  /** Datagrams that came from the other's public address. */
  readonly got: { a: number; b: number }
}

function meet(kindA: KindName, kindB: KindName, seed: number): Meeting {
  const world = new World({ seed })
  const helper = world.publicHost('helper', { addresses: ['192.0.2.1'] }).bind({ port: 7 })
  const [a, b] = ([['a', kindA] as const, ['b', kindB] as const] as const).map(([name, kind]) =>
    world.site(name, { kind }).client.bind({ port: 1315 }),
  ) as [SimSocket, SimSocket]
  const seen: SocketAddress[] = []
  helper.onMessage = (_, from) => seen.push(from)
  for (const socket of [a, b]) {
    socket.send(HELLO, helper.address)
    world.runFor(SECOND)
  }
  const [seenA, seenB] = seen as [SocketAddress, SocketAddress]
  const got = { a: 0, b: 0 }
  a.onMessage = (_, from) => (got.a += Number(from.address === seenB.address))
  b.onMessage = (_, from) => (got.b += Number(from.address === seenA.address))
  return { world, a, b, seenA, seenB, got }
}

function sendToAll(from: SimSocket, address: string, ports: readonly number[]): void {
  for (const port of ports) from.send(HELLO, { address, port })
}

test('prediction: the next port of a sequential NAT', () => {
  assert.equal(
    directPathPossible('port-restricted', 'symmetric-sequential', ['punch', 'prediction']).by,
    'prediction',
  )
  for (const kindA of ['port-restricted', 'symmetric-sequential'] as const) {
    for (let seed = 1; seed <= 10; seed++) {
      const { world, a, b, seenA, seenB, got } = meet(kindA, 'symmetric-sequential', seed)
      const next = ({ address, port }: SocketAddress): SocketAddress => ({ address, port: port + 1 })
      a.send(HELLO, next(seenB))
      b.send(HELLO, kindA === 'port-restricted' ? seenA : next(seenA))
      world.runFor(SECOND)
      assert.ok(got.a + got.b > 0, `${kindA}, seed ${seed}`)
    }
  }
})

test('exhaustive: every port of a carrier’s block', () => {
  for (const kindB of ['symmetric-block', 'cgn-symmetric'] as const) {
    assert.equal(directPathPossible('port-restricted', kindB, ['punch', 'exhaustive']).by, 'exhaustive')
    for (let seed = 1; seed <= 10; seed++) {
      const { world, a, b, seenA, seenB, got } = meet('port-restricted', kindB, seed)
      b.send(HELLO, seenA)
      world.runFor(MILLISECOND)
      const first = seenB.port - (seenB.port % PORT_BLOCK)
      sendToAll(
        a,
        seenB.address,
        Array.from({ length: PORT_BLOCK }, (_, i) => first + i),
      )
      world.runFor(SECOND)
      assert.equal(got.b, 1, `${kindB}, seed ${seed}`)
    }
  }
})

test('birthday: 256 mappings and 1,024 probes hit as often as the formula says', () => {
  const runs = 60
  let hits = 0
  for (let seed = 1; seed <= runs; seed++) {
    const { world, a, b, seenA, seenB } = meet('port-restricted', 'symmetric', seed)
    let got = 0
    for (let i = 0; i < BIRTHDAY.sockets; i++) {
      const socket = b.host.bind({ port: 2000 + i })
      socket.onMessage = () => got++
      socket.send(HELLO, seenA)
    }
    world.runFor(SECOND)
    const rng = world.rng('probes')
    const ports = new Set<number>()
    while (ports.size < BIRTHDAY.probes) ports.add(rng.between(1024, 65535))
    sendToAll(a, seenB.address, [...ports])
    world.runFor(SECOND)
    if (got > 0) hits++
  }
  const odds = birthdayOdds(BIRTHDAY.sockets, BIRTHDAY.probes, 64_512)
  const deviation = Math.sqrt(runs * odds * (1 - odds))
  assert.ok(Math.abs(hits - runs * odds) < 4 * deviation, `${hits} of ${runs}, expected ${runs * odds}`)
})

for (const kindB of ['port-restricted', 'symmetric-address', 'symmetric'] as const) {
  test(`exhaustive: a mapping per address against ${kindB}`, () => {
    assert.ok(directPathPossible('symmetric-address', kindB, ['punch', 'exhaustive']).possible)
    const { world, a, b, seenA, seenB, got } = meet('symmetric-address', kindB, 1)
    // A first sends to every port of B, which opens its filter; then B to every port of A.
    if (kindB === 'port-restricted') a.send(HELLO, seenB)
    else sendToAll(a, seenB.address, ALL_PORTS)
    world.runFor(SECOND)
    sendToAll(b, seenA.address, ALL_PORTS)
    world.runFor(SECOND)
    assert.equal(got.a, 1)
  })
}
