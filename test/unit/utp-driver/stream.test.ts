import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import { bytes, connectedPair, hashOf, serve, sha256, until } from './pair.ts'

const patience = { timeout: 60_000 }

test('bytes are exact both ways at once, and both ends come', patience, async (t) => {
  const { near, far } = await connectedPair(t)
  const [there, back] = [bytes(3_000_000), bytes(2_000_001).reverse()]
  near.end(there)
  far.end(back)
  const [atFar, atNear] = await Promise.all([sha256(far), sha256(near)])
  assert.deepEqual(atFar, hashOf(there))
  assert.deepEqual(atNear, hashOf(back))
  assert.equal(near.bytesWritten, there.length)
  assert.equal(near.bytesRead, back.length)
  assert.equal(far.bytesRead, there.length)
})

test('a stream knows its peer and its connection', patience, async (t) => {
  const { near, far, client, server } = await connectedPair(t)
  assert.equal(near.remoteAddress, '127.0.0.1')
  assert.equal(near.remotePort, server.address.port)
  assert.equal(near.remoteFamily, 'IPv4')
  assert.equal(far.remotePort, client.address.port)
  assert.equal(near.state, 'open')
  assert.ok(near.connection.stats.packetsSent > 0)
})

test('one direction ends, the other goes on', patience, async (t) => {
  const { near, far } = await connectedPair(t)
  near.end('question')
  assert.deepEqual(await sha256(far), hashOf(Buffer.from('question')))
  assert.equal(far.writable, true)
  const answer = bytes(500_000)
  far.end(answer)
  assert.deepEqual(await sha256(near), hashOf(answer))
})

test('allowHalfOpen false ends with the peer', patience, async (t) => {
  const { near, far } = await connectedPair(t, { allowHalfOpen: false })
  near.end('over')
  far.resume()
  near.resume()
  await Promise.all([finished(near), finished(far)])
})

test(
  'a slow reader stops a fast writer, and what waits is bounded by the two windows',
  patience,
  async (t) => {
    const [sendBuffer, receiveBuffer] = [100_000, 150_000]
    const { near, far } = await connectedPair(t, { limits: { connection: { sendBuffer, receiveBuffer } } })
    const data = bytes(5_000_000)
    near.end(data)
    // Stuck: the peer has no room for a packet, and all but a probe of its window is acknowledged.
    await until(() => {
      const { queued, stats } = near.connection
      return queued > 0 && stats.peerWindow < stats.datagramSize && stats.inFlight <= stats.datagramSize
    })
    const bound = sendBuffer + receiveBuffer + far.readableHighWaterMark
    assert.ok(near.bytesWritten <= bound, `${near.bytesWritten} of ${data.length} bytes left the writer`)
    assert.ok(far.readableLength <= far.readableHighWaterMark + 65_536)
    assert.deepEqual(await sha256(far), hashOf(data))
  },
)

test('small writes of one turn leave in one packet', patience, async (t) => {
  const { near, far } = await connectedPair(t)
  const before = near.connection.stats.packetsSent
  for (let i = 0; i < 100; i++) near.write('0123456789')
  await once(far, 'data')
  assert.ok(near.connection.stats.packetsSent - before <= 3)
  assert.equal(far.bytesRead, 1_000)
})

test('destroy before end is a reset for the peer', patience, async (t) => {
  const { near, far, client, server } = await connectedPair(t)
  near.destroy()
  const [error] = (await once(far, 'error')) as [Error]
  assert.equal(error.name, 'PeerError')
  assert.equal('code' in error && error.code, 'ERR_NATWORK_UTP_RESET')
  await until(() => client.connections.size === 0 && server.connections.size === 0)
})

test('destroy with an error is that error here and a reset there', patience, async (t) => {
  const { near, far } = await connectedPair(t)
  const mine = new Error('mine')
  near.end()
  await once(near, 'finish')
  const errors = Promise.all([once(near, 'error'), once(far, 'error')])
  near.destroy(mine)
  const [[here], [there]] = (await errors) as [[Error], [Error]]
  assert.equal(here, mine)
  assert.equal('code' in there && there.code, 'ERR_NATWORK_UTP_RESET')
})

