import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import test, { describe } from 'node:test'
import fc from 'fast-check'
import { attacks } from '../../src/cli/relay/attacks.ts'
import { readIpv4, readIpv6 } from '../../src/core/ip.ts'
import { parseBlock, specialPurposeRanges } from '../../src/core/special-purpose.ts'
import { SimRng } from '../../src/sim/rng.ts'
import {
  Attribute,
  LongTermAuth,
  Method,
  StaticUsers,
  StunView,
  type StunBuilder,
} from '../../src/stun/index.ts'
import { RelayPorts } from '../../src/turn/driver/server/ports.ts'
import {
  PeerPolicy,
  SharedSecretUsers,
  timeLimitedCredentials,
  TransportProtocol,
  TurnService,
  writeChannelData,
  type ClientLink,
} from '../../src/turn/index.ts'
import {
  answerOf,
  Bench,
  external,
  FakeConnection,
  realm,
  users,
  type BenchClient,
} from '../unit/turn/server-harness.ts'

// What TURN servers have fallen to, each attack by its name. Most of it in virtual time. About 10 seconds.

/** An IPv4 address that is not globally reachable, at random. */
const specialIpv4 = fc
  .tuple(
    fc.constantFrom(...specialPurposeRanges.filter(({ prefix, global }) => !global && !prefix.includes(':'))),
    fc.nat(0xffffffff),
  )
  .map(([{ prefix }, host]) => {
    const { ip, bits } = parseBlock(prefix)!
    const mask = bits === 32 ? 0 : 0xffffffff >>> bits
    const value = (Buffer.from(ip).readUInt32BE(0) | (host & mask)) >>> 0
    return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255] as const
  })
  // Anycast services in the middle of a special block are reachable.
  .filter(([a, b, c, d]) => !(a === 192 && b === 0 && c === 0 && (d === 9 || d === 10)))

const text = (bytes: readonly number[]): string =>
  bytes.length === 4 ? readIpv4(Uint8Array.from(bytes), 0) : readIpv6(Uint8Array.from(bytes), 0)

/** Everything that may lead to the IPv4 address inside it. */
function disguises(v4: readonly number[]): string[] {
  const zeros = (count: number): number[] => new Array<number>(count).fill(0)
  return [
    [...zeros(10), 0xff, 0xff, ...v4],
    [...zeros(8), 0xff, 0xff, 0, 0, ...v4],
    [...zeros(12), ...v4],
    [0x20, 0x02, ...v4, ...zeros(9), 1],
    [0x20, 0x01, 0, 0, ...v4, ...zeros(4), ...[8, 8, 8, 8].map((byte) => byte ^ 255)],
    [0x20, 0x01, 0, 0, 8, 8, 8, 8, ...zeros(4), ...v4.map((byte) => byte ^ 255)],
    [0, 0x64, 0xff, 0x9b, ...zeros(8), ...v4],
    [0, 0x64, 0xff, 0x9b, 0, 1, ...zeros(6), ...v4],
    // ISATAP behind a prefix that is as good as any.
    [0x2a, 0, 0, 1, ...zeros(4), 0, 0, 0x5e, 0xfe, ...v4],
    [0x2a, 0, 0, 1, ...zeros(4), 2, 0, 0x5e, 0xfe, ...v4],
  ].map(text)
}

function dual(bench: Bench, port = 40_000): BenchClient {
  const client = bench.client(port)
  client.allocate((r) => r.uint8(Attribute.AdditionalAddressFamily, 2, true))
  return client
}

