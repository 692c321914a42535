import assert from 'node:assert/strict'
import test from 'node:test'
import { SECOND, type Transmit } from '../../../src/core/machine.ts'
import type { Rng } from '../../../src/core/ports.ts'
import { StunBuilder } from '../../../src/stun/codec/builder.ts'
import { Attribute, MessageClass, Method } from '../../../src/stun/codec/registry.ts'
import { StunView } from '../../../src/stun/codec/view.ts'
import { LongTermAuth } from '../../../src/stun/credentials/client.ts'
import { LongTermServerAuth, StaticUsers } from '../../../src/stun/credentials/server.ts'
import { SourceLimiter } from '../../../src/stun/server/limiter.ts'
import { StunResponder, type StunServerOptions } from '../../../src/stun/server/responder.ts'
import { StunServer } from '../../../src/stun/server/server.ts'
import * as vectors from './vectors.ts'

const rng: Rng = { uint32: () => 0x1234567, fill: (bytes) => bytes.fill(9) }
const source = { address: '198.51.100.7', port: 4321 }
const path = { remote: source }
const origins = { addresses: ['192.0.2.1', '192.0.2.2'], ports: [3478, 3479] } as const

const builder = new StunBuilder()

function request(write: (b: StunBuilder) => unknown = () => undefined): Uint8Array {
  builder.start(Method.Binding, MessageClass.Request, vectors.iceId)
  write(builder)
  return builder.copy()
}

/** The four sockets of an RFC 5780 server, or one. */
function create(options: Partial<StunServerOptions> = {}, classic = false) {
  const responder = new StunResponder({ rng, ...options })
  const servers: StunServer[] = [0, 1, 2, 3].map(
    (origin) =>
      new StunServer(responder, { origin, classic, forward: (to, transmit) => servers[to]!.send(transmit) }),
  )
  return { responder, servers }
}

/** Gives a request to socket `at`; says which socket answered and what. */
function ask(servers: StunServer[], bytes: Uint8Array, at = 0, now = 0) {
  assert.ok(servers[at]!.handleDatagram(now, path, bytes), 'taken')
  const all = servers.flatMap((server, from) => {
    const transmit: Transmit | undefined = server.pollTransmit()
    return transmit === undefined ? [] : [{ from, transmit }]
  })
  assert.ok(all.length <= 1)
  if (all[0] === undefined) return undefined
  const view = new StunView()
  assert.ok(view.open(all[0].transmit.data, true))
  return { ...all[0], view, to: all[0].transmit.path.remote, size: all[0].transmit.data.length }
}

test('a Binding request is answered with the source address', () => {
  const { servers, responder } = create()
  const answer = ask(servers, request())!
  assert.equal(answer.view.messageClass, MessageClass.Success)
  assert.deepEqual(answer.view.xorAddress(Attribute.XorMappedAddress), source)
  assert.deepEqual(answer.to, source)
  assert.equal(answer.size, 32)
  assert.deepEqual(Buffer.from(answer.view.transactionId), vectors.iceId)
  assert.deepEqual(responder.counters, { requests: 1, responses: 1, errors: 0, limited: 0 })
})

test('only Binding requests and indications are its own', () => {
  const { servers } = create()
  const server = servers[0]!
  for (const [method, messageClass, mine] of [
    [Method.Binding, MessageClass.Indication, true],
    [Method.Binding, MessageClass.Success, false],
    [Method.Binding, MessageClass.Error, false],
    [Method.Allocate, MessageClass.Request, false],
  ] as const) {
    const message = builder.start(method, messageClass, vectors.iceId).view()
    assert.equal(server.handleDatagram(0, path, message), mine)
    assert.equal(server.pollTransmit(), undefined)
  }
  assert.ok(!server.handleDatagram(0, path, Buffer.from('hello')))
  assert.ok(!server.handleDatagram(0, path, Buffer.alloc(20)), 'no cookie')
})

test('unknown comprehension-required attributes: 420 with their list', () => {
  const { servers } = create()
  const answer = ask(
    servers,
    request((b) => b.flag(0x7ff0).flag(0xfff0).uint32(Attribute.Priority, 1)),
  )!
  assert.equal(answer.view.errorCode()?.code, 420)
  assert.deepEqual(answer.view.unknownAttributes(), [0x7ff0, Attribute.Priority])
  // Without a second address CHANGE-REQUEST and RESPONSE-PORT are unknown (RFC 5780 §6.1).
  const change = ask(
    servers,
    request((b) => b.uint32(Attribute.ChangeRequest, 6).uint16(Attribute.ResponsePort, 4000)),
  )!
  assert.deepEqual(change.view.unknownAttributes(), [Attribute.ChangeRequest, Attribute.ResponsePort])
})

