import assert from 'node:assert/strict'
import { SocketAddress, isIPv4 } from 'node:net'
import test from 'node:test'
import fc from 'fast-check'
import { StunBuilder } from '../../src/stun/codec/builder.ts'
import { crc32 } from '../../src/stun/codec/crc32.ts'
import { readIpv4, readIpv6, writeIp } from '../../src/core/ip.ts'
import { Attribute, MessageClass } from '../../src/stun/codec/registry.ts'
import { StunView, isStun } from '../../src/stun/codec/view.ts'

const bytes = (minLength: number, maxLength = minLength): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength })

/** Mostly small values, so that runs of zero groups happen. */
const ipv6Bytes = fc
  .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])))

const port = fc.integer({ min: 0, max: 0xffff })
const address = fc.oneof(
  fc.record({ address: bytes(4).map((ip) => readIpv4(ip, 0)), port }, { noNullPrototype: true }),
  fc.record({ address: ipv6Bytes.map((ip) => readIpv6(ip, 0)), port }, { noNullPrototype: true }),
)
const header = fc.record({
  method: fc.integer({ min: 0, max: 0xfff }),
  messageClass: fc.constantFrom(...Object.values(MessageClass)),
  id: bytes(12),
})

test('IP addresses are written and read as the operating system prints them', () => {
  fc.assert(
    fc.property(fc.oneof(bytes(4), ipv6Bytes), (ip) => {
      const text = ip.length === 4 ? readIpv4(ip, 0) : readIpv6(ip, 0)
      const family = isIPv4(text) ? 'ipv4' : 'ipv6'
      assert.equal(text, new SocketAddress({ address: text, family }).address)
      const again = new Uint8Array(ip.length)
      assert.equal(writeIp(text, again, 0), ip.length)
      assert.deepEqual(again, ip)
    }),
    { numRuns: 2000 },
  )
})

test('what is no IP address is not written', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '1..2.3',
    'a.b.c.d',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
  ]) {
    assert.equal(writeIp(text, new Uint8Array(16), 0), 0, text)
  }
  for (const text of ['1:2:3:4:5:6:7:8:9', '12345::', 'g::', '::1.2.3', '1:2:3:4:5:6:7::8', '::1.2.3.4:1']) {
    assert.equal(writeIp(text, new Uint8Array(40), 0), 0, text)
  }
})

test('every kind of attribute comes back as it was written, and is STUN to the demultiplexer', () => {
  const attribute = fc.oneof(
    fc.record({ kind: fc.constant('bytes' as const), value: bytes(0, 80) }),
    fc.record({ kind: fc.constant('text' as const), value: fc.string({ unit: 'grapheme', maxLength: 30 }) }),
    fc.record({ kind: fc.constant('uint32' as const), value: fc.nat(0xffffffff) }),
    fc.record({ kind: fc.constant('uint16' as const), value: port }),
    fc.record({ kind: fc.constant('uint8' as const), value: fc.nat(255) }),
    fc.record({ kind: fc.constant('address' as const), value: address }),
    fc.record({ kind: fc.constant('xorAddress' as const), value: address }),
  )
  const builder = new StunBuilder(2000)
  fc.assert(
    fc.property(
      header,
      fc.array(attribute, { maxLength: 12 }),
      fc.constantFrom('none', 'sha1', 'sha256', 'both'),
      bytes(1, 64),
      fc.boolean(),
      ({ method, messageClass, id }, attributes, integrity, key, fingerprint) => {
        builder.start(method, messageClass, id)
        // Numbers of no meaning, one per position, so that each is its own first.
        attributes.forEach(({ kind, value }, n) => {
          const write = builder[kind].bind(builder) as (type: number, value: unknown) => unknown
          write(0xc100 + n, value)
        })
        if (integrity === 'sha1' || integrity === 'both') builder.integrity(key)
        if (integrity === 'sha256' || integrity === 'both') builder.integritySha256(key)
        if (fingerprint) builder.fingerprint()
        const message = builder.copy()

        const view = new StunView()
        assert.ok(view.open(message) && isStun(message))
        assert.equal(view.method, method)
        assert.equal(view.messageClass, messageClass)
        assert.deepEqual(Uint8Array.from(view.transactionId), id)
        assert.equal(view.hasFingerprint, fingerprint)
        assert.equal(view.hasIntegrity(key), integrity === 'sha1' || integrity === 'both')
        assert.equal(view.hasIntegritySha256(key), integrity === 'sha256' || integrity === 'both')
        attributes.forEach(({ kind, value }, n) => {
          const got = kind === 'bytes' ? view.value(0xc100 + n) : view[kind](0xc100 + n)
          assert.deepEqual(kind === 'bytes' ? Uint8Array.from(got as Uint8Array) : got, value)
        })
      },
    ),
    { numRuns: 500 },
  )
})

test('one changed bit breaks the fingerprint and the integrity', () => {
  const key = Buffer.from('key')
  fc.assert(
    fc.property(header, address, fc.nat(), ({ method, messageClass, id }, mapped, flip) => {
      const builder = new StunBuilder().start(method, messageClass, id)
      builder.xorAddress(Attribute.XorMappedAddress, mapped).integrity(key)
      const signed = builder.copy()
      const whole = builder.fingerprint().copy()
      whole[(flip >> 3) % whole.length]! ^= 1 << (flip & 7)
      // A changed type or length can hide the attribute itself; but no message has a fingerprint that is wrong.
      const view = new StunView()
      assert.ok(!view.open(whole) || !view.hasFingerprint)
      signed[(flip >> 3) % signed.length]! ^= 1 << (flip & 7)
      assert.ok(!view.open(signed) || !view.hasIntegrity(key))
    }),
    { numRuns: 500 },
  )
})

test('CRC-32 of any length is the one defined bit by bit', () => {
  fc.assert(
    fc.property(bytes(0, 70), (message) => {
      let crc = 0xffffffff
      for (const byte of message) {
        crc ^= byte
        for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
      }
      assert.equal(crc32(message, message.length), ~crc >>> 0)
    }),
  )
  assert.equal(crc32(Buffer.from('123456789'), 9), 0xcbf43926)
})
