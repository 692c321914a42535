// 2 s. ICMP errors about relayed datagrams (RFC 8656 §11.5, §18.13): the relay in virtual time, then the whole way on the
// loopback interface.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createSocket } from 'node:dgram'
import { test } from 'node:test'
import type { SocketAddress } from '../../../src/core/address.ts'
import { bindDgram } from '../../../src/socket/dgram.ts'
import { setDefaultDriver } from '../../../src/socket/index.ts'
import { openNative } from '../../../src/socket/native.ts'
import { Attribute, StaticUsers, StunView } from '../../../src/stun/index.ts'
import { connectRelay, TurnService, type IcmpError } from '../../../src/turn/index.ts'
import { readIcmp } from '../../../src/turn/protocol/icmp.ts'
import { Outside } from '../../../src/turn/driver/server/outside.ts'
import { Flusher, UdpRelayed } from '../../../src/turn/driver/server/relayed-udp.ts'
import { Bench, type BenchClient, type FakeSocket } from './server-harness.ts'

const peer = { address: '198.51.101.7', port: 4000 }
const peer6 = { address: '2620:fe::fe', port: 4000 }
const unreachable: IcmpError = { type: 3, code: 3, data: 0 }

function world(): { bench: Bench; client: BenchClient; four: FakeSocket; six: FakeSocket } {
  const bench = new Bench()
  const client = bench.client()
  client.allocate((r) => r.uint8(Attribute.AdditionalAddressFamily, 2, true))
  const [four, six] = bench.sockets
  return { bench, client, four: four!, six: six! }
}

/** What the client is told when the network says this of a datagram to `to`. */
function told(
  bench: Bench,
  socket: FakeSocket,
  to: SocketAddress,
  error: IcmpError,
): { peer: SocketAddress | undefined; error: IcmpError | undefined }[] {
  socket.allocation?.handlePeerIcmp(bench.now, to, error)
  return bench.drain().map(({ data }) => {
    const view = new StunView()
    assert.ok(view.open(data))
    assert.equal(view.has(Attribute.Data), false)
    return { peer: view.xorAddress(Attribute.XorPeerAddress), error: readIcmp(view.value(Attribute.Icmp)!) }
  })
}

test('an error is told to the client, of both families, with where its datagram went', () => {
  const { bench, client, four, six } = world()
  client.permit(peer.address, peer6.address)
  for (const [socket, to, error] of [
    [four, peer, unreachable],
    [four, peer, { type: 3, code: 4, data: 1_400 }],
    [four, peer, { type: 11, code: 0, data: 0 }],
    [six, peer6, { type: 1, code: 4, data: 0 }],
    [six, peer6, { type: 2, code: 0, data: 1_280 }],
    [six, peer6, { type: 3, code: 0, data: 0 }],
  ] as const) {
    assert.deepEqual(told(bench, socket, to, error), [{ peer: to, error }])
  }
  // Only addresses are compared (RFC 8656 §11.5).
  const elsewhere = { ...peer, port: 9 }
  assert.deepEqual(told(bench, four, elsewhere, unreachable), [{ peer: elsewhere, error: unreachable }])
  assert.equal(bench.relay.counters.icmpToClients, 7)
})

test('without a permission, or with one that is over, nothing is told', () => {
  const { bench, client, four } = world()
  assert.deepEqual(told(bench, four, peer, unreachable), [])
  client.permit(peer.address)
  assert.equal(told(bench, four, peer, unreachable).length, 1)
  assert.deepEqual(told(bench, four, { ...peer, address: '198.51.101.8' }, unreachable), [])
  bench.pass(301)
  assert.deepEqual(told(bench, four, peer, unreachable), [])
  assert.equal(bench.relay.counters.droppedIcmp, 3)
})

test('types that RFC 8656 does not name are not told, and error data only of what is too big', () => {
  const { bench, client, four, six } = world()
  client.permit(peer.address, peer6.address)
  for (const type of [0, 4, 5, 8, 12]) assert.deepEqual(told(bench, four, peer, { ...unreachable, type }), [])
  for (const type of [0, 4, 128, 255]) assert.deepEqual(told(bench, six, peer6, { ...unreachable, type }), [])
  assert.deepEqual(told(bench, four, peer, { ...unreachable, data: 77 }), [{ peer, error: unreachable }])
})

test('so many per second and user, and no more', () => {
  const { bench, client, four } = world()
  client.permit(peer.address)
  const count = (n: number): number =>
    Array.from({ length: n }, () => told(bench, four, peer, unreachable).length).reduce((a, b) => a + b)
  assert.equal(count(500), 20)
  // Another allocation of the same user draws on the same budget; another user has one of its own.
  for (const [port, user, expected] of [
    [40_001, 'alice', 0],
    [40_002, 'bob', 20],
  ] as const) {
    const other = bench.client(port, '192.0.2.8', user)
    other.allocate()
    other.permit(peer.address)
    const socket = bench.sockets.at(-1)!
    let sum = 0
    for (let n = 0; n < 100; n++) sum += told(bench, socket, peer, unreachable).length
    assert.equal(sum, expected, user)
  }
  bench.pass(0.5)
  assert.equal(count(100), 10)
  assert.equal(bench.relay.counters.icmpToClients, 50)
})

