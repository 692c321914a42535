import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import { handshake } from '../../../src/network/handshake.ts'
import type { SecureStream } from '../../../src/network/secure-stream.ts'
import { duplexPair, readAll } from './duplex-pair.ts'
import { alice, bob, securePair } from './secure-pair.ts'

const text = async (stream: SecureStream): Promise<string> => (await readAll(stream)).toString()

const closed = async (...streams: SecureStream[]): Promise<void> => {
  await Promise.all(streams.map(async (stream) => stream.closed || (await once(stream, 'close'))))
}

test('both sides learn the id that the other proved', async () => {
  const { a, b } = await securePair()
  assert.equal(a.peer, bob.id)
  assert.equal(b.peer, alice.id)
  a.end()
  b.end()
  a.resume()
  b.resume()
  await closed(a, b)
})

test('the dialler may end first and still read', async () => {
  const { a, b } = await securePair()
  a.end('question')
  assert.equal(await text(b), 'question')
  b.end('answer')
  assert.equal(await text(a), 'answer')
  await closed(a, b)
})

test('the listener may end first and still read', async () => {
  const { a, b, rawA, rawB } = await securePair()
  b.end('greeting')
  assert.equal(await text(a), 'greeting')
  a.write('one ')
  await new Promise((resolve) => setImmediate(resolve))
  a.end('two')
  assert.equal(await text(b), 'one two')
  await closed(a, b)
  await Promise.all([rawA, rawB].map(async (raw) => raw.closed || (await once(raw, 'close'))))
  assert.equal(rawA.errored, null)
  assert.equal(rawB.errored, null)
})

test('megabytes after the peer has ended arrive whole, both roles', async () => {
  const { a, b } = await securePair()
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const bytes = randomBytes(3_000_001)
    const hash = createHash('sha256')
    const done = new Promise((resolve) =>
      to.on('data', (chunk) => hash.update(chunk as Buffer)).on('end', resolve),
    )
    from.end(bytes)
    await done
    assert.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'))
  }
  await closed(a, b)
})

test('a slow reader stops the writer', async () => {
  const { a, b, rawA } = await securePair()
  b.pause()
  let accepted = 0
  const chunk = randomBytes(65_536)
  // Until nothing moves any more: the write callbacks stop coming.
  for (let quiet = 0; quiet < 50;) {
    const before = rawA.written
    while (a.write(chunk)) accepted += chunk.length
    await new Promise((resolve) => setImmediate(resolve))
    quiet = rawA.written === before ? quiet + 1 : 0
  }
  assert.ok(accepted < 1_000_000, `${accepted} bytes were accepted`)
  a.end()
  const received = await readAll(b)
  assert.ok(received.length >= accepted)
  b.end()
  a.resume()
  await closed(a, b)
})

test('a write is done when the transport has taken it: its memory may be used again', async () => {
  const { a, b } = await securePair()
  const hash = createHash('sha256')
  const chunks = Array.from({ length: 40 }, (_, i) => randomBytes(1_000 + i * 3_001))
  const received = readAll(b)
  for (const chunk of chunks) {
    hash.update(chunk)
    a.write(chunk, () => chunk.fill(0))
  }
  a.end()
  assert.equal(
    createHash('sha256')
      .update(await received)
      .digest('hex'),
    hash.digest('hex'),
  )
  b.end()
  a.resume()
  await closed(a, b)
})

test('a write that the transport does not take is not done', async () => {
  const { a, b, rawA } = await securePair()
  b.pause()
  let done = 0
  let taken = 0
  for (let quiet = 0; quiet < 50;) {
    const before = rawA.written
    if (taken < 2_000_000) a.write(randomBytes(10_000), (error) => error ?? (done += 10_000))
    taken += 10_000
    await new Promise((resolve) => setImmediate(resolve))
    quiet = rawA.written === before ? quiet + 1 : 0
  }
  assert.ok(done <= rawA.written, `${done} bytes done, ${rawA.written} taken`)
  a.end()
  assert.ok((await readAll(b)).length >= done)
  b.end()
  a.resume()
  await closed(a, b)
})

test('what a slow reader has not read yet survives the close of the stream below', async () => {
  const { a, b, rawB } = await securePair()
  b.end()
  a.resume()
  a.end(randomBytes(10_000))
  await once(a, 'close')
  while (!rawB.closed) await new Promise((resolve) => setImmediate(resolve))
  assert.equal((await readAll(b)).length, 10_000)
})

test('destroying one side is a reset at the other', async () => {
  const { a, b } = await securePair()
  a.write('half a ')
  a.destroy()
  await assert.rejects(text(b), { code: 'ERR_NATWORK_RESET', name: 'PeerError' })
})

test('a cut transport is no end', async () => {
  const { a, b, rawA } = await securePair()
  a.write('half a message')
  await once(b, 'readable')
  rawA.end()
  await assert.rejects(text(b), { code: 'ERR_NATWORK_TRUNCATED' })
  a.destroy()
})

test('altered bytes end the stream with an error', async () => {
  const { a, b, rawB } = await securePair()
  a.on('error', () => undefined)
  rawB.push(Buffer.from('1703030015000102030405060708090a0b0c0d0e0f1011121314', 'hex'))
  await assert.rejects(text(b), { code: 'ERR_NATWORK_RESET' })
})

test('a handshake that hangs times out, and one that is aborted gives the reason', async () => {
  const [raw, far] = duplexPair()
  far.on('error', () => undefined)
  await assert.rejects(handshake(raw, 'client', alice, { timeout: 20 }), { code: 'ERR_NATWORK_TIMEOUT' })
  assert.ok(raw.destroyed)
  const [another, faraway] = duplexPair()
  faraway.on('error', () => undefined)
  const reason = new Error('not now')
  const given = handshake(another, 'server', alice, { timeout: 10_000, signal: AbortSignal.abort(reason) })
  await assert.rejects(given, reason)
  assert.ok(another.destroyed)
})

test('bytes that are no TLS fail the handshake', async () => {
  const [raw, other] = duplexPair()
  const failed = assert.rejects(handshake(raw, 'server', alice, { timeout: 10_000 }), {
    code: 'ERR_NATWORK_HANDSHAKE',
  })
  other.on('error', () => undefined)
  other.end('GET / HTTP/1.1\r\n\r\n')
  await failed
})
