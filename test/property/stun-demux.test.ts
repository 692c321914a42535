import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { StunBuilder } from '../../src/stun/codec/builder.ts'
import { MessageClass } from '../../src/stun/codec/registry.ts'
import { isStun } from '../../src/stun/codec/view.ts'
import { channelOf, looksLikeUtp, mayBeChannelData } from '../../src/turn/protocol/index.ts'
import { Packet, parsePacket, stamp, writeHeader } from '../../src/utp/packet.ts'

// One UDP port carries uTP, STUN and TURN ChannelData. What one of them writes, the others must not take.

const bytes = (minLength: number, maxLength: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength })
const uint = (bits: number): fc.Arbitrary<number> => fc.nat({ max: 2 ** bits - 1 })
const isUtp = (datagram: Uint8Array): boolean => parsePacket(datagram, new Packet())

const stun = fc
  .record({
    method: uint(12),
    messageClass: fc.constantFrom(...Object.values(MessageClass)),
    id: bytes(12, 12),
    attributes: fc.array(fc.tuple(uint(16), bytes(0, 60)), { maxLength: 8 }),
    fingerprint: fc.boolean(),
  })
  .map(({ method, messageClass, id, attributes, fingerprint }) => {
    const builder = new StunBuilder().start(method, messageClass, id)
    for (const [type, value] of attributes) if (type !== 0x8028) builder.bytes(type, value)
    return fingerprint ? builder.fingerprint().copy() : builder.copy()
  })

/** As our encoder writes them, with a payload that begins as STUN's attributes might. */
const utp = fc
  .record({
    type: fc.nat({ max: 4 }),
    connectionId: uint(16),
    // The worst time of all among the random ones.
    timestamp: fc.oneof(uint(32), fc.constant(0x2112a442)),
    difference: uint(32),
    window: uint(32),
    sequence: uint(16),
    ack: uint(16),
    payload: bytes(0, 100),
  })
  .map((fields) => {
    const datagram = new Uint8Array(20 + fields.payload.length)
    writeHeader(datagram, fields.type, 0, fields.connectionId, fields.sequence)
    stamp(datagram, fields.timestamp, fields.difference, fields.window, fields.ack)
    datagram.set(fields.payload, 20)
    return datagram
  })

const channelData = fc
  .record({ channel: fc.integer({ min: 0x4000, max: 0x4fff }), data: bytes(0, 200) })
  .map(({ channel, data }) => {
    const datagram = Buffer.alloc(4 + data.length)
    datagram.writeUInt16BE(channel, 0)
    datagram.writeUInt16BE(data.length, 2)
    datagram.set(data, 4)
    return datagram
  })

test('random STUN is never taken as uTP', () => {
  fc.assert(
    fc.property(stun, (datagram) => {
      assert.ok(isStun(datagram))
      assert.ok(!isUtp(datagram))
    }),
    { numRuns: 5000 },
  )
})

test('random uTP is never taken as STUN', () => {
  fc.assert(
    fc.property(utp, (datagram) => {
      assert.ok(isUtp(datagram))
      assert.ok(!isStun(datagram))
    }),
    { numRuns: 5000 },
  )
})

test('a uTP connection id that is a STUN length, and a STUN type that is a uTP one, change nothing', () => {
  for (let size = 20; size < 200; size++) {
    for (let type = 0; type <= 4; type++) {
      const datagram = new Uint8Array(size)
      writeHeader(datagram, type, 0, size - 20, 1)
      stamp(datagram, 0x2112a442, 0, 0, 0)
      assert.ok(!isStun(datagram))
    }
  }
})

test('TURN ChannelData is never taken as STUN, nor as uTP unless its number is one that nobody binds here', () => {
  fc.assert(
    fc.property(channelData, (datagram) => {
      assert.ok(!isStun(datagram))
      assert.ok(!isUtp(datagram) || looksLikeUtp(channelOf(datagram)))
    }),
    { numRuns: 5000 },
  )
})

test('uTP is never taken as ChannelData, but for a SYN, which no bound number begins like', () => {
  fc.assert(
    fc.property(utp, (datagram) => {
      assert.ok(!mayBeChannelData(datagram) || looksLikeUtp(channelOf(datagram)))
    }),
    { numRuns: 5000 },
  )
})

test('no datagram at all is both', () => {
  const nearly = fc
    .record({
      first: uint(16),
      length: uint(16),
      cookie: fc.boolean(),
      rest: bytes(16, 60),
      honest: fc.boolean(),
    })
    .map(({ first, length, cookie, rest, honest }) => {
      const datagram = Buffer.alloc(4 + rest.length)
      datagram.writeUInt16BE(first, 0)
      datagram.writeUInt16BE(honest ? rest.length - 16 : length, 2)
      datagram.set(rest, 4)
      if (cookie) datagram.writeUInt32BE(0x2112a442, 4)
      return datagram
    })
  fc.assert(
    fc.property(fc.oneof(nearly, bytes(0, 100)), (datagram) => {
      assert.ok(!(isStun(datagram) && isUtp(datagram)))
    }),
    { numRuns: 10_000 },
  )
})
