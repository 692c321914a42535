import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { SECOND } from '../../../src/core/machine.ts'
import { PunchHelper, PunchPeer, SimRng, World } from '../../../src/sim/index.ts'
import type { PunchEvent } from '../../../src/sim/index.ts'
import { decode, encode } from '../../../src/sim/reference/wire.ts'

const session = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)
const side = fc.constantFrom<0 | 1>(0, 1)
const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length })
const address = fc.oneof(
  fc.ipV4(),
  bytes(8).map((b) => `2001:db8::${(b[0]! * 256 + b[1]! || 1).toString(16)}`),
)
const plain = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(shape, { noNullPrototype: true })
const message = fc.oneof(
  plain({ type: fc.constant('register' as const), session: bytes(8), side, dials: fc.boolean() }),
  plain({
    type: fc.constant('introduce' as const),
    key: bytes(16),
    addresses: fc.array(plain({ address, port: fc.nat(65535) }), { maxLength: 4 }),
  }),
  plain({ type: fc.constant('punch' as const), key: bytes(16), side, heard: fc.boolean() }),
  plain({ type: fc.constant('data' as const), key: bytes(16), side, data: fc.uint8Array() }),
)

test('messages go onto the wire and come back the same', () => {
  fc.assert(fc.property(message, (one) => assert.deepEqual(decode(encode(one)), { ...one })))
})

test('whatever the bytes, decoding, helper and peer neither throw nor answer strangers', () => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.tuple(message, fc.nat(80), fc.nat(255)).map(([one, at, byte]) => {
      const data = encode(one)
      if (at < data.length) data[at] = byte
      return data.subarray(0, at % 3 === 0 ? at : data.length)
    }),
  )
  fc.assert(
    fc.property(noise, (data) => {
      const helper = { address: '192.0.2.1', port: 1 }
      const peer = new PunchPeer({ session, side: 0, helpers: [helper], dials: true })
      const stranger = { remote: { address: '203.0.113.1', port: 9 } }
      peer.handleDatagram(0, stranger, data)
      peer.handleTimeout(0)
      for (let out = peer.pollTransmit(); out; out = peer.pollTransmit()) {
        assert.deepEqual(out.path.remote, helper)
      }
      new PunchHelper(new SimRng(1)).handleDatagram(0, stranger, data)
    }),
    { numRuns: 2000 },
  )
})

function twoHosts(loss: number, seed: number): { world: World; events: PunchEvent[][]; peers: PunchPeer[] } {
  const world = new World({ seed })
  const helper = world.publicHost('helper', { addresses: ['192.0.2.1'] })
  helper.bind({ port: 1 }).attach(new PunchHelper(helper.rng))
  const events: PunchEvent[][] = [[], []]
  const peers = ([0, 1] as const).map((n) => {
    const site = world.site(`site ${n}`, { kind: 'port-restricted', link: { loss } })
    const machine = new PunchPeer({
      session,
      side: n,
      helpers: [{ address: '192.0.2.1', port: 1 }],
      dials: true,
    })
    site.client.bind({ port: 1315 }).attach(machine, (event) => events[n]!.push(event))
    return machine
  })
  return { world, events, peers }
}

test('the punch gets through heavy loss', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const { world, events } = twoHosts(0.2, seed)
    const connected = (): boolean => events.every((list) => list.some((one) => one.type === 'connected'))
    assert.ok(world.run(connected, 10 * SECOND), `seed ${seed}`)
  }
})

test('a punch with the wrong key, or of one’s own side, connects nothing', () => {
  const { world, events } = twoHosts(0, 1)
  world.internet.block('198.51.100.1', '198.51.100.2')
  const evil = world.publicHost('evil', { addresses: ['192.0.2.66'] })
  for (const [n, sender] of [
    [1, 1],
    [2, 0],
  ] as const) {
    const forged = encode({ type: 'punch', key: new Uint8Array(16), side: sender, heard: true })
    const from = { address: `198.51.100.${3 - n}`, port: 1315 }
    // The helper itself is let in by both NATs: the forger knows how to look like it.
    for (const source of [from, { address: '192.0.2.1', port: 1 }]) {
      world.at(SECOND, () => evil.inject(source, { address: `198.51.100.${n}`, port: 1315 }, forged))
    }
  }
  world.run(8 * SECOND)
  for (const list of events) {
    assert.deepEqual(
      list.map((one) => one.type),
      ['introduced', 'failed'],
    )
  }
})

test('a helper forgets sessions, and keeps no more than 1,024', () => {
  const helper = new PunchHelper(new SimRng(1))
  const path = { remote: { address: '192.0.2.9', port: 9 } }
  const register = (n: number, now: number): void => {
    const id = Uint8Array.of(n >> 8, n & 255, 0, 0, 0, 0, 0, 0)
    helper.handleDatagram(now, path, encode({ type: 'register', session: id, side: 0, dials: true }))
  }
  const keyOf = (n: number): string => {
    while (helper.pollTransmit());
    register(n, SECOND)
    const answer = decode(helper.pollTransmit()!.data)
    return answer?.type === 'introduce' ? answer.key.join() : ''
  }
  const first = keyOf(0)
  assert.equal(keyOf(0), first)
  for (let n = 1; n <= 1024; n++) register(n, SECOND)
  assert.notEqual(keyOf(0), first, 'the one silent longest made room')
  const second = keyOf(0)
  helper.handleTimeout(helper.pollTimeout()!.at)
  assert.equal(helper.pollTimeout(), undefined)
  assert.notEqual(keyOf(0), second)
})

test('misuse is told in one line', () => {
  const code = 'ERR_NATWORK_SIM_PUNCH'
  assert.throws(() => new PunchPeer({ session, side: 0, helpers: [], dials: true }), { code })
  const peer = new PunchPeer({ session, side: 0, helpers: [{ address: '192.0.2.1', port: 1 }], dials: true })
  assert.throws(() => peer.send(Uint8Array.of(1)), { code })
})
