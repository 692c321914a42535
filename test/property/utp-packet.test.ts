import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  CAPABILITIES_SIZE,
  EXTENSION_BITS,
  EXTENSION_SELECTIVE_ACK,
  HEADER_SIZE,
  Packet,
  canPad,
  parsePacket,
  ST_DATA,
  ST_SYN,
  stamp,
  writeCapabilities,
  writeHeader,
  writePadding,
} from '../../src/utp/packet.ts'
import { DelayHistory } from '../../src/utp/congestion/delay-history.ts'
import { ReceiveBudget } from '../../src/utp/receive-window.ts'
import { Receiver } from '../../src/utp/receiver.ts'
import { sequenceDistance } from '../../src/utp/sequence.ts'
import { Scratch } from '../../src/utp/scratch.ts'

const uint16 = fc.integer({ min: 0, max: 0xffff })
const uint32 = fc.integer({ min: 0, max: 0xffffffff })
const STUN_MAGIC_COOKIE = 0x2112a442

test('a header reads back as it was written', () => {
  fc.assert(
    fc.property(
      fc.record({
        type: fc.integer({ min: 0, max: ST_SYN }),
        connectionId: uint16,
        sequence: uint16,
        ack: uint16,
        timestamp: uint32,
        timestampDifference: uint32,
        window: uint32,
      }),
      fc.uint8Array({ maxLength: 100 }),
      (fields, payload) => {
        const bytes = new Uint8Array(HEADER_SIZE + payload.length)
        writeHeader(bytes, fields.type, 0, fields.connectionId, fields.sequence)
        stamp(bytes, fields.timestamp, fields.timestampDifference, fields.window, fields.ack)
        bytes.set(payload, HEADER_SIZE)
        const packet = new Packet()
        assert.ok(parsePacket(bytes, packet))
        for (const [name, value] of Object.entries(fields)) {
          if (name === 'timestamp' && value === STUN_MAGIC_COOKIE) continue
          assert.equal(packet[name as keyof Packet], value, name)
        }
        assert.equal(packet.payloadAt, HEADER_SIZE)
      },
    ),
  )
})

test("no packet ever carries STUN's magic cookie as its timestamp", () => {
  for (const wrap of [0, 2 ** 32, 2 ** 45]) {
    for (const around of [-1, 0, 1]) {
      const bytes = new Uint8Array(HEADER_SIZE)
      writeHeader(bytes, 0, 0, 1, 1)
      stamp(bytes, wrap + STUN_MAGIC_COOKIE + around, 0, 0, 0)
      const written = Buffer.from(bytes).readUInt32BE(4)
      assert.equal(written, around === 0 ? STUN_MAGIC_COOKIE + 1 : STUN_MAGIC_COOKIE + around)
      assert.ok(parsePacket(bytes, new Packet()))
    }
  }
  const stun = Buffer.alloc(28)
  stun.writeUInt16BE(0x0101, 0)
  stun.writeUInt32BE(STUN_MAGIC_COOKIE, 4)
  assert.equal(parsePacket(stun, new Packet()), false)
})

test('whatever the bytes are, parsing says yes or no and stays inside them', () => {
  const packet = new Packet()
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, likely) => {
      if (likely && bytes.length > 1) {
        bytes[0] = ((bytes[0]! % 5) << 4) | 1
        bytes[1] = bytes[1]! % 3
      }
      if (!parsePacket(bytes, packet)) return
      assert.ok(packet.payloadAt >= HEADER_SIZE && packet.payloadAt <= bytes.length)
      assert.ok(packet.sackAt + packet.sackLength <= bytes.length)
      assert.equal(packet.sackLength % 4, 0)
    }),
    { numRuns: 20_000 },
  )
})

test('malformed headers are rejected, each for its reason', () => {
  const good = (): Uint8Array => {
    const bytes = new Uint8Array(HEADER_SIZE + 6)
    writeHeader(bytes, 2, EXTENSION_SELECTIVE_ACK, 1, 1)
    bytes[HEADER_SIZE + 1] = 4
    return bytes
  }
  const packet = new Packet()
  assert.ok(parsePacket(good(), packet))
  const spoilt: [string, (bytes: Uint8Array) => Uint8Array | undefined][] = [
    ['too short', (bytes) => bytes.subarray(0, HEADER_SIZE - 1)],
    ['empty', (bytes) => bytes.subarray(0, 0)],
    ['version 0', (bytes) => void (bytes[0] = 0x20)],
    ['version 2', (bytes) => void (bytes[0] = 0x22)],
    ['type 5', (bytes) => void (bytes[0] = 0x51)],
    ['type 15', (bytes) => void (bytes[0] = 0xf1)],
    ['an extension without its length', (bytes) => bytes.subarray(0, HEADER_SIZE + 1)],
    ['an extension longer than the datagram', (bytes) => void (bytes[HEADER_SIZE + 1] = 5)],
    ['an extension that is cut', (bytes) => bytes.subarray(0, HEADER_SIZE + 5)],
    ['a chain that goes on past the end', (bytes) => void (bytes[HEADER_SIZE] = 9)],
    ['a selective ack of 0 bytes', (bytes) => void (bytes[HEADER_SIZE + 1] = 0)],
    ['a selective ack of 3 bytes', (bytes) => void (bytes[HEADER_SIZE + 1] = 3)],
  ]
  for (const [why, spoil] of spoilt) {
    const bytes = good()
    assert.equal(parsePacket(spoil(bytes) ?? bytes, packet), false, why)
  }
})