test('DONT-FRAGMENT keeps to what a router said of the path, for ten minutes', () => {
  const { bench, client, four } = world()
  client.permit(peer.address)
  const send = (length: number): number => {
    const before = four.sent.length
    client.send(peer, 'x'.repeat(length), (r) => r.flag(Attribute.DontFragment))
    return four.sent.length - before
  }
  assert.deepEqual([send(1_472), send(1_473)], [1, 0], 'Ethernet, less 28 bytes of headers')
  told(bench, four, peer, { type: 3, code: 4, data: 1_400 })
  assert.deepEqual([send(1_372), send(1_373)], [1, 0])
  const [message] = client.send(peer, 'x'.repeat(1_373), (r) => r.flag(Attribute.DontFragment))
  const view = new StunView()
  assert.ok(view.open(message!.data))
  assert.deepEqual(readIcmp(view.value(Attribute.Icmp)!), { type: 3, code: 4, data: 1_400 })
  client.send(peer, 'x'.repeat(1_400))
  assert.equal(four.sent.at(-1)!.data.length, 1_400, 'not asked for: cut up by the kernel')
  // Whoever forges one cannot close the path to what every path takes.
  told(bench, four, peer, { type: 3, code: 4, data: 68 })
  assert.deepEqual([send(524), send(525)], [1, 0])
  for (let n = 0; n < 4; n++) {
    bench.pass(149)
    client.permit(peer.address)
    client.refresh(600)
  }
  assert.equal(send(525), 0)
  bench.pass(5)
  assert.equal(send(1_472), 1)
})

test('what belongs to an allocation that has ended is told to nobody', () => {
  const { bench, client, four } = world()
  client.permit(peer.address)
  const { allocation } = four
  client.refresh(0)
  allocation!.handlePeerIcmp(bench.now, peer, unreachable)
  assert.deepEqual(bench.drain(), [])
})

// node:dgram hears of no such errors, whatever driver the run is for.
setDefaultDriver('native')

/** A port where nothing listens any more. */
async function closedPort(address: string): Promise<SocketAddress> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  socket.bind(0, address)
  await once(socket, 'listening')
  const { port } = socket.address()
  await once(socket.close(), 'close')
  return { address, port }
}

for (const { host, family, error } of [
  { host: '127.0.0.1', family: 4, error: { type: 3, code: 3, data: 0 } },
  { host: '::1', family: 6, error: { type: 1, code: 4, data: 0 } },
] as const) {
  test(`our client hears of a closed port of ${host} through our relay`, { timeout: 20_000 }, async (t) => {
    const service = await TurnService.listen({
      users: new StaticUsers('natwork.test', { user: 'secret' }),
      listen: [{ host: '127.0.0.1', port: 0, transport: 'udp' }],
      addresses: [{ host }],
      peers: { allow: [host] },
    })
    const uri = `turn:127.0.0.1:${service.udpAddresses[0]!.port}?transport=udp`
    const relay = await connectRelay(uri, { username: 'user', password: 'secret', family })
    t.after(() => relay.close().then(() => service.close()))
    const closed = await closedPort(host)
    const heard = once(relay, 'icmp')
    relay.send(Buffer.from('anybody?'), closed)
    assert.deepEqual(await heard, [closed, error])
    // The allocation is as good as before.
    const echo = createSocket(family === 6 ? 'udp6' : 'udp4').bind(0, host)
    t.after(() => echo.close())
    await once(echo, 'listening')
    const came = once(echo, 'message')
    relay.send(Buffer.from('you?'), { address: host, port: echo.address().port })
    assert.equal(String((await came)[0]), 'you?')
  })
}

test('a relayed port asks the native driver for errors; on node:dgram none are told', async (t) => {
  for (const { open, expected } of [
    { open: openNative, expected: 1 },
    { open: bindDgram, expected: 0 },
  ]) {
    const driver = await open({ address: '127.0.0.1', port: 0 }, { recvBufferSize: 65_536, reusePort: false })
    const listener = createSocket('udp4').bind(0, '127.0.0.1')
    t.after(() => listener.close())
    await once(listener, 'listening')
    const socket = new UdpRelayed(
      driver,
      driver.address,
      new Outside([]),
      new Flusher(),
      () => undefined,
      () => undefined,
    )
    t.after(() => {
      socket.close()
    })
    const { bench, four } = world()
    const before = bench.relay.counters
    socket.start(four.allocation!)
    socket.send({ remote: await closedPort('127.0.0.1') }, Buffer.from('anybody?'))
    socket.flush()
    // A datagram behind it shows that the error, which was there before, would have been heard.
    listener.send('x', driver.address.port, '127.0.0.1')
    while (before.droppedFromPeers === 0) await new Promise(setImmediate)
    assert.equal(before.droppedIcmp, expected, 'no permission: dropped, but heard')
  }
})
