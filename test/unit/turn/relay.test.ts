import assert from 'node:assert/strict'
import test from 'node:test'
import { Attribute, Method, StunView, type StunBuilder } from '../../../src/stun/index.ts'
import { StaticUsers } from '../../../src/stun/credentials/server.ts'
import { LongTermServerAuth } from '../../../src/stun/credentials/server.ts'
import { SECOND } from '../../../src/core/machine.ts'
import {
  CallbackUsers,
  channelOf,
  PeerPolicy,
  SharedSecretUsers,
  timeLimitedCredentials,
  type ClientLink,
} from '../../../src/turn/index.ts'
import { answerOf, Bench, external, realm, users } from './server-harness.ts'

const peer = { address: '8.8.4.4', port: 5000 }

test('an allocation: a relayed address, the mapped address, 600 seconds (RFC 8656 §7.2)', () => {
  const bench = new Bench()
  const { code, view } = bench.client().allocate()
  assert.equal(code, 0)
  assert.deepEqual(view.xorAddress(Attribute.XorRelayedAddress), bench.sockets[0]?.address)
  assert.deepEqual(view.xorAddress(Attribute.XorMappedAddress), { address: '192.0.2.7', port: 40_000 })
  assert.equal(view.uint32(Attribute.Lifetime), 600)
})

test('a retransmitted Allocate gets the same answer and makes nothing new', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate()
  const [bytes] = client.compose(Method.Allocate, (request) =>
    request.uint8(Attribute.RequestedTransport, 17, true),
  )
  assert.equal(answerOf(client.ask(bytes)!).code, 437, 'another transaction on the 5-tuple')
  const other = bench.client(40_001)
  other.refresh(0)
  const [first] = other.compose(Method.Allocate, (request) =>
    request.uint8(Attribute.RequestedTransport, 17, true),
  )
  const once = other.ask(first)
  const again = other.ask(first)
  assert.deepEqual(again?.bytes, once?.bytes)
  assert.equal(bench.relay.allocations.size, 2)
})

test('what Allocate refuses, each with its code', () => {
  const bench = new Bench()
  const refused = (build: Parameters<ReturnType<Bench['client']>['allocate']>[0]): number =>
    bench.client().allocate(build).code
  const raw = bench.client()
  assert.equal(raw.request(Method.Allocate).code, 400, 'no REQUESTED-TRANSPORT')
  assert.equal(
    raw.request(Method.Allocate, (r) => r.uint8(Attribute.RequestedTransport, 6, true)).code,
    442,
    'TCP, which is off',
  )
  const family =
    (attribute: number, value: number) => (r: { uint8: (...a: [number, number, boolean]) => unknown }) =>
      r.uint8(attribute, value, true)
  assert.equal(refused(family(Attribute.RequestedAddressFamily, 3)), 440)
  assert.equal(new Bench({ families: [2] }).client().allocate().code, 440, 'IPv4 is what absence means')
  assert.equal(refused(family(Attribute.AdditionalAddressFamily, 1)), 400)
  assert.equal(
    refused((r) => {
      family(Attribute.AdditionalAddressFamily, 2)(r)
      family(Attribute.RequestedAddressFamily, 1)(r)
    }),
    400,
  )
  assert.equal(
    refused((r) => {
      r.uint8(Attribute.EvenPort, 0x80)
      family(Attribute.AdditionalAddressFamily, 2)(r)
    }),
    400,
  )
  assert.equal(
    refused((r) => r.bytes(Attribute.ReservationToken, Buffer.alloc(8))),
    508,
  )
  assert.equal(
    refused((r) => r.bytes(Attribute.ReservationToken, Buffer.alloc(7))),
    400,
  )
  assert.equal(
    refused((r) => r.bytes(Attribute.MobilityTicket, Buffer.alloc(3))),
    400,
  )
  const unknown = bench.client().allocate((r) => r.bytes(0x7f01, Buffer.alloc(4)))
  assert.equal(unknown.code, 420)
  assert.deepEqual(unknown.view.unknownAttributes(), [0x7f01])
  const fragments = new Bench({ dontFragment: false })
    .client()
    .allocate((r) => r.flag(Attribute.DontFragment))
  assert.deepEqual([fragments.code, fragments.view.unknownAttributes()], [420, [Attribute.DontFragment]])
  assert.equal(bench.relay.allocations.size, 0)
  assert.equal(new Bench({ open: () => [undefined] }).client().allocate().code, 508, 'no free port')
})