test('unknown extensions are skipped, and what follows them is found', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 3, max: 255 }), fc.uint8Array({ maxLength: 255 })), {
        maxLength: 5,
      }),
      fc.uint8Array({ maxLength: 50 }),
      (unknown, payload) => {
        const blocks = [...unknown, [EXTENSION_SELECTIVE_ACK, Uint8Array.of(1, 2, 3, 4)] as const]
        const parts: Uint8Array[] = blocks.map(([, body], i) =>
          Buffer.concat([Uint8Array.of(blocks[i + 1]?.[0] ?? 0, body.length), body]),
        )
        const header = new Uint8Array(HEADER_SIZE)
        writeHeader(header, 0, blocks[0]![0], 7, 7)
        const bytes = Buffer.concat([header, ...parts, payload])
        const packet = new Packet()
        assert.ok(parsePacket(bytes, packet))
        assert.deepEqual([...bytes.subarray(packet.sackAt, packet.sackAt + packet.sackLength)], [1, 2, 3, 4])
        assert.deepEqual(bytes.subarray(packet.payloadAt), Buffer.from(payload))
      },
    ),
  )
})

test('padding of every possible size is skipped as a whole', () => {
  const packet = new Packet()
  for (let size = 0; size <= 3_000; size++) {
    if (!canPad(size)) {
      assert.ok(size < 10 || size === 11, `${size} bytes cannot be padded`)
      continue
    }
    const bytes = new Uint8Array(HEADER_SIZE + size + 3).fill(0xee)
    writeHeader(bytes, 0, EXTENSION_BITS, 1, 1)
    writePadding(bytes, size)
    stamp(bytes, 1, 0, 0, 0)
    assert.ok(parsePacket(bytes, packet), `${size}`)
    assert.equal(packet.payloadAt, HEADER_SIZE + size)
    assert.equal(packet.reorderLimit, 0)
  }
})

test('what a SYN says about its receiver is read back', () => {
  const bytes = new Uint8Array(HEADER_SIZE + CAPABILITIES_SIZE)
  writeHeader(bytes, ST_SYN, EXTENSION_BITS, 1, 1)
  writeCapabilities(bytes, HEADER_SIZE, 16_384)
  const packet = new Packet()
  assert.ok(parsePacket(bytes, packet))
  assert.equal(packet.reorderLimit, 16_384)
})

test('a selective ack tells exactly which packets wait for a gap, across the wrap', () => {
  const ahead = fc.integer({ min: 2, max: 2_017 })
  fc.assert(
    fc.property(uint16, fc.uniqueArray(ahead, { minLength: 1, maxLength: 60 }), (ack, distances) => {
      assert.deepEqual(told(ack, distances, false), sorted(distances))
    }),
    // Packets that would share a slot of a smaller buffer.
    { examples: [[0, [121, 377]]] },
  )
})

test('to our own kind it tells also what lies beyond a mask: the furthest packets and the newest', () => {
  const ahead = fc.integer({ min: 2, max: 24_000 })
  fc.assert(
    fc.property(uint16, fc.uniqueArray(ahead, { minLength: 1, maxLength: 60 }), (ack, distances) => {
      const furthest = Math.max(...distances)
      const seen = told(ack, distances, true)
      for (const distance of seen) assert.ok(distances.includes(distance))
      const must = distances.filter((one) => one < 2_018 || one > furthest - 2_016)
      for (const distance of [...must, distances.at(-1)!]) assert.ok(seen.includes(distance), `${distance}`)
    }),
  )
})

/** The distances from the ack that the acknowledgement tells of, the last packet having come since the one before. */
function told(ack: number, distances: readonly number[], far: boolean): number[] {
  const receiver = new Receiver(ack, 1_000_000, new ReceiveBudget(1e9, Infinity))
  const scratch = new Scratch()
  const packet = new Packet()
  distances.forEach((distance, i) => {
    if (i === distances.length - 1) receiver.ackPacket(scratch, 1, 1, true)
    const bytes = new Uint8Array(HEADER_SIZE + 2)
    writeHeader(bytes, ST_DATA, 0, 1, (ack + distance) & 0xffff)
    assert.ok(parsePacket(bytes, packet))
    receiver.handle(packet, bytes)
  })
  const bytes = receiver.ackPacket(scratch, 1, 1, far)
  assert.ok(parsePacket(bytes, packet))
  assert.ok(packet.sackLength % 4 === 0 && packet.sackLength <= 252)
  const found = bitsOf(bytes, 2, packet.sackAt, packet.sackLength)
  for (let i = 0; i < packet.farMasks; i++) {
    found.push(...bitsOf(bytes, packet.farDistance[i]!, packet.farAt[i]!, packet.farLength[i]!))
  }
  return sorted([...new Set(found)])
}

function bitsOf(bytes: Uint8Array, distance: number, at: number, length: number): number[] {
  const found: number[] = []
  for (let i = 0; i < length * 8; i++)
    if (((bytes[at + (i >> 3)]! >> (i & 7)) & 1) === 1) found.push(distance + i)
  return found
}

const sorted = (values: readonly number[]): number[] => values.toSorted((a, b) => a - b)

test('sequence numbers compare across the wrap', () => {
  fc.assert(
    fc.property(uint16, fc.integer({ min: -32_768, max: 32_767 }), (a, step) => {
      assert.equal(sequenceDistance((a + step) & 0xffff, a), step)
    }),
  )
})

test('queuing delay is measured above the base, wherever the 32-bit clock offset puts it', () => {
  fc.assert(
    fc.property(
      uint32,
      fc.array(fc.integer({ min: 0, max: 900_000 }), { minLength: 4, maxLength: 50 }),
      (offset, queue) => {
        const history = new DelayHistory()
        const lowest = Math.min(...queue)
        queue.forEach((delay, i) => history.add(i * 1_000, (offset + delay) >>> 0))
        assert.equal(history.base, (offset + lowest) >>> 0)
        assert.equal(history.queuing, Math.min(...queue.slice(-3)) - lowest)
      },
    ),
  )
})
