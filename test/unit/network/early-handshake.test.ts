// TLS whose first flights come by another way than the rest.
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import { EarlyHandshake } from '../../../src/network/early-handshake.ts'
import { createIdentity, generatePrivateKey, type Identity } from '../../../src/network/identity.ts'
import { readGreeting, writeGreeting } from '../../../src/network/protocol.ts'
import type { SecureStream } from '../../../src/network/secure-stream.ts'
import { duplexPair, readAll, type End } from './duplex-pair.ts'

const name = '00112233445566778899aabbccddeeff'
const options = { timeout: 10_000 }

interface Begun {
  readonly client: EarlyHandshake
  readonly server: EarlyHandshake
  readonly identities: readonly [Identity, Identity]
}

async function begin(t: TestContext): Promise<Begun> {
  const identities = [
    await createIdentity(generatePrivateKey()),
    await createIdentity(generatePrivateKey()),
  ] as const
  const client = new EarlyHandshake('client', identities[0], options)
  const server = new EarlyHandshake('server', identities[1], options)
  t.after(() => {
    client.destroy()
    server.destroy()
  })
  assert.deepEqual([client.isReady, server.isReady], [false, false])
  server.receive(await client.flight())
  client.receive(await server.flight())
  assert.deepEqual([client.isReady, server.isReady], [true, true])
  return { client, server, identities }
}

async function connect({ client, server }: Begun): Promise<[SecureStream, SecureStream, End, End]> {
  const [near, far] = duplexPair()
  const ours = await client.complete(near, writeGreeting(name))
  // What is asked first leaves together with the end of the handshake.
  assert.equal(near.written, 0)
  ours.write('question')
  assert.equal(await readGreeting(far), name)
  const theirs = await server.complete(far)
  return [ours, theirs, near, far]
}

test('both are who they say, and the first words came with the handshake', async (t) => {
  const begun = await begin(t)
  const [ours, theirs, near] = await connect(begun)
  assert.deepEqual([ours.peer, theirs.peer], [begun.identities[1].id, begun.identities[0].id])
  assert.ok(near.written < 1_170, `${near.written} bytes with the SYN`)
  theirs.end('answer')
  ours.end()
  assert.deepEqual([String(await readAll(ours)), String(await readAll(theirs))], ['answer', 'question'])
})

test('as much as one likes both ways, whoever reads slowly, and each end by itself', async (t) => {
  const [ours, theirs] = await connect(await begin(t))
  const sent = Buffer.alloc(3_000_000, 'natwork ')
  ours.end(sent)
  theirs.end(sent)
  // Nobody reads for a while.
  for (let i = 0; i < 50; i++) await new Promise(setImmediate)
  const [there, back] = await Promise.all([readAll(theirs), readAll(ours)])
  assert.equal(Buffer.compare(there.subarray('question'.length), sent), 0)
  assert.equal(Buffer.compare(back, sent), 0)
})

test('destroying one end is an error at the other', async (t) => {
  const [ours, theirs, near, far] = await connect(await begin(t))
  ours.on('error', () => undefined)
  const failed = new Promise<Error & { code?: string }>((resolve) => theirs.once('error', resolve))
  ours.destroy()
  assert.equal((await failed).code, 'ERR_NATWORK_RESET')
  assert.deepEqual([near.destroyed, far.destroyed], [true, true])
})

test('a flight that is none, or another’s: the handshake is over, and whatever it is asked to go on by with it', async (t) => {
  const { client, server, identities } = await begin(t)
  for (const nonsense of [Buffer.alloc(500, 1), Buffer.from('GET / HTTP/1.1\r\n\r\n')]) {
    const deaf = new EarlyHandshake('server', identities[1], options)
    deaf.receive(nonsense)
    await assert.rejects(deaf.flight(), { code: 'ERR_NATWORK_HANDSHAKE' })
    assert.equal(deaf.isReady, false)
    const [, far] = duplexPair()
    await assert.rejects(deaf.complete(far), { code: 'ERR_NATWORK_HANDSHAKE' })
  }
  // What comes by the path is not what was begun.
  const [near, far] = duplexPair()
  near.on('error', () => undefined)
  far.on('error', () => undefined)
  near.write(Buffer.alloc(100, 23))
  await assert.rejects(server.complete(far), { code: 'ERR_NATWORK_HANDSHAKE' })
  assert.equal(far.destroyed, true)
  assert.equal(server.isReady, false)
  client.destroy()
  assert.equal(client.isReady, false)
})

test('nobody goes on: it is over after its time, or when the node stops', async () => {
  const identity = await createIdentity(generatePrivateKey())
  const stop = new AbortController()
  const late = new EarlyHandshake('client', identity, { timeout: 1 })
  const stopped = new EarlyHandshake('client', identity, { timeout: 60_000, signal: stop.signal })
  await Promise.all([late.flight(), stopped.flight()])
  stop.abort(new Error('the node stops'))
  await assert.rejects(stopped.flight(), /the node stops/)
  await assert.rejects(late.flight(), { code: 'ERR_NATWORK_TIMEOUT' })
  for (const one of [late, stopped]) {
    const [, far] = duplexPair()
    await assert.rejects(one.complete(far), { code: 'ERR_NATWORK_HANDSHAKE' })
  }
})

test('what begins with TLS is read on from its first byte; what ends before its greeting is no greeting', async () => {
  for (const first of [Buffer.of(22, 3, 1), Buffer.of(22)]) {
    const [near, far] = duplexPair()
    near.end(first)
    assert.equal(await readGreeting(far), undefined)
    assert.deepEqual(await readAll(far), first)
  }
  const [near, far] = duplexPair()
  near.end()
  assert.equal(await readGreeting(far), undefined)
  const [short, end] = duplexPair()
  short.end(writeGreeting(name).subarray(0, 9))
  await assert.rejects(readGreeting(end), { code: 'ERR_NATWORK_PROTOCOL' })
})
