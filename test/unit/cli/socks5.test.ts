import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeSocksReply, SocksHandshake, type SocksStep } from '../../../src/cli/proxy/socks5.ts'

/** Feeds `bytes` in the given pieces until the handshake is decided; collects what it answers. */
function feed(bytes: Uint8Array, cuts: readonly number[] = []) {
  const handshake = new SocksHandshake()
  const replies: number[] = []
  let step: SocksStep = { state: 'more', reply: new Uint8Array() }
  const edges = [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort(
    (a, b) => a - b,
  )
  let from = 0
  for (const [index, edge] of edges.entries()) {
    step = handshake.push(bytes.subarray(from, edge))
    replies.push(...step.reply)
    from = edge
    if (step.state === 'failed') break
    if (step.state === 'request') {
      // What is not fed any more belongs to the stream as well.
      const later = bytes.subarray(edges[index])
      return { ...step, replies, rest: Buffer.concat([step.rest, later]) }
    }
  }
  return { ...step, replies }
}

const greeting = [5, 1, 0]
const toName = (name: string, port: number, command = 1) => [
  ...[5, command, 0, 3, name.length],
  ...Buffer.from(name),
  ...[port >> 8, port & 255],
]

test('CONNECT to a name, cut anywhere, with bytes sent ahead', () => {
  const domain = fc.string({ unit: fc.constantFrom('a', 'z', '0', '.', '-'), minLength: 1, maxLength: 255 })
  const rest = fc.uint8Array({ maxLength: 50 })
  fc.assert(
    fc.property(domain, fc.nat(65535), rest, fc.array(fc.nat(400)), (host, port, ahead, cuts) => {
      const result = feed(Uint8Array.from([...greeting, ...toName(host, port), ...ahead]), cuts)
      assert.equal(result.state, 'request')
      assert.deepEqual(
        { host: 'host' in result && result.host, port: 'port' in result && result.port },
        { host, port },
      )
      assert.deepEqual(result.replies, [5, 0])
      assert.deepEqual(Buffer.from((result as { rest: Uint8Array }).rest), Buffer.from(ahead))
    }),
  )
})

test('CONNECT to addresses', () => {
  const v4 = feed(Uint8Array.from([...greeting, 5, 1, 0, 1, 192, 0, 2, 1, 0, 80]))
  assert.ok(v4.state === 'request' && v4.host === '192.0.2.1' && v4.port === 80)
  const address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
  const v6 = feed(Uint8Array.from([...greeting, 5, 1, 0, 4, ...address, 1, 0]))
  assert.ok(v6.state === 'request' && v6.host === '2001:db8:0:0:0:0:0:1' && v6.port === 256)
})

test('what we do not do is answered as RFC 1928 says', () => {
  assert.deepEqual(feed(Uint8Array.of(5, 1, 2)), {
    state: 'failed',
    reply: Uint8Array.of(5, 255),
    why: 'the client insists on a password',
    replies: [5, 255],
  })
  const reply = (bytes: number[]) => feed(Uint8Array.from(bytes)).replies.slice(0, 4)
  assert.deepEqual(reply([...greeting, ...toName('x', 1, 2)]), [5, 0, 5, 7], 'BIND')
  assert.deepEqual(reply([...greeting, ...toName('x', 1, 3)]), [5, 0, 5, 7], 'UDP ASSOCIATE')
  assert.deepEqual(reply([...greeting, 5, 1, 0, 9, 1]), [5, 0, 5, 8])
  assert.match((feed(Uint8Array.of(4, 1, 0, 80)) as { why: string }).why, /version 4/)
})

test('no bytes make it throw, and it never keeps more than a request', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 700 }), fc.array(fc.nat(700)), (bytes, cuts) => {
      const { state } = feed(bytes, cuts)
      // 2 + 255 methods, 5 + 255 + 2 of a request: then it is decided.
      if (bytes.length >= 519) assert.notEqual(state, 'more')
    }),
    { numRuns: 2_000 },
  )
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 600, maxLength: 600 }), (noise) => {
      const { state } = feed(Uint8Array.from([...greeting, ...noise]))
      assert.notEqual(state, 'more')
    }),
  )
})

test('replies carry their code', () => {
  assert.deepEqual([...encodeSocksReply('succeeded')], [5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
  assert.equal(encodeSocksReply('connectionRefused')[1], 5)
})