test('RFC 5780 table 1: which socket answers, and what it says, from each of the four', () => {
  const { servers } = create({ origins })
  const at = (n: number) => ({ address: origins.addresses[n >> 1]!, port: origins.ports[n & 1]! })
  for (let socket = 0; socket < 4; socket++) {
    for (const [flags, turn] of [
      [0, 0],
      [4, 2],
      [2, 1],
      [6, 3],
    ] as const) {
      const answer = ask(
        servers,
        request((b) => b.uint32(Attribute.ChangeRequest, flags)),
        socket,
      )!
      assert.equal(answer.from, socket ^ turn)
      assert.deepEqual(answer.view.address(Attribute.ResponseOrigin), at(socket ^ turn))
      assert.deepEqual(answer.view.address(Attribute.OtherAddress), at(socket ^ 3))
      assert.deepEqual(answer.view.address(Attribute.MappedAddress), source)
      assert.deepEqual(answer.view.xorAddress(Attribute.XorMappedAddress), source)
    }
  }
})

test('RESPONSE-PORT goes to that port of the same host, never to a service, never with PADDING', () => {
  const { servers } = create({ origins })
  const answer = ask(
    servers,
    request((b) => b.uint16(Attribute.ResponsePort, 5000)),
  )!
  assert.deepEqual(answer.to, { address: source.address, port: 5000 })
  assert.deepEqual(answer.view.xorAddress(Attribute.XorMappedAddress), source)
  const refused = [
    (b: StunBuilder) => b.uint16(Attribute.ResponsePort, 53),
    (b: StunBuilder) => b.uint16(Attribute.ResponsePort, 5000).zeros(Attribute.Padding, 100),
    (b: StunBuilder) => b.bytes(Attribute.ResponsePort, Buffer.alloc(3)),
    (b: StunBuilder) => b.bytes(Attribute.ChangeRequest, Buffer.alloc(3)),
  ]
  for (const write of refused) {
    const answer = ask(servers, request(write))!
    assert.equal(answer.view.errorCode()?.code, 400)
    assert.deepEqual(answer.to, source, 'errors go back to the sender')
  }
})

test('PADDING is answered with PADDING, and the response is as long as the request', () => {
  const { servers } = create({ origins, software: 'natwork' })
  for (const length of [0, 1, 100, 548, 1472, 8000]) {
    const bytes = request((b) => b.zeros(Attribute.Padding, length).fingerprint())
    const answer = ask(servers, bytes)!
    assert.ok(answer.view.has(Attribute.Padding))
    assert.ok(answer.view.hasFingerprint)
    if (length >= 100) assert.equal(answer.size, bytes.length - (bytes.length % 4))
  }
})

test('RFC 3489 clients are served where the port is STUN’s alone', () => {
  const classic = request((b) => b.uint32(Attribute.ChangeRequest, 0))
  classic.set([1, 2, 3, 4], 4)
  assert.ok(!create().servers[0]!.handleDatagram(0, path, classic))
  const answer = ask(create({}, true).servers, classic)!
  assert.deepEqual(answer.view.address(Attribute.MappedAddress), source)
  assert.ok(!answer.view.has(Attribute.XorMappedAddress))
  assert.deepEqual([...answer.view.bytes.subarray(4, 8)], [1, 2, 3, 4])

  const two = ask(create({ origins }, true).servers, classic)!
  assert.deepEqual(two.view.address(Attribute.SourceAddress), { address: '192.0.2.1', port: 3478 })
  assert.deepEqual(two.view.address(Attribute.ChangedAddress), { address: '192.0.2.2', port: 3479 })

  // RESPONSE-ADDRESS would send the answer to anybody: it is not understood.
  const reflect = request((b) => b.address(Attribute.ResponseAddress, { address: '203.0.113.1', port: 80 }))
  reflect.set([1, 2, 3, 4], 4)
  const error = ask(create({ origins }, true).servers, reflect)!
  assert.equal(error.view.errorCode()?.code, 420)
  assert.deepEqual(error.to, source)
  assert.deepEqual(error.view.unknownAttributes(), [2, 2], 'padded as RFC 3489 pads')
})

