// Data connections of RFC 6062 through our server, on loopback. About 3 seconds.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import test, { type TestContext } from 'node:test'
import { buffer } from 'node:stream/consumers'
import { StaticUsers } from '../../../src/stun/index.ts'
import { connectTcpRelay, TurnService, type RelayLimits } from '../../../src/turn/index.ts'
import { realm, users } from './server-harness.ts'

const megabytes = Buffer.alloc(4 * 1024 * 1024, 'relayed')

test('what was sent before the end arrives, at a peer that reads late', async (t) => {
  const { connect, accepted, counters } = await world(t)
  const stream = await connect()
  stream.end(megabytes)
  const peer = await accepted
  // All of it is on its way, and the client has said its last word.
  await once(stream, 'finish')
  assert.ok(megabytes.equals(await buffer(peer)))
  assert.equal(counters.bytesToPeers, megabytes.length)
})

test('a client that has ended its half still gets the answer', async (t) => {
  const { connect, accepted, counters } = await world(t)
  const stream = await connect()
  stream.end('question')
  const peer = await accepted
  const [question] = (await once(peer.resume(), 'data')) as [Buffer]
  assert.equal(String(question), 'question')
  await once(peer, 'end')
  peer.end(megabytes)
  assert.ok(megabytes.equals(await buffer(stream)))
  assert.equal(counters.bytesFromPeers, megabytes.length)
})

test('a peer that breaks the connection breaks the client’s', async (t) => {
  const { connect, accepted } = await world(t)
  const stream = await connect()
  stream.on('error', () => undefined)
  const peer = await accepted
  peer.resetAndDestroy()
  await once(stream.resume(), 'close')
})

test('bandwidth: a connection rests for as long as it has taken too much', async (t) => {
  const { connect, accepted } = await world(t, { bandwidthPerUser: 1_000_000 })
  const stream = await connect()
  const from = performance.now()
  // The first second's worth is free.
  stream.end(megabytes.subarray(0, 1_500_000))
  assert.equal((await buffer(await accepted)).length, 1_500_000)
  assert.ok(performance.now() - from > 350)
})

test('a name in place of an address is told as such, as by the relay of datagrams', async (t) => {
  const { relay } = await world(t)
  const named = { code: 'ERR_NATWORK_TURN_PEER' }
  assert.throws(() => relay.permit(['peer.example.org']), named)
  await assert.rejects(relay.connect({ address: 'peer.example.org', port: 1 }), named)
})

async function world(t: TestContext, limits: Partial<RelayLimits> = {}) {
  const service = await TurnService.listen({
    users: new StaticUsers(realm, users),
    addresses: [{ host: '127.0.0.1' }],
    peers: { allow: ['127.0.0.1'] },
    listen: [{ host: '127.0.0.1', port: 0, transport: 'tcp' }],
    tcp: true,
    limits,
  })
  t.after(() => service.close())
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const accepted = once(server, 'connection').then(([socket]) => socket as Socket)
  const { port = 0 } = service.streamAddresses[0] ?? {}
  const relay = await connectTcpRelay(`turn:127.0.0.1:${port}?transport=tcp`, {
    username: 'alice',
    password: users['alice'] ?? '',
    proxy: false,
  })
  t.after(() => relay.close())
  const peer = { address: '127.0.0.1', port: (server.address() as AddressInfo).port }
  return { relay, connect: () => relay.connect(peer), accepted, counters: service.host.relay.counters }
}
