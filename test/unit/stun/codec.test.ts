import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import test from 'node:test'
import { StunBuilder, messageType } from '../../../src/stun/codec/builder.ts'
import { Attribute, MessageClass, Method } from '../../../src/stun/codec/registry.ts'
import { StunView, isStun } from '../../../src/stun/codec/view.ts'
import { StunUsageError } from '../../../src/stun/errors.ts'
import * as vectors from './vectors.ts'

const key = Buffer.from(vectors.shortTermPassword)
const md5Key = createHash('md5')
  .update(`${vectors.username}:${vectors.realm}:${vectors.longTermPassword}`)
  .digest()
const sha256Key = createHash('sha256')
  .update(`${vectors.username}:${vectors.realm}:${vectors.longTermPassword}`)
  .digest()

function opened(bytes: Uint8Array): StunView {
  const view = new StunView()
  assert.ok(view.open(bytes), 'a STUN message')
  return view
}

test('RFC 5769 §2.1, the sample request, both ways', () => {
  const view = opened(vectors.request)
  assert.equal(view.method, Method.Binding)
  assert.equal(view.messageClass, MessageClass.Request)
  assert.deepEqual(Buffer.from(view.transactionId), vectors.iceId)
  assert.equal(view.text(Attribute.Software), 'STUN test client')
  assert.equal(view.uint32(Attribute.Priority), 0x6e0001ff)
  assert.equal(Buffer.from(view.value(Attribute.IceControlled)!).toString('hex'), '932ff9b151263b36')
  assert.equal(view.text(Attribute.Username), 'evtj:h6vY')
  assert.ok(view.hasIntegrity(key))
  assert.ok(!view.hasIntegrity(Buffer.from('another')))
  assert.ok(view.hasFingerprint)

  // The vector pads with spaces and we with zeros: with that padding put back, the bytes are the same.
  const builder = new StunBuilder().start(Method.Binding, MessageClass.Request, vectors.iceId)
  builder.text(Attribute.Software, 'STUN test client').uint32(Attribute.Priority, 0x6e0001ff)
  builder.bytes(Attribute.IceControlled, Buffer.from('932ff9b151263b36', 'hex'))
  builder.text(Attribute.Username, 'evtj:h6vY')
  builder.view().fill(0x20, builder.length - 3)
  assert.deepEqual(builder.integrity(key).fingerprint().copy(), vectors.request)
})

for (const [section, vector, address] of [
  ['2.2', vectors.responseV4, '192.0.2.1'],
  ['2.3', vectors.responseV6, '2001:db8:1234:5678:11:2233:4455:6677'],
] as const) {
  test(`RFC 5769 §${section}, a sample response, both ways`, () => {
    const view = opened(vector)
    assert.equal(view.messageClass, MessageClass.Success)
    assert.equal(view.text(Attribute.Software), 'test vector')
    assert.deepEqual(view.xorAddress(Attribute.XorMappedAddress), { address, port: 32853 })
    assert.ok(view.hasIntegrity(key))
    assert.ok(view.hasFingerprint)

    const builder = new StunBuilder().startResponse(opened(vectors.request), MessageClass.Success)
    builder.text(Attribute.Software, 'test vector')
    builder.view().fill(0x20, builder.length - 1)
    builder.xorAddress(Attribute.XorMappedAddress, { address, port: 32853 })
    assert.deepEqual(builder.integrity(key).fingerprint().copy(), vector)
  })
}

test('RFC 5769 §2.4, long-term authentication, both ways', () => {
  const view = opened(vectors.longTermRequest)
  assert.equal(view.text(Attribute.Username), vectors.username)
  assert.equal(view.text(Attribute.Nonce), vectors.longTermNonce)
  assert.equal(view.text(Attribute.Realm), vectors.realm)
  assert.ok(view.hasIntegrity(md5Key))

  const builder = new StunBuilder().start(Method.Binding, MessageClass.Request, vectors.longTermId)
  builder.text(Attribute.Username, vectors.username).text(Attribute.Nonce, vectors.longTermNonce)
  assert.deepEqual(
    builder.text(Attribute.Realm, vectors.realm).integrity(md5Key).copy(),
    vectors.longTermRequest,
  )
})

