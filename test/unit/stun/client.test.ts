import assert from 'node:assert/strict'
import { randomFillSync } from 'node:crypto'
import test from 'node:test'
import { MILLISECOND, SECOND, type Micros, type Path, type Transmit } from '../../../src/core/machine.ts'
import type { Rng } from '../../../src/core/ports.ts'
import { StunClient, type StunClientOptions } from '../../../src/stun/client/client.ts'
import type { StunClientEvent, StunRequest } from '../../../src/stun/client/transaction.ts'
import { StunBuilder } from '../../../src/stun/codec/builder.ts'
import { Attribute, ErrorCode, MessageClass, Method } from '../../../src/stun/codec/registry.ts'
import { StunView } from '../../../src/stun/codec/view.ts'
import { LongTermAuth, ShortTermAuth } from '../../../src/stun/credentials/client.ts'
import { shortTermKey } from '../../../src/stun/credentials/keys.ts'
import { LongTermServerAuth, StaticUsers } from '../../../src/stun/credentials/server.ts'
import { StunResponseError } from '../../../src/stun/errors.ts'

const rng: Rng = {
  uint32: () => 1,
  fill: (bytes) => {
    randomFillSync(bytes)
  },
}
const path: Path = { remote: { address: '192.0.2.10', port: 3478 } }
const other: Path = { remote: { address: '192.0.2.11', port: 3478 } }
const binding: StunRequest = { method: Method.Binding, path }

const create = (options: Partial<StunClientOptions> = {}): StunClient => new StunClient({ rng, ...options })

function drain(client: StunClient): { transmits: Transmit[]; events: StunClientEvent[] } {
  const transmits: Transmit[] = []
  const events: StunClientEvent[] = []
  for (let next = client.pollTransmit(); next !== undefined; next = client.pollTransmit())
    transmits.push(next)
  for (let next = client.pollEvent(); next !== undefined; next = client.pollEvent()) events.push(next)
  return { transmits, events }
}

/** Jumps from deadline to deadline until an event; says when each datagram left. */
function run(
  client: StunClient,
  until: Micros = Infinity,
): { times: Micros[]; events: StunClientEvent[]; at: Micros } {
  const times: Micros[] = []
  let at = 0
  for (;;) {
    const deadline = client.pollTimeout()
    if (deadline === undefined || deadline.at > until) return { times, events: [], at }
    at = deadline.at
    client.handleTimeout(at)
    const { transmits, events } = drain(client)
    times.push(...transmits.map(() => at))
    if (events.length > 0) return { times, events, at }
  }
}

function opened(bytes: Uint8Array): StunView {
  const view = new StunView()
  assert.ok(view.open(bytes))
  return view
}

type Write = (builder: StunBuilder) => unknown
const mapped: Write = (b) => b.xorAddress(Attribute.XorMappedAddress, { address: '198.51.100.1', port: 9 })

function answer(
  request: Uint8Array,
  write: Write = mapped,
  messageClass: MessageClass = MessageClass.Success,
) {
  const builder = new StunBuilder().startResponse(opened(request), messageClass)
  write(builder)
  return builder.copy()
}

const error = (request: Uint8Array, code: number, write: Write = () => undefined): Uint8Array =>
  answer(request, (b) => write(b.errorCode(code)), MessageClass.Error)

/** Begins a request and takes its datagram. */
function begin(client: StunClient, request: StunRequest = binding, now = 0): Uint8Array {
  client.request(now, request)
  const [transmit] = drain(client).transmits
  assert.ok(transmit)
  return transmit.data
}

/** Gives an answer; returns what the client sends and says. */
function give(client: StunClient, bytes: Uint8Array, from = path, now = 0) {
  assert.ok(client.handleDatagram(now, from, bytes))
  return drain(client)
}

function failure(events: readonly StunClientEvent[]): { code: string; status?: number } {
  assert.equal(events.length, 1)
  const [event] = events
  assert.ok(event?.type === 'failed')
  return event.error
}

test('requests leave at 0, 500, 1500 … 31500 ms and fail at 39500 ms (RFC 8489 §6.2.1)', () => {
  const client = create()
  client.request(0, binding)
  const first = drain(client).transmits
  const { times, events, at } = run(client)
  assert.equal(first.length, 1)
  assert.deepEqual(
    times.map((time) => time / MILLISECOND),
    [500, 1500, 3500, 7500, 15500, 31500],
  )
  assert.equal(at, 39_500 * MILLISECOND)
  assert.equal(failure(events).code, 'ERR_NATWORK_STUN_TIMEOUT')
  assert.equal(client.size, 0)
  assert.equal(client.pollTimeout(), undefined)
})