test('a stream that ends while its Allocate waits for a socket: no allocation for nobody', () => {
  const bench = new Bench()
  const link: ClientLink = {
    remote: { address: '192.0.2.7', port: 1 },
    kind: 'stream',
    channels: 'rfc8656',
    allocation: undefined,
    opening: false,
    send: () => undefined,
    released: () => undefined,
  }
  const client = bench.client(1)
  client.refresh(0)
  const [bytes] = client.compose(Method.Allocate, (r) => r.uint8(Attribute.RequestedTransport, 17, true))
  const view = new StunView()
  assert.ok(view.open(bytes))
  bench.relay.handleMessage(bench.now, link, view)
  bench.relay.linkClosed(bench.now, link)
  bench.drain()
  assert.equal(bench.sockets[0]?.closed, true)
  assert.deepEqual([bench.relay.allocations.size, bench.relay.perUser.of('alice')], [0, 0])
})

test('EVEN-PORT with the R bit: the next port comes by its token, once, within 30 seconds', () => {
  const bench = new Bench()
  const first = bench.client().allocate((r) => r.uint8(Attribute.EvenPort, 0x80))
  const relayed = first.view.xorAddress(Attribute.XorRelayedAddress)!
  const token = Buffer.from(first.view.value(Attribute.ReservationToken)!)
  const claim = (port: number) =>
    bench.client(port).allocate((r) => r.bytes(Attribute.ReservationToken, token))
  const second = claim(40_001)
  assert.equal(second.view.xorAddress(Attribute.XorRelayedAddress)?.port, relayed.port + 1)
  assert.equal(claim(40_002).code, 508, 'used up')
  const later = bench.client(40_003).allocate((r) => r.uint8(Attribute.EvenPort, 0x80))
  const late = Buffer.from(later.view.value(Attribute.ReservationToken)!)
  bench.pass(32)
  assert.equal(bench.client(40_004).allocate((r) => r.bytes(Attribute.ReservationToken, late)).code, 508)
})

test('a dual allocation, whole and in part (ADDRESS-ERROR-CODE)', () => {
  const both = (r: { uint8: (...a: [number, number, boolean]) => unknown }) =>
    r.uint8(Attribute.AdditionalAddressFamily, 2, true)
  const bench = new Bench()
  const client = bench.client()
  assert.equal(client.allocate(both).code, 0)
  assert.deepEqual(
    bench.sockets.map(({ address }) => address.address),
    [external[4], external[6]],
  )
  assert.equal(client.permit(peer.address, '2620:fe::fe'), 0)
  const four: Bench = new Bench({ open: (request) => [four.openAll(request)[0], undefined] })
  const { code, view } = four.client().allocate(both)
  assert.equal(code, 0)
  assert.deepEqual([...view.value(Attribute.AddressErrorCode)!], [2, 0, 5, 8])
})

test('one address of a dual allocation is given back: nothing of the other one changes (RFC 8656 §8.1)', () => {
  const bench = new Bench()
  const client = bench.client()
  const six = { address: '2620:fe::fe', port: 4000 }
  client.allocate((r) => r.uint8(Attribute.AdditionalAddressFamily, 2, true))
  assert.deepEqual([client.bind(0x4001, peer), client.bind(0x4002, six)], [0, 0])
  const end = (family: number): number =>
    client.request(Method.Refresh, (r) =>
      r.uint32(Attribute.Lifetime, 0).uint8(Attribute.RequestedAddressFamily, family, true),
    ).code
  assert.equal(end(1), 0)
  assert.deepEqual(
    bench.sockets.map(({ closed }) => closed),
    [true, false],
  )
  assert.deepEqual([client.permit(peer.address), client.permit(six.address)], [443, 0])
  assert.deepEqual([client.channel(0x4001, 'x'), client.channel(0x4002, 'x')], [false, true])
  assert.deepEqual(
    bench.sockets.map(({ sent }) => sent.length),
    [0, 1],
  )
  assert.equal(end(1), 443)
  assert.equal(end(2), 0)
  assert.equal(bench.relay.allocations.size, 0)
})