test('RFC 8489 appendix B.1 with erratum 6268, both ways', () => {
  const view = opened(vectors.sha256Request)
  const userhash = createHash('sha256').update(`${vectors.username}:${vectors.realm}`).digest()
  assert.deepEqual(Buffer.from(view.value(Attribute.Userhash)!), userhash)
  assert.equal(view.text(Attribute.Nonce), vectors.sha256Nonce)
  assert.deepEqual(view.passwordAlgorithms(Attribute.PasswordAlgorithm), [
    { algorithm: 2, parameters: Buffer.alloc(0) },
  ])
  assert.ok(view.hasIntegritySha256(sha256Key))
  assert.ok(!view.hasIntegritySha256(md5Key))

  const builder = new StunBuilder().start(Method.Binding, MessageClass.Request, vectors.longTermId)
  builder.bytes(Attribute.Userhash, userhash)
  builder.text(Attribute.Nonce, vectors.sha256Nonce).text(Attribute.Realm, vectors.realm)
  builder.passwordAlgorithms(Attribute.PasswordAlgorithm, [{ algorithm: 2, parameters: Buffer.alloc(0) }])
  assert.deepEqual(builder.integritySha256(sha256Key).copy(), vectors.sha256Request)
})

test('message types interleave class and method as RFC 8489 §5 and appendix A say', () => {
  assert.equal(messageType(Method.Binding, MessageClass.Request), 0x0001)
  assert.equal(messageType(Method.Binding, MessageClass.Indication), 0x0011)
  assert.equal(messageType(Method.Binding, MessageClass.Success), 0x0101)
  assert.equal(messageType(Method.Binding, MessageClass.Error), 0x0111)
  const builder = new StunBuilder()
  for (let method = 0; method <= 0xfff; method++) {
    for (const messageClass of Object.values(MessageClass)) {
      const view = opened(builder.start(method, messageClass, vectors.iceId).view())
      assert.equal(view.method, method)
      assert.equal(view.messageClass, messageClass)
    }
  }
})

test('every length field lied about: the message is not STUN, or the attribute reads as absent', () => {
  const messages = [vectors.request, vectors.responseV4, vectors.responseV6, vectors.sha256Request]
  let rejected = 0
  for (const message of messages) {
    const offsets = [2]
    const view = opened(message)
    for (let at = view.first(); at !== -1; at = view.next(at)) offsets.push(at + 2)
    for (const offset of offsets) {
      const bytes = Buffer.from(message)
      const honest = bytes.readUInt16BE(offset)
      for (let lie = 0; lie <= 0xffff; lie++) {
        if (lie === honest) continue
        bytes.writeUInt16BE(lie, offset)
        if (!view.open(bytes)) {
          rejected++
          continue
        }
        // It still adds up (a lie within the padding, or attributes swallowed): nothing vouches for it any more.
        assert.ok(!view.hasIntegrity(key) && !view.hasIntegritySha256(sha256Key), `${lie} at ${offset}`)
        readEverything(view)
      }
    }
    for (let length = 0; length < message.length; length++) {
      assert.ok(!isStun(message.subarray(0, length)), 'cut short')
    }
    assert.ok(!isStun(Buffer.concat([message, Buffer.alloc(4)])), 'with bytes behind it')
  }
  assert.ok(rejected > 1_000_000)
})

function readEverything(view: StunView): void {
  for (const type of Object.values(Attribute)) {
    view.value(type)
    view.text(type)
    view.uint8(type)
    view.uint16(type)
    view.uint32(type)
    view.address(type)
    view.xorAddress(type)
  }
  view.errorCode()
  view.unknownAttributes()
  view.passwordAlgorithms(Attribute.PasswordAlgorithms)
  view.unknownRequired(new Set())
}