test('rc, rm and rto are configurable, and a late timer does not stretch the schedule', () => {
  const client = create({ timing: { rto: 200 * MILLISECOND, rc: 3, rm: 4 } })
  client.request(0, binding)
  drain(client)
  client.handleTimeout(250 * MILLISECOND)
  drain(client)
  assert.equal(client.pollTimeout()?.at, 600 * MILLISECOND)
  const { times, at } = run(client)
  assert.deepEqual(times, [600 * MILLISECOND])
  assert.equal(at, 1400 * MILLISECOND)
})

test('over TCP and TLS a request leaves once and fails after 39.5 s (§6.2.2)', () => {
  const client = create()
  client.request(0, { ...binding, reliable: true })
  const { times, events, at } = run(client)
  assert.deepEqual(times.length, 1, 'the first, drained with the event')
  assert.equal(at, 39_500 * MILLISECOND)
  assert.equal(failure(events).code, 'ERR_NATWORK_STUN_TIMEOUT')
})

test('a success response ends the transaction with a copy of its own', () => {
  const client = create({ software: 'test' })
  const request = begin(client, binding, 1000)
  assert.equal(opened(request).text(Attribute.Software), 'test')
  assert.ok(opened(request).hasFingerprint)
  const bytes = answer(request)
  const { events } = give(client, bytes, path, 21_000)
  bytes.fill(0)
  const [event] = events
  assert.ok(event?.type === 'response')
  assert.deepEqual(event.response.mappedAddress(), { address: '198.51.100.1', port: 9 })
  assert.equal(event.rtt, 20_000)
  assert.equal(client.size, 0)
  assert.ok(!client.handleDatagram(22_000, path, answer(request)), 'a second answer is nobody’s')
})

test('only a response to an open transaction, of its method, on its path, is taken', () => {
  const client = create()
  const request = begin(client)
  assert.ok(!client.handleDatagram(0, other, answer(request)), 'from elsewhere')
  assert.ok(!client.handleDatagram(0, path, request), 'a request')
  const stranger = Buffer.from(answer(request))
  stranger[19]! ^= 1
  assert.ok(!client.handleDatagram(0, path, stranger), 'another id, same first 48 bits')
  const builder = new StunBuilder().start(
    Method.Allocate,
    MessageClass.Success,
    opened(request).transactionId,
  )
  assert.ok(!client.handleDatagram(0, path, builder.copy()), 'another method')
  assert.ok(!client.handleDatagram(0, path, Buffer.from('not stun')))
  assert.equal(client.size, 1)
  assert.equal(give(client, answer(request)).events.length, 1)
})

test('with replyFrom the response has to come from there and nowhere else', () => {
  const client = create()
  const request = begin(client, { ...binding, replyFrom: other.remote })
  assert.ok(!client.handleDatagram(0, path, answer(request)))
  assert.equal(give(client, answer(request), other).events[0]?.type, 'response')
})

test('the RTO follows the round trips, by server, and is forgotten after ten minutes', () => {
  const client = create()
  give(client, answer(begin(client)), path, 80 * MILLISECOND)
  begin(client, binding, SECOND)
  // RFC 6298 §2.2: SRTT + 4 × RTT/2.
  assert.equal(client.pollTimeout()?.at, SECOND + 240 * MILLISECOND)
  const elsewhere = create()
  begin(elsewhere, { ...binding, path: other })
  assert.equal(elsewhere.pollTimeout()?.at, 500 * MILLISECOND)

  const stale = create()
  give(stale, answer(begin(stale)), path, 80 * MILLISECOND)
  begin(stale, binding, 700 * SECOND)
  assert.equal(stale.pollTimeout()?.at, 700 * SECOND + 500 * MILLISECOND)
})

test('a retransmitted request measures nothing (Karn)', () => {
  const client = create()
  const request = begin(client)
  client.handleTimeout(500 * MILLISECOND)
  drain(client)
  const { events } = give(client, answer(request), path, 510 * MILLISECOND)
  assert.ok(events[0]?.type === 'response' && events[0].rtt === undefined)
  begin(client, binding, SECOND)
  assert.equal(client.pollTimeout()?.at, SECOND + 500 * MILLISECOND)
})

test('open transactions are bounded, in all and per server', () => {
  const busy = { code: 'ERR_NATWORK_STUN_BUSY' }
  const client = create({ maxTransactions: 12 })
  for (let n = 0; n < 10; n++) client.request(0, binding)
  assert.throws(() => client.request(0, binding), busy)
  client.request(0, { ...binding, path: other })
  client.request(0, { ...binding, path: other })
  assert.throws(
    () => client.request(0, { ...binding, path: { remote: { address: '192.0.2.12', port: 1 } } }),
    busy,
  )
  assert.equal(client.size, 12)
})