describe('relaying to what only the relay can reach (Slack 2020, CVE-2020-26262, CVE-2026-27624)', () => {
  test('addresses that are not globally reachable, in every disguise, by CreatePermission and ChannelBind', () => {
    const bench = new Bench()
    const client = dual(bench)
    fc.assert(
      fc.property(specialIpv4, (v4) => {
        for (const address of [text(v4), ...disguises(v4)]) {
          assert.equal(client.permit(address), 403, address)
          assert.equal(client.bind(0x4200, { address, port: 80 }), 403, address)
        }
      }),
      { numRuns: 60 },
    )
  })

  test('every special block of IPv6, at both of its ends', () => {
    const policy = new PeerPolicy()
    for (const { prefix, global } of specialPurposeRanges) {
      if (global || !prefix.includes(':') || prefix === '::/0') continue
      const { ip, bits } = parseBlock(prefix)!
      const last = ip.map((byte, n) => byte | (n * 8 >= bits ? 255 : 255 >>> Math.min(8, bits - n * 8)))
      assert.ok(policy.refusesAddress(readIpv6(ip, 0)), `${prefix} first`)
      assert.ok(policy.refusesAddress(readIpv6(last, 0)), `${prefix} last`)
    }
    assert.equal(policy.refusesAddress('2a00:1450:4001:800::200e'), undefined)
    assert.equal(policy.refusesAddress('8.8.8.8'), undefined)
  })

  test('one bad address among good ones: nothing is permitted', () => {
    const bench = new Bench()
    const client = dual(bench)
    assert.equal(client.permit('8.8.8.8', '10.0.0.1'), 403)
    client.send({ address: '8.8.8.8', port: 53 }, 'x')
    assert.equal(bench.sockets[0]?.sent.length, 0)
  })

  test('Send to an address that was never permitted', () => {
    const bench = new Bench()
    const client = dual(bench)
    client.permit('8.8.8.8')
    for (const address of ['127.0.0.1', '169.254.169.254', '10.0.0.1', '8.8.8.9', '::1']) {
      client.send({ address, port: 80 }, 'x')
    }
    assert.deepEqual(
      bench.sockets.map(({ sent }) => sent.length),
      [0, 0],
    )
  })

  test('an allow list opens what it names, and none of its disguises', () => {
    const policy = new PeerPolicy({ allow: ['10.20.0.0/16'] })
    assert.equal(policy.refuses({ address: '10.20.3.4', port: 80 }), undefined)
    assert.ok(policy.refuses({ address: '10.21.3.4', port: 80 }))
    // ISATAP's prefix is as good as any: what counts is the address inside, and that is named.
    for (const address of disguises([10, 20, 3, 4]).filter((one) => !one.includes('5efe'))) {
      assert.ok(policy.refuses({ address, port: 80 }), address)
    }
    // Whoever opens a NAT64 has not opened the private networks behind it.
    const nat64 = new PeerPolicy({ allow: ['64:ff9b::/96'] })
    assert.equal(nat64.refusesAddress('64:ff9b::808:808'), undefined)
    assert.ok(nat64.refusesAddress('64:ff9b::a00:1'))
    // No allow list opens tunnels that may lead back here (RFC 8656 §21.4).
    const all = new PeerPolicy({ allow: ['::/0', '0.0.0.0/0'] })
    assert.equal(all.refusesAddress('fd00::1'), undefined)
    assert.ok(all.refusesAddress('2002:808:808::1'))
    assert.ok(all.refusesAddress('2001:0:808:808::f7f7:f7f7'))
  })
})

describe('relaying to the relay itself', () => {
  const peers = {
    isRelayed: (_address: string, port: number) => port >= 50_000,
    isListening: (_address: string, port: number) => port === 3478 || port === 50_123,
  }

  test('its listening ports and other services, but the addresses it relays at', () => {
    const bench = new Bench({ peers })
    const client = dual(bench)
    const at = (port: number): number => client.bind(0x4200 + (port % 256), { address: external[4], port })
    assert.deepEqual([3478, 22, 50_123].map(at), [403, 403, 403])
    assert.equal(at(50_001), 0)
    // CreatePermission has no port: Send is where it is asked for.
    assert.equal(client.permit(external[4]), 0)
    for (const port of [3478, 22, 50_123]) client.send({ address: external[4], port }, 'x')
    assert.equal(bench.sockets[0]?.sent.length, 0)
    client.send({ address: external[4], port: 50_001 }, 'x')
    assert.equal(bench.sockets[0].sent.length, 1)
  })

  test('an allow list around its address does not open its ports; naming it alone does, but for its own', () => {
    const own = external[4]
    const around = new PeerPolicy({ ...peers, ownAddresses: [own], allow: ['198.35.26.0/24'] })
    assert.ok(around.refuses({ address: own, port: 22 }))
    const alone = new PeerPolicy({ ...peers, ownAddresses: [own], allow: [own] })
    assert.equal(alone.refuses({ address: own, port: 22 }), undefined)
    assert.ok(alone.refuses({ address: own, port: 3478 }))
  })

  test('a client that comes through a relay gets no allocation: no chain, no loop', () => {
    const bench = new Bench()
    const client = bench.client()
    const [bytes] = client.compose(Method.Allocate, (r) => r.uint8(Attribute.RequestedTransport, 17, true))
    const via = { kind: 'relay' as const, send: () => undefined }
    assert.equal(bench.server.handleDatagram(bench.now, { ...client.path, via }, bytes), false)
  })
})

