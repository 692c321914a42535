import assert from 'node:assert/strict'
import test from 'node:test'
import { Attribute, Method, type StunBuilder } from '../../src/stun/index.ts'
import { PeerPolicy } from '../../src/turn/index.ts'
import { Bench, external, type BenchClient } from '../unit/turn/server-harness.ts'

// Strangers, and users gone mad, against the relay: about 15 seconds. Another seed: NATWORK_FUZZ_SEED=…, longer:
// NATWORK_FUZZ_FACTOR=100.

const seed = Number(process.env['NATWORK_FUZZ_SEED'] ?? 20261122)
const factor = Number(process.env['NATWORK_FUZZ_FACTOR'] ?? 1)

let state = seed | 1
/** Xorshift: uniform enough, and the same everywhere. */
function random(below: number): number {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % below
}

const oneOf = <T>(list: readonly T[]): T => list[random(list.length)]!

const methods = Object.values(Method)
const lengths = [0, 1, 2, 3, 4, 7, 8, 9, 16, 20, 32, 36, 100]
const attributes = Object.values(Attribute).filter(
  (type) =>
    ![Attribute.MessageIntegrity, Attribute.MessageIntegritySha256, Attribute.Fingerprint].includes(
      type as 8,
    ),
)
const addresses = [
  ...['8.8.8.8', '8.8.4.4', '1.1.1.1', external[4], '127.0.0.1', '10.0.0.1', '169.254.169.254'],
  ...['2620:fe::fe', external[6], '::1', '::ffff:10.0.0.1', 'fe80::1', '64:ff9b::a00:1'],
]
const peer = () => ({ address: oneOf(addresses), port: oneOf([0, 1, 80, 3478, 50_001, 65_535]) })

/** Attributes as they should be, and as they should not. */
function scribble(request: StunBuilder): void {
  for (let left = random(5); left > 0; left--) {
    switch (random(9)) {
      case 0:
      case 1:
        request.xorAddress(Attribute.XorPeerAddress, peer())
        break
      case 2:
        request.uint16(
          Attribute.ChannelNumber,
          oneOf([0x4000, 0x4001, 0x4100, 0x4fff, 0x5000, random(65_536)]),
        )
        break
      case 3:
        request.uint8(Attribute.RequestedTransport, oneOf([17, 17, 17, 6, 0]), true)
        break
      case 4:
        request.uint32(Attribute.Lifetime, oneOf([0, 600, 3600, 0xffffffff]))
        break
      case 5:
        request.uint8(
          oneOf([Attribute.RequestedAddressFamily, Attribute.AdditionalAddressFamily]),
          random(4),
          true,
        )
        break
      case 6:
        request.bytes(Attribute.MobilityTicket, Buffer.alloc(oneOf([0, 0, 32, 5]), random(256)))
        break
      case 7:
        request.uint8(Attribute.EvenPort, oneOf([0, 0x80]))
        break
      default: {
        const bytes = Buffer.alloc(oneOf(lengths))
        for (let n = 0; n < bytes.length; n++) bytes[n] = random(256)
        request.bytes(oneOf(attributes), bytes)
      }
    }
  }
}

const limits = {
  allocations: 40,
  allocationsPerUser: 30,
  allocationsPerSource: 40,
  permissions: 10,
  channels: 8,
}

/** What must hold whatever was sent. */
function check(bench: Bench, policy: PeerPolicy): void {
  const { relay } = bench
  assert.ok(relay.allocations.size <= limits.allocations)
  for (const allocation of relay.allocations.values()) {
    assert.ok(allocation.permissionCount <= limits.permissions && allocation.channelCount <= limits.channels)
    assert.equal(allocation.ended, false)
  }
  const live = new Set<object>([...relay.allocations.values()].flatMap(({ sockets }) => sockets))
  for (const socket of bench.sockets) {
    assert.equal(socket.closed, !live.has(socket), 'a socket that nobody has')
    for (const { to } of socket.sent) assert.equal(policy.refuses(to), undefined, `sent to ${to.address}`)
    socket.sent.length = 0
  }
  bench.sockets.splice(0, bench.sockets.length, ...bench.sockets.filter(({ closed }) => !closed))
  bench.events.length = 0
}