test('data both ways by Send and Data, then by a channel', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate()
  const socket = bench.sockets[0]!
  client.send(peer, 'too early')
  assert.deepEqual(bench.fromPeer(socket, peer, 'too early'), [])
  assert.equal(client.permit(peer.address), 0)
  client.send(peer, 'hello')
  assert.deepEqual(
    socket.sent.map(({ to, data }) => [to, data.toString()]),
    [[peer, 'hello']],
  )
  const [indication] = bench.fromPeer(socket, { address: peer.address, port: 1 }, 'any port')
  const view = new StunView()
  assert.ok(view.open(indication!.data))
  assert.equal(view.method, Method.Data)
  assert.deepEqual(view.xorAddress(Attribute.XorPeerAddress), { address: peer.address, port: 1 })
  assert.equal(Buffer.from(view.value(Attribute.Data)!).toString(), 'any port')
  assert.deepEqual(bench.fromPeer(socket, { address: '8.8.4.5', port: 5000 }, 'stranger'), [])

  assert.equal(client.bind(0x4001, peer), 0)
  assert.equal(client.channel(0x4001, 'by channel'), true)
  assert.equal(socket.sent.at(-1)?.data.toString(), 'by channel')
  const [back] = bench.fromPeer(socket, peer, 'back')
  assert.equal(channelOf(back!.data), 0x4001)
  assert.equal(back!.data.subarray(4).toString(), 'back')
  assert.equal(client.channel(0x4001, ''), true)
  assert.equal(socket.sent.at(-1)?.data.length, 0, 'nothing is a datagram too')
})

test('channels: one number, one peer, for ten minutes and five more (RFC 8656 §12)', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate()
  assert.equal(client.bind(0x4001, peer), 0)
  assert.equal(client.bind(0x4001, peer), 0, 'refreshed')
  assert.equal(client.bind(0x4001, { ...peer, port: 1 }), 400)
  assert.equal(client.bind(0x4002, peer), 400)
  for (const number of [0x3fff, 0x5000, 0x4100, 0x41ff])
    assert.equal(client.bind(number, { ...peer, port: 2 }), 400)
  for (let n = 0; n < 10; n++) {
    bench.pass(59)
    client.refresh(600)
    client.permit(peer.address)
  }
  bench.pass(20)
  const before = bench.sockets[0]!.sent.length
  assert.equal(client.channel(0x4001, 'late'), true, 'still no other protocol’s')
  assert.equal(bench.sockets[0]!.sent.length, before)
  assert.equal(client.bind(0x4001, { ...peer, port: 1 }), 400, 'not yet')
  client.refresh(600)
  bench.pass(299)
  assert.equal(client.bind(0x4001, { ...peer, port: 1 }), 0)
})

test('permissions last 300 seconds, and data refreshes nothing (RFC 8656 §9)', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate()
  client.permit(peer.address)
  bench.pass(299)
  client.send(peer, 'in time')
  bench.pass(2)
  client.send(peer, 'late')
  assert.deepEqual(
    bench.sockets[0]!.sent.map(({ data }) => data.toString()),
    ['in time'],
  )
  assert.deepEqual(bench.fromPeer(bench.sockets[0]!, peer, 'late'), [])
})

test('an allocation ends when it is not refreshed, and when its client says so', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate()
  bench.pass(590)
  assert.equal(client.refresh(10_000).view.uint32(Attribute.Lifetime), 3600, 'the longest there is')
  bench.pass(3599)
  assert.equal(bench.relay.allocations.size, 1)
  bench.pass(3)
  assert.equal(bench.relay.allocations.size, 0)
  assert.equal(bench.sockets[0]?.closed, true)
  assert.equal(client.refresh(600).code, 437)
  assert.equal(client.allocate().code, 0, 'the 5-tuple is free again')
  assert.equal(client.refresh(0).code, 0)
  assert.equal(bench.sockets[1]?.closed, true)
  assert.equal(client.refresh(0).code, 437)
  assert.equal(bench.server.pollTimeout(), undefined, 'nothing is left to wait for')
})

test('443 for a peer of a family without relayed address', () => {
  const client = new Bench().client()
  client.allocate()
  assert.equal(client.permit('2620:fe::fe'), 443)
  assert.equal(client.bind(0x4001, { address: '2620:fe::fe', port: 1 }), 443)
  assert.equal(
    client.request(Method.Refresh, (r) => r.uint8(Attribute.RequestedAddressFamily, 2, true)).code,
    443,
  )
})