describe('credentials', () => {
  test('anonymous allocation, and users that do not exist', () => {
    const bench = new Bench()
    const anonymous = bench.client()
    anonymous.auth = undefined
    assert.equal(anonymous.allocate().code, 401)
    for (const [name, password] of [
      ['admin', 'admin'],
      ['constructor', 'x'],
      ['__proto__', 'x'],
    ] as const) {
      assert.equal(bench.client(40_001, '192.0.2.7', name, password).allocate().code, 401, name)
    }
    assert.equal(bench.relay.allocations.size, 0)
  })

  test('guessing users: a wrong password and a wrong name are answered alike', () => {
    const bench = new Bench()
    const ask = (name: string): Buffer => {
      const client = bench.client(40_000, '192.0.2.7', name, 'wrong')
      const bytes = Buffer.from(client.allocate().view.bytes)
      bytes.fill(0, 8, 20)
      return bytes
    }
    assert.deepEqual(ask('alice'), ask('alicf'))
  })

  test('guessing passwords: from a stream, and from an allocation of one’s own, no faster than over UDP', () => {
    const bench = new Bench({ rateLimit: { perSecond: 1, burst: 10 } })
    const guesses = (client: BenchClient): number => {
      let answered = 0
      for (let n = 0; n < 100; n++) {
        const [bytes] = client.compose(Method.Refresh, () => undefined)
        if (client.ask(bytes) !== undefined) answered++
      }
      return answered
    }
    const thief = bench.client(1, '192.0.2.1')
    thief.allocate()
    thief.auth = new LongTermAuth('bob', 'a guess')
    assert.equal(guesses(thief), 8, 'two of ten were for the allocation')

    let answered = 0
    const link: ClientLink = {
      remote: { address: '198.51.100.1', port: 1 },
      kind: 'stream',
      channels: 'rfc8656',
      allocation: undefined,
      opening: false,
      send: () => answered++,
      released: () => undefined,
    }
    const stranger = bench.client(1, '198.51.100.1', 'bob', 'a guess')
    for (let n = 0; n < 100; n++) {
      const view = new StunView()
      assert.ok(view.open(stranger.compose(Method.Allocate, () => undefined)[0]))
      bench.relay.handleMessage(bench.now, link, view)
    }
    assert.equal(answered, 10)
    bench.pass(3)
    thief.auth = new LongTermAuth('alice', users['alice']!)
    assert.equal(thief.refresh(600).code, 0, 'who owns it is served')
  })

  test('a nonce of another address, of a port more, or of yesterday', () => {
    const bench = new Bench()
    const victim = bench.client()
    victim.allocate()
    const [bytes] = victim.compose(Method.Refresh, (r) => r.uint32(Attribute.Lifetime, 0))
    for (const [port, address] of [
      [40_001, '192.0.2.7'],
      [40_000, '192.0.2.8'],
    ] as const) {
      const view = bench.client(port, address).ask(bytes)
      assert.equal(answerOf(view!).code, 438)
    }
    bench.pass(602)
    assert.equal(answerOf(victim.ask(bytes)!).code, 438, 'stale')
    assert.equal(bench.relay.allocations.size, 0)
  })

  test('another user’s 5-tuple: 441 for every request, and nothing changes', () => {
    const bench = new Bench()
    const victim = dual(bench)
    victim.permit('8.8.8.8')
    const thief = bench.client(40_000, '192.0.2.7', 'bob')
    assert.equal(thief.refresh(0).code, 441)
    assert.equal(thief.permit('8.8.4.4'), 441)
    assert.equal(thief.bind(0x4001, { address: '8.8.4.4', port: 1 }), 441)
    assert.equal(
      thief.request(Method.Connect, (r) =>
        r.xorAddress(Attribute.XorPeerAddress, { address: '8.8.4.4', port: 1 }),
      ).code,
      441,
    )
    const [allocation] = bench.relay.allocations.values()
    assert.deepEqual([allocation?.permissionCount, allocation?.channelCount], [1, 0])
  })

  test('another user’s RESERVATION-TOKEN: 508, and the port stays for who has it', () => {
    const bench = new Bench()
    const { view } = bench.client().allocate((r) => r.uint8(Attribute.EvenPort, 0x80))
    const token = Buffer.from(view.value(Attribute.ReservationToken)!)
    const claim = (user: string, port: number): number =>
      bench.client(port, '192.0.2.7', user).allocate((r) => r.bytes(Attribute.ReservationToken, token)).code
    assert.equal(claim('bob', 1), 508)
    assert.equal(claim('alice', 2), 0)
    assert.equal(claim('alice', 3), 508, 'replayed')
  })

  test('another user’s mobility ticket: 441; one that was used: 400; one nobody made: 400', () => {
    const bench = new Bench()
    const made = bench.client().allocate((r) => r.bytes(Attribute.MobilityTicket, Buffer.alloc(0)))
    const ticket = Buffer.from(made.view.value(Attribute.MobilityTicket)!)
    const show = (shown: Buffer, port: number, user: string): number =>
      bench
        .client(port, '192.0.2.99', user)
        .request(Method.Refresh, (r) => r.bytes(Attribute.MobilityTicket, shown)).code
    const forged = Buffer.from(ticket)
    forged[3] = forged[3] === 65 ? 66 : 65
    assert.deepEqual([show(ticket, 1, 'bob'), show(forged, 2, 'alice')], [441, 400])
    const [allocation] = bench.relay.allocations.values()
    assert.equal(allocation?.nextLink, undefined)
    assert.equal(show(ticket, 3, 'alice'), 0)
    assert.equal(show(ticket, 4, 'alice'), 400)
    assert.equal(bench.relay.allocations.size, 1)
  })

  test('a tampered request is nobody’s', () => {
    const bench = new Bench()
    const client = bench.client()
    client.refresh(0)
    const [bytes] = client.compose(Method.Allocate, (r) => r.uint8(Attribute.RequestedTransport, 17, true))
    const bad = Buffer.from(bytes)
    bad[24] = 6
    assert.equal(answerOf(client.ask(bad)!).code, 401)
  })
})