test('cancel says nothing and takes nothing any more', () => {
  const client = create()
  const transaction = client.request(0, binding)
  const [transmit] = drain(client).transmits
  client.cancel(transaction)
  assert.ok(!client.handleDatagram(0, path, answer(transmit!.data)))
  assert.deepEqual(drain(client), { transmits: [], events: [] })
  assert.equal(client.pollTimeout(), undefined)
})

test('a lost connection fails its transactions and no others', () => {
  const client = create()
  client.request(0, { ...binding, reliable: true })
  client.request(0, { ...binding, path: other })
  client.disconnected(path, new Error('reset'))
  assert.equal(failure(drain(client).events).code, 'ERR_NATWORK_STUN_CONNECTION')
  assert.equal(client.size, 1)
})

test('error responses fail with their number, words and unknown attributes', () => {
  const client = create()
  const { events } = give(
    client,
    error(begin(client), 420, (b) => b.unknownAttributes([0x7ff0])),
  )
  const [event] = events
  assert.ok(event?.type === 'failed')
  assert.ok(event.error instanceof StunResponseError)
  assert.equal(event.error.code, 'ERR_NATWORK_STUN_RESPONSE')
  assert.equal(event.error.status, 420)
  assert.equal(event.error.reason, 'Unknown Attribute')
  assert.deepEqual(event.error.unknownAttributes, [0x7ff0])
})

test('a response that lacks what it promises, or has unknown required attributes, fails', () => {
  const invalid = 'ERR_NATWORK_STUN_INVALID_RESPONSE'
  for (const make of [
    (request: Uint8Array) => answer(request, () => undefined),
    (request: Uint8Array) => answer(request, (b) => mapped(b.flag(0x7ff0))),
    (request: Uint8Array) => answer(request, () => undefined, MessageClass.Error),
  ]) {
    const client = create()
    assert.equal(failure(give(client, make(begin(client))).events).code, invalid)
  }
  const client = create()
  const request = begin(client, { ...binding, understood: new Set([0x7ff0]) })
  assert.equal(
    give(
      client,
      answer(request, (b) => mapped(b.flag(0x7ff0))),
    ).events[0]?.type,
    'response',
  )
  const old = create()
  const classic = answer(begin(old), (b) => b.address(Attribute.MappedAddress, other.remote))
  assert.equal(give(old, classic).events[0]?.type, 'response', 'MAPPED-ADDRESS alone will do')
})

test('after 5xx the request is sent anew, four times at growing distance, then it fails', () => {
  const client = create()
  let request = begin(client, { ...binding, timing: { rto: 500 * MILLISECOND } })
  const waits: number[] = []
  let now = 0
  for (let n = 0; n < 4; n++) {
    const seen = Buffer.from(opened(request).transactionId)
    assert.deepEqual(give(client, error(request, 500), path, now), { transmits: [], events: [] })
    const { at } = client.pollTimeout()!
    waits.push((at - now) / MILLISECOND)
    now = at
    client.handleTimeout(now)
    request = drain(client).transmits[0]!.data
    assert.notDeepEqual(Buffer.from(opened(request).transactionId), seen, 'a new transaction')
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000])
  assert.equal(failure(give(client, error(request, 500), path, now).events).status, 500)
})

const users = new StaticUsers('example.org', { alice: 'wonderland' })
const verifier = new LongTermServerAuth(users, Buffer.alloc(32, 1), 600 * SECOND)

/** What a server with long-term credentials says. */
function challenged(request: Uint8Array, now = 0): Uint8Array {
  const outcome = verifier.check(now, opened(request), { address: '198.51.100.1', port: 9 })
  return outcome.ok
    ? answer(request, (b) => outcome.sign(mapped(b) as StunBuilder))
    : error(request, outcome.code, (b) => outcome.challenge(b))
}

test('401 and 438 are answered, and the challenge serves the next request', () => {
  const client = create()
  const auth = new LongTermAuth('alice', 'wonderland')
  const first = give(client, challenged(begin(client, { ...binding, auth })))
  assert.deepEqual(first.events, [])
  assert.equal(give(client, challenged(first.transmits[0]!.data)).events[0]?.type, 'response')

  const direct = challenged(begin(client, { ...binding, auth }))
  assert.equal(give(client, direct).events[0]?.type, 'response', 'no second challenge')

  const stale = give(client, challenged(begin(client, { ...binding, auth }), 900 * SECOND))
  assert.equal(give(client, challenged(stale.transmits[0]!.data, 900 * SECOND)).events[0]?.type, 'response')
})