test('DONT-FRAGMENT: what would be cut up is not sent, and ICMP says so', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate((r) => r.flag(Attribute.DontFragment))
  client.permit(peer.address)
  client.send(peer, 'x'.repeat(1400), (r) => r.flag(Attribute.DontFragment))
  assert.equal(bench.sockets[0]?.sent.length, 1)
  const message = 'y'.repeat(1500)
  client.send(peer, message)
  assert.equal(bench.sockets[0].sent.length, 2, 'not asked for: cut up by the kernel')
  const [icmp] = client.send(peer, message, (r) => r.flag(Attribute.DontFragment))
  assert.equal(bench.sockets[0].sent.length, 2)
  const view = new StunView()
  assert.ok(view.open(icmp!.data))
  assert.deepEqual(view.xorAddress(Attribute.XorPeerAddress), peer)
  // Destination unreachable (3, in 7 bits), fragmentation needed (4, in 9), and the MTU (RFC 8656 §18.13).
  assert.equal(Buffer.from(view.value(Attribute.Icmp)!).toString('hex'), '00000604000005dc')
})

test('DONT-FRAGMENT is refused where DF would be lost, and ignored between packets of which one is IPv6 (RFC 8656 §3.7, §13)', () => {
  const bench = new Bench()
  const inIpv6 = (r: StunBuilder): unknown =>
    r.flag(Attribute.DontFragment).uint8(Attribute.RequestedAddressFamily, 2, true)
  const { code, view } = bench.client().allocate(inIpv6)
  assert.deepEqual([code, view.unknownAttributes()], [420, [Attribute.DontFragment]])
  const client = bench.client(40_001, '2001:db8::7')
  assert.equal(client.allocate(inIpv6).code, 0)
  client.permit('2620:fe::fe')
  client.send({ address: '2620:fe::fe', port: 4000 }, 'y'.repeat(1500), (r) => r.flag(Attribute.DontFragment))
  assert.equal(bench.sockets[0]?.sent.length, 1)
})

test('mobility: data goes the old way until the client is heard on the new one (RFC 8016)', () => {
  const bench = new Bench()
  const old = bench.client()
  const made = old.allocate((r) => r.bytes(Attribute.MobilityTicket, Buffer.alloc(0)))
  const ticket = Buffer.from(made.view.value(Attribute.MobilityTicket)!)
  old.bind(0x4001, peer)
  const socket = bench.sockets[0]!
  const move = (port: number, shown: Buffer, user = 'alice') => {
    const client = bench.client(port, '192.0.2.99', user)
    const answer = client.request(Method.Refresh, (r) => r.bytes(Attribute.MobilityTicket, shown))
    return { client, ...answer }
  }
  assert.equal(old.request(Method.Refresh, (r) => r.bytes(Attribute.MobilityTicket, ticket)).code, 400)
  assert.equal(move(1, Buffer.alloc(32, 65)).code, 400, 'no ticket of ours')
  assert.equal(move(2, ticket, 'bob').code, 441)
  const { client: fresh, code, view } = move(3, ticket)
  assert.equal(code, 0)
  const next = Buffer.from(view.value(Attribute.MobilityTicket)!)
  assert.notDeepEqual(next, ticket)
  assert.equal(bench.fromPeer(socket, peer, 'old way')[0]?.to, old.path)
  assert.equal(move(4, ticket).code, 400, 'a ticket that has been used')
  assert.equal(fresh.channel(0x4001, 'here I am'), true)
  assert.deepEqual(bench.fromPeer(socket, peer, 'new way')[0]?.to.remote, fresh.path.remote)
  assert.equal(old.channel(0x4001, 'too late'), false)
  bench.pass(31)
  assert.equal(move(5, ticket).code, 437, 'forgotten')
  assert.equal(move(6, next).code, 0)
  const forbidden = new Bench({ mobility: false }).client()
  assert.equal(forbidden.allocate((r) => r.bytes(Attribute.MobilityTicket, Buffer.alloc(0))).code, 405)
})