test(`users gone mad, with credentials (seed ${seed})`, () => {
  const peers = {
    ownAddresses: Object.values(external),
    isRelayed: (_: string, port: number) => port === 50_001,
  }
  const policy = new PeerPolicy(peers)
  const bench = new Bench({ limits, peers, tcp: true, rateLimit: false })
  const clients: BenchClient[] = Array.from({ length: 60 }, (_, n) =>
    bench.client(40_000 + n, `192.0.2.${n % 3}`, n % 2 === 0 ? 'alice' : 'bob'),
  )
  let accepted = 0
  for (let n = 0; n < 12_000 * factor; n++) {
    const client = oneOf(clients)
    switch (random(10)) {
      case 0:
        client.allocate(random(2) === 0 ? scribble : undefined)
        break
      case 1:
        client.send(peer(), 'x'.repeat(random(50)))
        break
      case 2:
        client.channel(0x4000 + random(3), 'x'.repeat(random(50)))
        break
      case 3: {
        const socket = oneOf(bench.sockets.length > 0 ? bench.sockets : [undefined])
        if (socket !== undefined) bench.fromPeer(socket, peer(), Buffer.alloc(random(100)))
        break
      }
      case 4:
        if (random(5) === 0) bench.pass(random(400))
        break
      default: {
        // Answered or not, but never with an exception.
        const [bytes, signature] = client.compose(oneOf(methods), scribble)
        const answer = client.ask(bytes)
        if (answer !== undefined && client.auth?.examine(answer, signature) === 'accept') accepted++
      }
    }
    if (n % 100 === 0) check(bench, policy)
  }
  assert.ok(accepted > 1_000, `only ${accepted} got past the credentials`)
  bench.pass(4_000)
  check(bench, policy)
  assert.deepEqual([bench.relay.allocations.size, bench.server.pollTimeout()], [0, undefined])
})

test(`strangers, with what they have recorded (seed ${seed})`, () => {
  const bench = new Bench({ rateLimit: false })
  const victim = bench.client()
  victim.allocate()
  victim.bind(0x4001, { address: '8.8.8.8', port: 53 })
  const recorded = Array.from({ length: 50 }, () => Buffer.from(victim.compose(oneOf(methods), scribble)[0]))
  const scratch = Buffer.alloc(2_000)
  for (let n = 0; n < 200_000 * factor; n++) {
    const from = oneOf(recorded)
    from.copy(scratch)
    let length = from.length
    for (let left = 1 + random(3); left > 0; left--) {
      const at = random(length)
      if (random(4) === 0) length = Math.max(1, at)
      else scratch[at] = random(256)
    }
    if (random(2) === 0 && length >= 20) {
      length &= ~3
      scratch.writeUInt16BE(length - 20, 2)
    }
    bench.give({ remote: { address: '198.51.100.9', port: 1 + random(60_000) } }, scratch.subarray(0, length))
  }
  assert.equal(bench.relay.allocations.size, 1)
  assert.equal(
    bench.sockets.every(({ sent }) => sent.length === 0),
    true,
  )
})

test('a day of clients that come and go leaves nothing behind', () => {
  const bench = new Bench({ rateLimit: false, limits: { allocations: 1_000, allocationsPerUser: 1_000 } })
  for (let hour = 0; hour < 24; hour++) {
    for (let n = 0; n < 40; n++) {
      const client = bench.client(1_000 + n, `192.0.2.${hour}`)
      assert.equal(client.allocate((r) => r.bytes(Attribute.MobilityTicket, Buffer.alloc(0))).code, 0)
      client.bind(0x4001, { address: '8.8.8.8', port: n + 1 })
      client.permit('8.8.4.4')
      client.channel(0x4001, 'hello')
      if (n % 2 === 0) assert.equal(client.refresh(0).code, 0)
    }
    assert.equal(bench.relay.allocations.size, 20)
    bench.pass(3_600)
  }
  assert.equal(bench.relay.allocations.size, 0)
  assert.equal(bench.sockets.filter(({ closed }) => !closed).length, 0)
  assert.equal(bench.server.pollTimeout(), undefined)
  assert.equal(bench.relay.perUser.of('alice'), 0)
})