describe('floods', () => {
  test('allocations: quotas per user, per source and in all', () => {
    const bench = new Bench({
      limits: { allocationsPerUser: 3, allocationsPerSource: 4, allocations: 6 },
      rateLimit: false,
    })
    const codes = (user: string, address: string, from: number): number[] =>
      [0, 1, 2, 3].map((n) => bench.client(from + n, address, user).allocate().code)
    assert.deepEqual(codes('alice', '192.0.2.7', 1000), [0, 0, 0, 486])
    assert.deepEqual(codes('bob', '192.0.2.7', 2000), [0, 486, 486, 486], 'the source has four')
    assert.deepEqual(codes('bob', '192.0.2.8', 3000), [0, 0, 486, 486])
    assert.equal(bench.relay.allocations.size, 6)
    bench.client(4000, '192.0.2.9', 'alice')
    bench.pass(601)
    assert.equal(bench.relay.allocations.size, 0)
    assert.deepEqual(codes('alice', '192.0.2.7', 1000), [0, 0, 0, 486], 'quotas are given back')
  })

  test('time-limited credentials made anew are no new quota', () => {
    const store = new SharedSecretUsers(realm, 'secret', () => 5_000)
    const bench = new Bench({ store, limits: { allocationsPerUser: 2 } })
    const codes = [5_001, 5_002, 5_003].map((expiry) => {
      const { username, password } = timeLimitedCredentials('secret', expiry, 'eve')
      return bench.client(expiry, '192.0.2.7', username, password).allocate().code
    })
    assert.deepEqual(codes, [0, 0, 486])
    const { username, password } = timeLimitedCredentials('secret', 5_004, 'bob')
    assert.equal(bench.client(9, '192.0.2.7', username, password).allocate().code, 0)
  })

  test('bandwidth: Send and channels draw on one budget', () => {
    const peer = { address: '8.8.8.8', port: 53 }
    const bench = new Bench({ limits: { bandwidthPerUser: 1_000 } })
    const client = dual(bench)
    client.bind(0x4201, peer)
    client.channel(0x4201, 'x'.repeat(600))
    client.send(peer, 'x'.repeat(600))
    const second = dual(bench, 40_001)
    second.permit(peer.address)
    second.send(peer, 'x'.repeat(600))
    assert.deepEqual(
      bench.sockets.map(({ sent }) => sent.length),
      [1, 0, 0, 0],
    )
  })

  test('a /64 of IPv6 is one source', () => {
    const bench = new Bench({ limits: { allocationsPerSource: 2 } })
    const codes = ['2a00:1:2:3::1', '2a00:1:2:3:ffff::2', '2a00:1:2:3::3', '2a00:1:2:4::1'].map(
      (address) => bench.client(1, address).allocate().code,
    )
    assert.deepEqual(codes, [0, 0, 486, 0])
  })

  test('permissions and channels of one allocation', () => {
    const bench = new Bench({ limits: { permissions: 50, channels: 20 } })
    const client = dual(bench)
    const at = (n: number): string => `8.8.${n >> 8}.${n & 255}`
    let permitted = 0
    for (let n = 0; n < 100; n++) if (client.permit(at(n)) === 0) permitted++
    assert.equal(permitted, 50)
    let bound = 0
    for (let n = 0; n < 100; n++) if (client.bind(0x4200 + n, { address: at(0), port: n + 1 }) === 0) bound++
    assert.equal(bound, 20)
    const [allocation] = bench.relay.allocations.values()
    assert.deepEqual([allocation?.permissionCount, allocation?.channelCount], [50, 20])
  })

  test('requests without an allocation, from one network: the rate limit drops them', () => {
    const bench = new Bench({ rateLimit: { perSecond: 10, burst: 20 } })
    const client = bench.client()
    client.auth = undefined
    let answered = 0
    for (let n = 0; n < 1000; n++) {
      const [bytes] = client.compose(Method.Allocate, () => undefined)
      if (client.ask(bytes) !== undefined) answered++
    }
    assert.equal(answered, 20)
    assert.equal(bench.client(1, '198.51.100.1').allocate().code, 0, 'others are served')
  })

  test('port-range exhaustion: the range is used up to its last port, and comes back', () => {
    const ports = new RelayPorts(new SimRng(3), { min: 50_000, max: 50_063 })
    const taken: number[] = []
    for (let n = 0; n < 64; n++) {
      const [port] = ports.candidates(external[4], false, false)
      assert.ok(port !== undefined)
      taken.push(port)
      ports.take({ address: external[4], port })
    }
    assert.equal(new Set(taken).size, 64)
    assert.deepEqual([...ports.candidates(external[4], false, false)], [])
    assert.deepEqual([...ports.candidates(external[4], true, true)], [])
    ports.free({ address: external[4], port: 50_007 })
    assert.deepEqual([...new Set(ports.candidates(external[4], false, false))], [50_007])
    assert.equal(new Bench({ open: () => [undefined] }).client().allocate().code, 508)
  })

  test('ports kept by EVEN-PORT count as allocations do, also of who comes and goes', () => {
    const bench = new Bench({ limits: { allocationsPerUser: 4 }, rateLimit: false })
    const codes = [0, 1, 2, 3, 4].map((n) => {
      const client = bench.client(1_000 + n)
      const { code } = client.allocate((r) => r.uint8(Attribute.EvenPort, 0x80))
      client.refresh(0)
      return code
    })
    assert.deepEqual(codes, [0, 0, 0, 486, 486])
    assert.equal(bench.reserved.filter(({ closed }) => !closed).length, 3)
    bench.pass(32)
    assert.ok(bench.reserved.every(({ closed }) => closed))
    assert.deepEqual([bench.relay.perUser.of('alice'), bench.relay.perSource.of('192.0.2.7')], [0, 0])
  })

  test('a user at the quota may take the port that is kept for it', () => {
    const bench = new Bench({ limits: { allocationsPerUser: 2, allocationsPerSource: 2, allocations: 2 } })
    const { view } = bench.client().allocate((r) => r.uint8(Attribute.EvenPort, 0x80))
    const token = Buffer.from(view.value(Attribute.ReservationToken)!)
    assert.equal(bench.client(1).allocate().code, 486)
    assert.equal(bench.client(2).allocate((r) => r.bytes(Attribute.ReservationToken, token)).code, 0)
    assert.equal(bench.relay.perUser.of('alice'), 2)
  })

  test('relayed ports are not to be foretold', () => {
    const ports = new RelayPorts(new SimRng(9))
    const drawn = Array.from({ length: 50 }, () => [...ports.candidates(external[4], false, false)][0]!)
    const steps = new Set(drawn.slice(1).map((port, n) => port - drawn[n]!))
    assert.ok(steps.size > 45)
  })
})

