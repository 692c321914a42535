import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { MessageClass, Method, StunBuilder } from '../../../src/stun/codec/index.ts'
import {
  channelDataEnd,
  channelOf,
  mayBeChannelData,
  TurnFramer,
  writeChannelData,
  type TurnFramerOptions,
} from '../../../src/turn/protocol/index.ts'

function collect(options: Partial<TurnFramerOptions> = {}): { framer: TurnFramer; got: Buffer[] } {
  const got: Buffer[] = []
  const framer = new TurnFramer({
    ...options,
    onMessage: (message) => {
      got.push(Buffer.from(message))
    },
  })
  return { framer, got }
}

const stun = (): Buffer =>
  Buffer.from(
    new StunBuilder()
      .start(Method.Allocate, MessageClass.Request, new Uint8Array(12).fill(7))
      .text(6, 'user')
      .copy(),
  )

function channelData(channel: number, payload: Uint8Array): Buffer {
  const into = Buffer.alloc(payload.length + 8, 0xee)
  return into.subarray(0, writeChannelData(into, channel, payload, true))
}

test('ChannelData on a stream is padded with zeros, in a datagram not at all', () => {
  const into = new Uint8Array(12).fill(0xff)
  assert.equal(writeChannelData(into, 0x4001, Uint8Array.of(1, 2, 3), true), 8)
  assert.deepEqual([...into.subarray(0, 8)], [0x40, 1, 0, 3, 1, 2, 3, 0])
  assert.equal(writeChannelData(into, 0x4001, Uint8Array.of(1), false), 5)
  assert.ok(mayBeChannelData(into))
  assert.equal(channelOf(into), 0x4001)
  assert.equal(channelDataEnd(into.subarray(0, 5)), 5)
  assert.equal(channelDataEnd(Uint8Array.of(0x40, 0, 0, 9, 1)), -1, 'a length that lies')
})

test('however a stream is cut, the framer gives the same messages', () => {
  const message = fc.oneof(
    fc.constant(stun()),
    fc
      .tuple(fc.integer({ min: 0x4000, max: 0x4fff }), fc.uint8Array({ maxLength: 40 }))
      .map(([channel, payload]) => channelData(channel, payload)),
  )
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 30 })),
      (all, cuts) => {
        const { framer, got } = collect()
        const stream = Buffer.concat(all)
        let at = 0
        for (const cut of [...cuts, stream.length]) {
          const chunk = stream.subarray(at, at + cut)
          assert.equal(framer.push(chunk), chunk.length)
          at += chunk.length
        }
        assert.deepEqual(
          got,
          all.map((one) => (mayBeChannelData(one) ? one.subarray(0, channelDataEnd(one)) : one)),
        )
        assert.equal(framer.buffered, 0)
      },
    ),
  )
})

test('what is no TURN ends the stream at its first bytes', () => {
  assert.equal(collect().framer.push(Buffer.from('SSH-2.0-OpenSSH')), -1)
  assert.equal(collect().framer.push(Buffer.from([0x80])), -1)
  assert.equal(collect().framer.push(Buffer.from([0x50, 0, 0, 0])), -1, 'an old channel number')
  assert.equal(collect({ oldChannels: true }).framer.push(Buffer.from([0x50, 0, 0, 0])), 4)
  assert.equal(collect({ maxMessage: 100 }).framer.push(Buffer.from([0x40, 0, 0, 97])), -1)
  const cut = collect().framer
  assert.equal(cut.push(stun().subarray(0, 5)), 5)
  assert.equal(cut.push(Buffer.from([0, 0, 0])), -1, 'no magic cookie')
})

test('a framer that is stopped leaves the rest of the stream to others', () => {
  const framer: TurnFramer = new TurnFramer({
    onMessage: () => {
      framer.stop()
    },
  })
  const message = stun()
  assert.equal(framer.push(message.subarray(0, 10)), 10)
  assert.equal(
    framer.push(Buffer.concat([message.subarray(10), Buffer.from('raw data')])),
    message.length - 10,
  )
})