test('while it drains, new clients are sent elsewhere and old ones stay', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate()
  bench.relay.draining = { alternate: { address: '192.0.2.200', port: 3478 } }
  const { code, view } = bench.client(40_001).allocate()
  assert.equal(code, 300)
  assert.deepEqual(view.address(Attribute.AlternateServer), { address: '192.0.2.200', port: 3478 })
  assert.equal(bench.client(1, '2a00:1::1').allocate().code, 508, 'another family (RFC 8489 §10)')
  bench.relay.draining = { alternate: undefined }
  assert.equal(bench.client(40_002).allocate().code, 508)
  assert.equal(client.refresh(600).code, 0)
})

test('other settings hold for allocations that exist: their peers are judged anew', () => {
  const bench = new Bench()
  const client = bench.client()
  client.allocate()
  client.bind(0x4001, peer)
  client.channel(0x4001, 'fine')
  const auth = new LongTermServerAuth(new StaticUsers(realm, users), Buffer.alloc(32, 1), 600 * SECOND)
  bench.relay.configure({ auth, policy: new PeerPolicy({ deny: ['8.8.0.0/16'] }) })
  client.channel(0x4001, 'not any more')
  assert.deepEqual(
    bench.sockets[0]?.sent.map(({ data }) => data.toString()),
    ['fine'],
  )
  assert.deepEqual(bench.fromPeer(bench.sockets[0], peer, 'nor back'), [])
  assert.equal(client.refresh(600).code, 0)
})

test('bandwidth: what is above the budget is dropped, both ways together', () => {
  const bench = new Bench({ limits: { bandwidthPerUser: 1_000 } })
  const client = bench.client()
  client.allocate()
  client.bind(0x4201, peer)
  for (let n = 0; n < 5; n++) client.channel(0x4201, 'x'.repeat(300))
  assert.equal(bench.sockets[0]?.sent.length, 3)
  assert.deepEqual(bench.fromPeer(bench.sockets[0], peer, 'y'.repeat(300)), [])
  bench.pass(1)
  assert.equal(bench.fromPeer(bench.sockets[0], peer, 'y'.repeat(300)).length, 1)
  assert.equal(bench.relay.counters.droppedByBandwidth, 3)
})

test('bandwidth per source: of all its users together', () => {
  const bench = new Bench({ limits: { bandwidthPerSource: 1_000 } })
  const [alice, bob, elsewhere] = [
    bench.client(1, '2a00:1:2:3::1', 'alice'),
    bench.client(1, '2a00:1:2:3::2', 'bob'),
    bench.client(1, '2a00:1:2:4::1', 'bob'),
  ] as const
  for (const client of [alice, bob, elsewhere]) {
    client.allocate()
    client.bind(0x4201, peer)
    client.channel(0x4201, 'x'.repeat(600))
  }
  assert.deepEqual(
    bench.sockets.map(({ sent }) => sent.length),
    [1, 0, 1],
  )
})

test('time-limited credentials hold until their time, for every request anew', () => {
  let unix = 5_000
  const bench = new Bench({ store: new SharedSecretUsers(realm, 'secret', () => unix) })
  const { username, password } = timeLimitedCredentials('secret', 5_100, 'alice')
  const client = bench.client(40_000, '192.0.2.7', username, password)
  assert.equal(client.allocate().code, 0)
  unix = 5_100
  assert.equal(client.refresh(600).code, 401)
  assert.equal(bench.client(40_001, '192.0.2.7', username, password).allocate().code, 401)
  assert.equal(bench.client(40_002, '192.0.2.7', '9999999999:eve', password).allocate().code, 401)
})

test('two secrets while one replaces the other: credentials made from either hold', () => {
  const bench = new Bench({ store: new SharedSecretUsers(realm, ['new secret', 'old secret'], () => 5_000) })
  const ask = (secret: string, port: number): number => {
    const { username, password } = timeLimitedCredentials(secret, 5_100, 'alice')
    return bench.client(port, '192.0.2.7', username, password).allocate().code
  }
  assert.deepEqual([ask('new secret', 1), ask('old secret', 2), ask('older secret', 3)], [0, 0, 401])
})

test('credentials that a callback gives hold for as long as it does', () => {
  const given = new Map([['node-1', 'for a while']])
  const bench = new Bench({ store: new CallbackUsers(realm, (username) => given.get(username)) })
  const client = bench.client(40_000, '192.0.2.7', 'node-1', 'for a while')
  assert.equal(client.allocate().code, 0)
  given.clear()
  assert.equal(client.refresh(600).code, 401)
})