test('amplification before authentication: a challenge is below 3 × its request on the wire', () => {
  const bench = new Bench()
  const client = bench.client()
  client.auth = undefined
  for (const method of [Method.Allocate, Method.Refresh, Method.CreatePermission, Method.ChannelBind]) {
    const [bytes] = client.compose(method, () => undefined)
    const view = client.ask(bytes)!
    assert.ok(view.bytes.length + 28 <= 3 * (bytes.length + 28), `${bytes.length} → ${view.bytes.length}`)
  }
})

describe('ChannelData', () => {
  test('lengths that lie, and numbers that nobody bound', () => {
    const bench = new Bench()
    const client = dual(bench)
    client.bind(0x4201, { address: '8.8.8.8', port: 53 })
    const give = (...bytes: number[]): boolean => bench.give(client.path, Uint8Array.from(bytes)).taken
    assert.equal(give(0x42, 1, 0xff, 0xff, 1, 2, 3), true)
    assert.equal(give(0x42, 1, 0, 4, 1, 2, 3), true)
    assert.equal(bench.sockets[0]?.sent.length, 0)
    assert.equal(give(0x42, 1, 0, 1, 1, 2, 3, 4), true, 'padding over UDP')
    assert.deepEqual([...(bench.sockets[0].sent[0]?.data ?? [])], [1])
    assert.equal(give(0x42, 2, 0, 1, 1), false)
    assert.equal(give(0x42, 1, 0), false)
    const stranger = bench.client(40_009)
    assert.equal(stranger.channel(0x4201, 'x'), false, 'of another 5-tuple')
  })

  test('padding holds nothing of other people’s memory (CVE-2020-4067)', () => {
    for (let length = 0; length < 9; length++) {
      const into = Buffer.alloc(32, 0xaa)
      const end = writeChannelData(into, 0x4000, Buffer.alloc(length, 0xbb), true)
      assert.ok(into.subarray(4 + length, end).every((byte) => byte === 0))
    }
    const bench = new Bench()
    const client = dual(bench)
    client.permit('8.8.8.8')
    const socket = bench.sockets[0]!
    bench.fromPeer(socket, { address: '8.8.8.8', port: 1 }, Buffer.alloc(1200, 0xcc))
    const [answer] = bench.fromPeer(socket, { address: '8.8.8.8', port: 1 }, Buffer.from([1]))
    assert.deepEqual([...answer!.data.subarray(-4)], [1, 0, 0, 0])
  })
})