test('destroy after finish lets everything arrive', patience, async (t) => {
  const { near, far, client } = await connectedPair(t)
  const data = bytes(1_000_000)
  near.end(data)
  await once(near, 'finish')
  near.destroy()
  assert.equal(near.state, 'closing')
  assert.deepEqual(await sha256(far), hashOf(data))
  far.end()
  await until(() => client.connections.size === 0)
  assert.equal(near.state, 'closed')
})

test('a peer that speaks to a destroyed stream is reset', patience, async (t) => {
  const { near, far } = await connectedPair(t)
  near.end()
  await once(near, 'finish')
  near.destroy()
  far.write('anybody there?')
  const [error] = (await once(far, 'error')) as [Error]
  assert.equal('code' in error && error.code, 'ERR_NATWORK_UTP_RESET')
})

test('a write under way learns of destroy', patience, async (t) => {
  const { near, far } = await connectedPair(t, { limits: { connection: { sendBuffer: 10_000 } } })
  far.on('error', () => undefined)
  const failed = new Promise<Error | null | undefined>((resolve) => {
    near.write(bytes(1_000_000), resolve)
  })
  near.destroy()
  const error = await failed
  assert.equal(
    error !== null && error !== undefined && 'code' in error && error.code,
    'ERR_NATWORK_UTP_DESTROYED',
  )
})

test('a server without a handler refuses', patience, async (t) => {
  const [client, server] = [await serve(t), await serve(t)]
  await assert.rejects(client.connect(server.address), { name: 'PeerError', code: 'ERR_NATWORK_UTP_REFUSED' })
})

test('a silent peer is a timeout', patience, async (t) => {
  const silent = createSocket('udp4').bind(0, '127.0.0.1')
  await once(silent, 'listening')
  t.after(() => silent.close())
  const client = await serve(t)
  await assert.rejects(
    client.connect({ address: '127.0.0.1', port: silent.address().port }, { timeout: 20 }),
    {
      code: 'ERR_NATWORK_UTP_CONNECT_TIMEOUT',
    },
  )
  assert.equal(client.connections.size, 0)
})

test('a signal gives up connecting, with its reason', patience, async (t) => {
  const silent = createSocket('udp4').bind(0, '127.0.0.1')
  await once(silent, 'listening')
  t.after(() => silent.close())
  const to = { address: '127.0.0.1', port: silent.address().port }
  const client = await serve(t)
  const reason = new Error('no longer wanted')
  await assert.rejects(client.connect(to, { signal: AbortSignal.abort(reason) }), reason)
  const controller = new AbortController()
  const connecting = client.connect(to, { signal: controller.signal })
  await once(silent, 'message')
  controller.abort(reason)
  await assert.rejects(connecting, reason)
  await until(() => client.connections.size === 0)
})

test('a name is not an address', patience, async (t) => {
  const client = await serve(t)
  await assert.rejects(client.connect({ address: 'localhost', port: 1 }), { code: 'ERR_NATWORK_UTP_ADDRESS' })
})

test('IPv6, and both families on one port', patience, async (t) => {
  const seen: string[] = []
  const server = await serve(t, {
    host: '::',
    onConnection: (stream) => {
      seen.push(`${stream.remoteFamily} ${stream.remoteAddress}`)
      stream.pipe(stream)
    },
  })
  for (const address of ['::1', '127.0.0.1']) {
    const client = await serve(t, { host: address })
    const stream = await client.connect({ address, port: server.address.port })
    stream.end(bytes(100_000))
    assert.deepEqual(await sha256(stream), hashOf(bytes(100_000)))
  }
  assert.deepEqual(seen, ['IPv6 ::1', 'IPv4 127.0.0.1'])
})