test('with credentials: challenge, then a signed answer; RFC 3489 clients have none', () => {
  const users = new StaticUsers('example.org', { alice: 'wonderland' })
  const { servers } = create({ auth: new LongTermServerAuth(users, Buffer.alloc(32), 600 * SECOND) }, true)
  const auth = new LongTermAuth('alice', 'wonderland')
  const challenge = ask(servers, request())!
  assert.equal(challenge.view.errorCode()?.code, 401)
  assert.equal(auth.examine(challenge.view, undefined), 'retry')
  let signature
  const signed = request((b) => {
    signature = auth.sign(b)
    b.fingerprint()
  })
  const answer = ask(servers, signed)!
  assert.equal(answer.view.messageClass, MessageClass.Success)
  assert.equal(auth.examine(answer.view, signature), 'accept')
  assert.ok(answer.view.hasFingerprint)

  const unknown = ask(
    servers,
    request((b) => auth.sign(b.flag(0x7ff0))),
  )!
  assert.equal(unknown.view.errorCode()?.code, 420)
  assert.ok(unknown.view.has(Attribute.MessageIntegritySha256), 'errors are signed too')
  const classic = request()
  classic.set([1, 2, 3, 4], 4)
  assert.equal(ask(servers, classic)!.view.errorCode()?.code, 400)
})

test('the rate limit is per source network, in fixed memory', () => {
  const { servers, responder } = create({ rateLimit: { perSecond: 10, burst: 5 } })
  const answered = (now: number): number =>
    Array.from({ length: 20 }, () => ask(servers, request(), 0, now)).filter(Boolean).length
  assert.equal(answered(0), 5)
  assert.equal(answered(0.3 * SECOND), 3)
  assert.equal(answered(100 * SECOND), 5, 'never more than the burst')
  assert.equal(responder.counters.limited, 47)

  const limiter = new SourceLimiter(rng, { perSecond: 1, burst: 2 })
  assert.ok(limiter.take(0, '192.0.2.1') && limiter.take(0, '192.0.2.200'))
  assert.ok(!limiter.take(0, '192.0.2.3'), 'the same /24')
  assert.ok(limiter.take(0, '198.51.100.1'))
  assert.ok(limiter.take(0, '2001:db8:1::1', 2) && !limiter.take(0, '2001:db8:1:ffff::1'), 'the same /48')
  assert.ok(limiter.take(0, '2001:db8:2::1'))
})

test('RESPONSE-PORT costs five requests', () => {
  const { servers } = create({ origins, rateLimit: { perSecond: 1, burst: 10 } })
  const bytes = request((b) => b.uint16(Attribute.ResponsePort, 5000))
  assert.ok(ask(servers, bytes) !== undefined && ask(servers, bytes) !== undefined)
  assert.equal(ask(servers, bytes), undefined)
})

test('how much larger than the request a response to an unverified source can be', () => {
  const users = new StaticUsers('example.org', { alice: 'wonderland' })
  const auth = new LongTermServerAuth(users, Buffer.alloc(32), 600 * SECOND)
  const software = 'a long name of some software that likes to talk about itself'
  const worst = (options: Partial<StunServerOptions>): number => {
    const { servers } = create({ software, rateLimit: false, ...options })
    const writes: ((b: StunBuilder) => unknown)[] = [
      () => undefined,
      (b) => b.fingerprint(),
      (b) => b.zeros(Attribute.Padding, 0),
      (b) => b.zeros(Attribute.Padding, 400),
      (b) => b.flag(0x7ff0),
      (b) => {
        for (let n = 0; n < 100; n++) b.flag(0x7000 + n)
      },
      (b) => b.text(Attribute.Username, 'x').integrity(Buffer.from('x')),
      (b) => b.uint32(Attribute.ChangeRequest, 6),
      (b) => b.uint16(Attribute.ResponsePort, 1),
    ]
    // IPv4 and UDP headers count: they are on the wire too.
    return Math.max(
      ...writes.map((write) => {
        const bytes = request(write)
        return (28 + ask(servers, bytes)!.size) / (28 + bytes.length)
      }),
    )
  }
  assert.equal(worst({}).toFixed(2), '1.25')
  assert.equal(worst({ origins }).toFixed(2), '2.00')
  assert.equal(worst({ auth }).toFixed(2), '2.67')
})