describe('TCP relaying as a port scanner', () => {
  test('is off unless asked for', () => {
    const code = new Bench()
      .client()
      .request(Method.Allocate, (r) =>
        r.uint8(Attribute.RequestedTransport, TransportProtocol.Tcp, true),
      ).code
    assert.equal(code, 442)
  })

  test('never over UDP', () => {
    const bench = new Bench({ tcp: true })
    const over = bench.client()
    assert.equal(
      over.request(Method.Allocate, (r) => r.uint8(Attribute.RequestedTransport, TransportProtocol.Tcp, true))
        .code,
      400,
    )
    assert.equal(
      dual(bench, 40_001).request(Method.Connect, (r) =>
        r.xorAddress(Attribute.XorPeerAddress, { address: '8.8.8.8', port: 80 }),
      ).code,
      400,
    )
  })

  test('Connect keeps to the policy and the quota, and one peer is connected to once (RFC 6062 §5.2, §5.4)', () => {
    const bench = new Bench({ tcp: true, limits: { connections: 2 } })
    const client = bench.client()
    const answers: StunView[] = []
    const joined: unknown[] = []
    const stream = (): ClientLink => ({
      remote: client.path.remote,
      kind: 'stream',
      channels: 'rfc8656',
      allocation: undefined,
      opening: false,
      send: (data) => {
        const view = new StunView()
        assert.ok(view.open(Buffer.from(data)))
        answers.push(view)
      },
      released: () => undefined,
      joinTo: (peer) => joined.push(peer),
    })
    const control = stream()
    const code = (): number | undefined => answers.map((view) => answerOf(view).code).at(-1)
    const ask = (
      link: ClientLink,
      method: number,
      build: (r: StunBuilder) => unknown,
    ): number | undefined => {
      answers.length = 0
      for (let round = 0; round < 2; round++) {
        const [bytes, signature] = client.compose(method, build)
        const view = new StunView()
        assert.ok(view.open(bytes))
        bench.relay.handleMessage(bench.now, link, view)
        bench.drain()
        const challenge = answers.at(-1)
        if (challenge === undefined || client.auth?.examine(challenge, signature) !== 'retry') break
      }
      return code()
    }
    const connect = (address: string, port: number): number | undefined =>
      ask(control, Method.Connect, (r) => r.xorAddress(Attribute.XorPeerAddress, { address, port }))
    assert.equal(connect('8.8.8.8', 80), 437)
    ask(control, Method.Allocate, (r) => r.uint8(Attribute.RequestedTransport, TransportProtocol.Tcp, true))
    assert.ok(control.allocation)
    assert.equal(
      ask(control, Method.Connect, () => undefined),
      400,
    )
    assert.deepEqual([connect('10.0.0.1', 80), connect('169.254.169.254', 80)], [403, 403])
    assert.deepEqual([connect('8.8.8.8', 80), connect('8.8.8.8', 80)], [undefined, 446])
    assert.deepEqual([connect('8.8.4.4', 80), connect('1.1.1.1', 80)], [undefined, 508])
    const [one, two] = bench.events.filter((event) => event.type === 'connect')
    assert.ok(one && two)
    bench.relay.connected(bench.now, two.ticket, undefined)
    assert.equal(code(), 447)
    const peer = new FakeConnection(one.peer)
    bench.relay.connected(bench.now, one.ticket, peer)
    const id = answers.at(-1)?.uint32(Attribute.ConnectionId) ?? 0
    assert.ok(id > 0)
    const bind = (link: ClientLink, number: number): number | undefined =>
      ask(link, Method.ConnectionBind, (r) => r.uint32(Attribute.ConnectionId, number))
    assert.deepEqual([bind(stream(), id + 1), bind(control, id)], [400, 400])
    assert.deepEqual([bind(stream(), id), bind(stream(), id)], [0, 400])
    assert.deepEqual(joined, [peer])
    // What nobody binds in 30 seconds is closed.
    connect('8.8.4.4', 80)
    const last = bench.events.filter((event) => event.type === 'connect').at(-1)
    const unbound = new FakeConnection({ address: '8.8.4.4', port: 80 })
    bench.relay.connected(bench.now, last!.ticket, unbound)
    bench.pass(29)
    assert.equal(unbound.destroyed, false)
    bench.pass(3)
    assert.equal(unbound.destroyed, true)
  })

  test('a connection from a peer without permission is closed at once', () => {
    const bench = new Bench({ tcp: true })
    dual(bench)
    const [allocation] = bench.relay.allocations.values()
    const connection = new FakeConnection({ address: '8.8.8.8', port: 80 })
    bench.relay.peerConnected(bench.now, allocation!, connection)
    assert.equal(connection.destroyed, true)
  })
})