test('FINGERPRINT must be right, of 4 bytes, and last', () => {
  const wrong = Buffer.from(vectors.request)
  wrong[wrong.length - 1]! ^= 1
  assert.ok(!isStun(wrong))
  const builder = new StunBuilder().start(Method.Binding, MessageClass.Request, vectors.iceId)
  assert.ok(isStun(builder.fingerprint().view()))
  assert.ok(!isStun(builder.text(Attribute.Software, 'late').view()))
})

test('what follows the integrity attributes is not seen (RFC 8489 §9)', () => {
  const builder = new StunBuilder().start(Method.Binding, MessageClass.Request, vectors.iceId)
  builder.text(Attribute.Username, 'alice').integrity(key)
  builder.text(Attribute.Realm, 'smuggled').uint32(0x7ff0, 1)
  const view = opened(builder.integritySha256(key).text(Attribute.Nonce, 'smuggled').fingerprint().copy())
  const seen: number[] = []
  for (let at = view.first(); at !== -1; at = view.next(at)) seen.push(view.typeAt(at))
  assert.deepEqual(seen, [
    Attribute.Username,
    Attribute.MessageIntegrity,
    Attribute.MessageIntegritySha256,
    Attribute.Fingerprint,
  ])
  assert.equal(view.text(Attribute.Realm), undefined)
  assert.deepEqual(view.unknownRequired(new Set([Attribute.Username, 8, 0x1c])), [])
  assert.ok(view.hasIntegrity(key) && view.hasIntegritySha256(key))

  // MESSAGE-INTEGRITY behind MESSAGE-INTEGRITY-SHA256 does not open the part between them again.
  builder.start(Method.Binding, MessageClass.Request, vectors.iceId).integritySha256(key)
  const reversed = opened(builder.text(Attribute.Username, 'mallory').integrity(Buffer.from('x')).copy())
  assert.equal(reversed.text(Attribute.Username), undefined)
  assert.equal(reversed.find(Attribute.MessageIntegrity), -1)
  assert.ok(reversed.hasIntegritySha256(key))
})

test('MESSAGE-INTEGRITY-SHA256 may be 16–32 bytes, and only as short as the usage allows (§14.6)', () => {
  const builder = new StunBuilder()
  for (const length of [16, 20, 24, 28, 32]) {
    const bytes = builder
      .start(Method.Binding, MessageClass.Request, vectors.iceId)
      .integritySha256(key, length)
    const view = opened(bytes.view())
    assert.equal(view.hasIntegritySha256(key), length === 32)
    assert.ok(view.hasIntegritySha256(key, 16))
    assert.ok(!view.hasIntegritySha256(Buffer.from('another'), 16))
  }
  for (const length of [0, 4, 12, 15, 18, 36]) {
    assert.throws(() => builder.integritySha256(key, length), StunUsageError)
    const forged = builder.start(Method.Binding, MessageClass.Request, vectors.iceId)
    const view = opened(forged.zeros(Attribute.MessageIntegritySha256, length).view())
    assert.ok(!view.hasIntegritySha256(key, 0))
  }
})