test('a wrong password fails with 401, a server that challenges for ever with 438', () => {
  const client = create()
  const first = give(client, challenged(begin(client, { ...binding, auth: new LongTermAuth('alice', 'x') })))
  assert.equal(failure(give(client, challenged(first.transmits[0]!.data)).events).status, 401)

  let request = begin(client, { ...binding, auth: new LongTermAuth('alice', 'wonderland') })
  for (let n = 0; n < 3; n++) {
    const challenge = error(request, 438, (b) => b.text(Attribute.Realm, 'r').text(Attribute.Nonce, `n${n}`))
    request = give(client, challenge).transmits[0]!.data
  }
  const last = error(request, 438, (b) => b.text(Attribute.Realm, 'r').text(Attribute.Nonce, 'n'))
  assert.equal(failure(give(client, last).events).status, 438)
})

test('a challenge without its list of algorithms is a bid-down attack', () => {
  const client = create()
  const auth = new LongTermAuth('alice', 'wonderland')
  const bare = error(begin(client, { ...binding, auth }), 401, (b) =>
    b.text(Attribute.Realm, 'r').text(Attribute.Nonce, 'obMatJos2gAAAx'),
  )
  assert.equal(failure(give(client, bare).events).code, 'ERR_NATWORK_STUN_BID_DOWN')
})

test('responses that fail the integrity check: dropped over UDP and said at the end, fatal over TCP', () => {
  const auth = new ShortTermAuth('alice', 'secret', 'sha1')
  const forged = (request: Uint8Array) =>
    answer(request, (b) => (mapped(b) as StunBuilder).integrity(Buffer.from('x')))
  const udp = create()
  const request = begin(udp, { ...binding, auth })
  assert.deepEqual(give(udp, forged(request)).events, [])
  assert.deepEqual(give(udp, answer(request)).events, [], 'no integrity at all')
  assert.equal(failure(run(udp).events).code, 'ERR_NATWORK_STUN_INTEGRITY')

  const tcp = create()
  const events = give(tcp, forged(begin(tcp, { ...binding, auth, reliable: true }))).events
  assert.equal(failure(events).code, 'ERR_NATWORK_STUN_INTEGRITY')
})

test('300 is followed under message integrity only, to the same family, with the same credentials', () => {
  const auth = new ShortTermAuth('alice', 'secret', 'sha1')
  const key = shortTermKey('secret')
  const alternates = (b: StunBuilder): StunBuilder =>
    b
      .address(Attribute.AlternateServer, { address: '2001:db8::1', port: 1 })
      .address(Attribute.AlternateServer, other.remote)
  const client = create()
  const request = begin(client, { ...binding, auth })
  const { transmits } = give(
    client,
    error(request, 300, (b) => alternates(b).integrity(key)),
  )
  assert.deepEqual(transmits[0]!.path.remote, other.remote)
  assert.ok(opened(transmits[0]!.data).hasIntegrity(key))
  const done = answer(transmits[0]!.data, (b) => (mapped(b) as StunBuilder).integrity(key))
  assert.ok(!client.handleDatagram(0, path, done), 'the old path is closed')
  assert.equal(give(client, done, other).events[0]?.type, 'response')

  const open = create()
  const [event] = give(open, error(begin(open), 300, alternates)).events
  assert.ok(event?.type === 'failed')
  const { code, alternate, authenticated } = event.error as unknown as Record<string, unknown>
  assert.equal(code, 'ERR_NATWORK_STUN_REDIRECT')
  assert.deepEqual({ alternate, authenticated }, { alternate: other.remote, authenticated: false })
})

test('servers that send us in a circle are left', () => {
  const auth = new ShortTermAuth('alice', 'secret', 'sha1')
  const key = shortTermKey('secret')
  const to = (request: Uint8Array, where: Path): Uint8Array =>
    error(request, ErrorCode.TryAlternate, (b) =>
      b.address(Attribute.AlternateServer, where.remote).integrity(key),
    )
  const client = create()
  const moved = give(client, to(begin(client, { ...binding, auth }), other)).transmits[0]!
  const { events } = give(client, to(moved.data, path), other)
  assert.equal(failure(events).code, 'ERR_NATWORK_STUN_REDIRECT')

  // An endless chain of new servers ends too.
  const chain = create()
  let at = path
  let request = begin(chain, { ...binding, auth })
  for (let n = 1; ; n++) {
    const next = { remote: { address: `192.0.2.${100 + n}`, port: 1 } }
    const result = give(chain, to(request, next), at)
    if (result.events.length > 0) {
      assert.equal(failure(result.events).code, 'ERR_NATWORK_STUN_REDIRECT')
      assert.equal(n, 6)
      break
    }
    request = result.transmits[0]!.data
    at = next
  }
})

test('an indication leaves once, and nothing waits for an answer', () => {
  const client = create()
  client.indicate(path, Method.Binding)
  const { transmits } = drain(client)
  const view = opened(transmits[0]!.data)
  assert.equal(view.messageClass, MessageClass.Indication)
  assert.ok(view.hasFingerprint)
  assert.equal(client.pollTimeout(), undefined)
})