describe('over TCP', () => {
  test('slow-loris, strangers’ bytes and long messages: the connection ends, and nobody else notices', async () => {
    const service = await TurnService.listen({
      users: new StaticUsers(realm, users),
      addresses: [{ host: '127.0.0.1' }],
      listen: [{ host: '127.0.0.1', port: 0, transport: 'tcp' }],
      idleTimeout: 300,
      maxConnectionsPerSource: 8,
    })
    try {
      const { port = 0 } = service.streamAddresses[0] ?? {}
      const ends = async (bytes: Uint8Array, drip = false): Promise<void> => {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => undefined)
        await once(socket, 'connect')
        let at = 0
        const timer = setInterval(() => drip && socket.write(bytes.subarray(at, ++at)), 20)
        if (!drip) socket.write(bytes)
        await closed(socket)
        clearInterval(timer)
      }
      const request = Buffer.from('000300082112a442', 'hex')
      await Promise.all([
        ends(new Uint8Array(0)),
        ends(Buffer.concat([request, Buffer.alloc(100)]), true),
        ends(Buffer.from('SSH-2.0-OpenSSH_9.2\r\n')),
        ends(Buffer.from('GET / HTTP/1.1\r\n'.repeat(400))),
        ends(Buffer.concat([Buffer.from('0003fffc2112a442', 'hex'), Buffer.alloc(8_000)])),
      ])
      assert.equal(service.host.relay.allocations.size, 0)
    } finally {
      await service.close()
    }
  })

  test('connections of one source are counted', async () => {
    const service = await TurnService.listen({
      users: new StaticUsers(realm, users),
      addresses: [{ host: '127.0.0.1' }],
      listen: [{ host: '127.0.0.1', port: 0, transport: 'tcp' }],
      maxConnectionsPerSource: 2,
    })
    try {
      const { port = 0 } = service.streamAddresses[0] ?? {}
      const kept = [connect(port, '127.0.0.1'), connect(port, '127.0.0.1')]
      await Promise.all(kept.map((socket) => once(socket, 'connect')))
      const third = connect(port, '127.0.0.1')
      third.on('error', () => undefined)
      await closed(third)
      for (const socket of kept) {
        assert.equal(socket.destroyed, false)
        socket.destroy()
      }
    } finally {
      await service.close()
    }
  })
})