test('no byte of an earlier message leaves with a later one', () => {
  const builder = new StunBuilder()
  builder.start(Method.Binding, MessageClass.Request, vectors.iceId).view()
  builder.bytes(Attribute.Data, Buffer.alloc(1000, 0xee))
  builder.start(Method.Binding, MessageClass.Request, Buffer.alloc(12))
  builder
    .text(Attribute.Software, 'a')
    .uint8(Attribute.EvenPort, 0x80)
    .uint8(Attribute.RequestedTransport, 17, true)
  builder.uint16(Attribute.ChannelNumber, 0x4001).zeros(Attribute.Padding, 7)
  builder.address(Attribute.MappedAddress, { address: '192.0.2.1', port: 1 })
  builder.unknownAttributes([0x7ff0]).errorCode(420, 'x')
  builder.passwordAlgorithms(Attribute.PasswordAlgorithms, [
    { algorithm: 7, parameters: Buffer.from('abc') },
    { algorithm: 1, parameters: Buffer.alloc(0) },
  ])
  assert.ok(!builder.view().includes(0xee))
  const view = opened(builder.view())
  assert.equal(view.uint8(Attribute.EvenPort), 0x80)
  assert.equal(view.uint8(Attribute.RequestedTransport), 17)
  assert.equal(view.uint16(Attribute.ChannelNumber), 0x4001)
  assert.deepEqual(view.unknownAttributes(), [0x7ff0])
  assert.deepEqual(view.errorCode(), { code: 420, reason: 'x' })
  assert.deepEqual(
    view.passwordAlgorithms(Attribute.PasswordAlgorithms)?.map(({ algorithm }) => algorithm),
    [7, 1],
  )
})

test('of attributes that appear twice the first counts, and all can be iterated', () => {
  const builder = new StunBuilder().start(Method.CreatePermission, MessageClass.Request, vectors.iceId)
  builder.xorAddress(Attribute.XorPeerAddress, { address: '192.0.2.1', port: 1 })
  builder.xorAddress(Attribute.XorPeerAddress, { address: '2001:db8::2', port: 2 })
  const view = opened(builder.view())
  assert.deepEqual(view.xorAddress(Attribute.XorPeerAddress), { address: '192.0.2.1', port: 1 })
  const all = []
  for (let at = view.first(); at !== -1; at = view.next(at)) all.push(view.xorAddressAt(at)?.address)
  assert.deepEqual(all, ['192.0.2.1', '2001:db8::2'])
})

test('unknown comprehension-required attributes are listed once each, optional ones never', () => {
  const builder = new StunBuilder().start(Method.Binding, MessageClass.Request, vectors.iceId)
  builder.flag(0x7ff0).flag(0x7ff1).flag(0x7ff0).flag(0xfff0).text(Attribute.Username, 'a')
  assert.deepEqual(opened(builder.view()).unknownRequired(new Set([Attribute.Username])), [0x7ff0, 0x7ff1])
})

test('RFC 3489 messages are read only when asked for, and answered without the cookie', () => {
  const classic = Buffer.from('00010000aabbccddb7e7a701bc34d686fa87dfae', 'hex')
  const view = new StunView()
  assert.ok(!view.open(classic))
  assert.equal(view.bytes.length, 0)
  assert.equal(view.first(), -1)
  assert.ok(view.open(classic, true))
  assert.ok(view.isClassic)
  const answer = new StunBuilder().startResponse(view, MessageClass.Success).view()
  assert.deepEqual(Buffer.from(answer.subarray(4, 20)), classic.subarray(4, 20))
})

test('what does not fit is refused with a typed error that says what to do', () => {
  const builder = new StunBuilder(64)
  const code = { code: 'ERR_NATWORK_STUN_ENCODE' }
  assert.throws(() => builder.text(Attribute.Software, 'x'), code)
  builder.start(Method.Binding, MessageClass.Request, vectors.iceId)
  assert.throws(() => builder.bytes(Attribute.Data, Buffer.alloc(64)), code)
  assert.throws(() => builder.text(Attribute.Realm, 'ä'.repeat(128)), code)
  assert.throws(() => builder.text(Attribute.Username, 'x'.repeat(509)), code)
  assert.throws(() => builder.errorCode(299), code)
  assert.throws(() => builder.address(Attribute.AlternateServer, { address: 'example.org', port: 1 }), code)
  assert.throws(() => builder.start(0x1000, MessageClass.Request, vectors.iceId), code)
  assert.throws(() => builder.start(1, MessageClass.Request, Buffer.alloc(16)), code)
  assert.throws(() => new StunBuilder(19), code)
  // A refused attribute leaves nothing behind.
  assert.equal(builder.view().length, 20)
  assert.ok(isStun(builder.view()))
})