describe('`natwork relay check`', () => {
  // Between two addresses of the relay itself, and on loopback those are no peers.
  const amongItself = ['data without permission', 'ChannelData whose length lies']

  async function check(allow: readonly string[], names: (name: string) => boolean): Promise<void> {
    const service = await TurnService.listen({
      users: new StaticUsers(realm, users),
      addresses: [{ host: '127.0.0.1' }, { host: '::1' }],
      peers: { allow },
      listen: [
        { host: '127.0.0.1', port: 0, transport: 'udp' },
        { host: '127.0.0.1', port: 0, transport: 'tcp' },
      ],
      idleTimeout: 3_000,
    })
    try {
      const server = service.udpAddresses[0]!
      const user = { username: 'alice', password: users['alice']! }
      for (const { name, run } of attacks.filter((one) => names(one.name))) {
        const { verdict, detail } = await run({ server, user, tcp: true })
        assert.equal(verdict, 'held', `${name}: ${detail}`)
      }
    } finally {
      await service.close()
    }
  }

  test('finds nothing on a relay as it comes', () => check([], (name) => !amongItself.includes(name)))

  test('finds nothing between two of its addresses', () =>
    check(['127.0.0.1'], (name) => amongItself.includes(name)))
})

/** However it ends: by a FIN or by a reset. */
function closed(socket: Socket): Promise<unknown> {
  return new Promise((resolve) => socket.once('close', resolve).resume())
}
