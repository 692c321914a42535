import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { UtpServer } from '../../../src/utp/driver/index.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { TestMachine } from '../socket/machines.ts'
import { bytes, connectedPair, hashOf, serve, sha256, until } from './pair.ts'

const patience = { timeout: 60_000 }

test('start and stop are idempotent, safe in any order, and repeatable', patience, async () => {
  const server = new UtpServer({ host: '127.0.0.1', port: 0 })
  await server.stop()
  await Promise.all([server.start(), server.start(), server.stop(), server.stop(), server.start()])
  const first = server.address.port
  assert.ok(first > 0)
  await Promise.all([server.start(), server.stop(), server.start(), server.stop()])
  assert.throws(() => server.address, { code: 'ERR_NATWORK_UTP_NOT_STARTED' })
  await assert.rejects(server.connect({ address: '127.0.0.1', port: 1 }), {
    code: 'ERR_NATWORK_UTP_NOT_STARTED',
  })
  await server.start()
  await server.stop()
})

test('a port in use fails the start, and it works once the port is free', patience, async () => {
  const holder = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  const server = new UtpServer({ host: '127.0.0.1', port: holder.address.port })
  await assert.rejects(server.start(), { name: 'SystemError', code: 'ERR_NATWORK_SOCKET_IN_USE' })
  await holder.close()
  await server.start()
  assert.equal(server.address.port, holder.address.port)
  await server.stop()
})

test('a limit out of range fails the start and leaves the port free', patience, async (t) => {
  const free = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  const { port } = free.address
  await free.close()
  const server = new UtpServer({ host: '127.0.0.1', port, limits: { maxHalfOpen: 0 } })
  await assert.rejects(server.start(), { name: 'UsageError', code: 'ERR_NATWORK_UTP_LIMIT' })
  await serve(t, { port })
})

test(
  'a SYN with data: handed over with its bytes where the path is verified, and connected without where not',
  patience,
  async (t) => {
    for (const isVerified of [(): boolean => true, (): boolean => false]) {
      const heard: string[] = []
      const server = await serve(t, {
        isVerified,
        onConnection: (stream) => {
          heard.push(`${server.stats.halfOpen} not proved, ${stream.connection.readable} bytes`)
          stream.on('data', (chunk) => heard.push(String(chunk))).end('answer')
        },
      })
      const client = await serve(t)
      const stream = await client.connect(server.address, {
        withData: true,
        onStream: (connecting) => connecting.end('question'),
      })
      const answer = await sha256(stream)
      assert.equal(answer.length, 'answer'.length)
      await until(() => heard.includes('question'))
      assert.deepEqual(heard, [`${Number(isVerified())} not proved, 8 bytes`, 'question'])
      await until(() => client.connections.size === 0 && server.connections.size === 0)
      assert.equal(server.stats.halfOpen, 0)
    }
  },
)

test('the record holds a connection from its birth to its end', patience, async (t) => {
  const { near, far, client, server } = await connectedPair(t)
  assert.deepEqual([...client.connections.values()], [near])
  assert.deepEqual([...server.connections], [[far.id, far]])
  assert.ok(far.since.getTime() <= Date.now())
  near.end('x')
  far.end('yz')
  await Promise.all([sha256(near), sha256(far)])
  await until(() => client.connections.size === 0 && server.connections.size === 0)
  assert.deepEqual([far.bytesRead, far.bytesWritten, far.state], [1, 2, 'closed'])
})

test('stop ends in order: what was written arrives', patience, async (t) => {
  const { near, far, client } = await connectedPair(t)
  const data = bytes(2_000_000)
  near.write(data)
  far.once('end', () => far.end())
  near.resume()
  const [arrived] = await Promise.all([sha256(far), client.stop()])
  assert.deepEqual(arrived, hashOf(data))
  assert.equal(client.connections.size, 0)
})

test('stop resets what does not end in time', patience, async (t) => {
  const { near, far, client } = await connectedPair(t)
  const ends = Promise.all([once(near, 'close'), once(far, 'error')])
  await client.stop({ timeout: 10 })
  const [, [there]] = (await ends) as [unknown, [{ code: string }]]
  assert.equal(near.readableEnded, false)
  assert.equal(there.code, 'ERR_NATWORK_UTP_RESET')
})

test('some connections are ended in order while the others go on', patience, async (t) => {
  const { near, far, client, server } = await connectedPair(t)
  const other = await client.connect(server.address)
  const data = bytes(200_000)
  near.write(data)
  far.once('end', () => far.end())
  near.resume()
  const [arrived] = await Promise.all([sha256(far), client.end([near], { timeout: 30_000 })])
  assert.deepEqual(arrived, hashOf(data))
  assert.deepEqual([...client.connections.values()], [other])
  assert.equal(other.writable, true)
})

test('stop while connecting', patience, async (t) => {
  const silent = createSocket('udp4').bind(0, '127.0.0.1')
  await once(silent, 'listening')
  t.after(() => silent.close())
  const client = await serve(t)
  const connecting = client.connect({ address: '127.0.0.1', port: silent.address().port })
  const rejected = assert.rejects(connecting, { code: 'ERR_NATWORK_UTP_STOPPED' })
  await client.stop()
  await rejected
})

test('connections have a bound', patience, async (t) => {
  const server = await serve(t, {
    onConnection: (stream) => stream.on('error', () => undefined),
    limits: { maxConnections: 2 },
  })
  const client = await serve(t)
  const two = await Promise.all([client.connect(server.address), client.connect(server.address)])
  await until(() => server.connections.size === 2)
  await assert.rejects(client.connect(server.address), { code: 'ERR_NATWORK_UTP_REFUSED' })
  for (const stream of two) stream.destroy()
})

test('other machines speak on the very port', patience, async (t) => {
  const server = await serve(t, { onConnection: (stream) => void stream.pipe(stream) })
  const machine = new TestMachine((text) => text === 'not uTP')
  const got = new Promise((resolve) => {
    server.endpoint.attach(machine, resolve)
  })
  const stranger = createSocket('udp4')
  t.after(() => stranger.close())
  stranger.send('not uTP', server.address.port, '127.0.0.1')
  await got
  const client = await serve(t)
  const stream = await client.connect(server.address)
  stream.end('uTP')
  assert.deepEqual(await sha256(stream), hashOf(Buffer.from('uTP')))
})

test('a process that serves, connects and stops exits by itself', patience, async () => {
  const fixture = fileURLToPath(new URL('fixtures/start-and-stop.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fixture])
  assert.equal(stdout, 'echoed, stopped\n')
})

test(
  'a stream that passes its buffers frees what it took, lends what it gives, and delivers the same bytes',
  patience,
  async (t) => {
    const { near, far } = await connectedPair(t)
    near.passBuffers()
    far.passBuffers()
    const chunks = Array.from({ length: 200 }, (_, i) => Buffer.concat([bytes(40_000 + i), Buffer.of(i)]))
    const expected = createHash('sha256')
    for (const chunk of chunks) expected.update(chunk)
    const got = createHash('sha256')
    const memories = new Set<ArrayBufferLike>()
    let seen = 0
    far.on('data', (chunk: Buffer) => {
      got.update(chunk)
      memories.add(chunk.buffer)
      // Now and then the reader pauses: what waits in the stream meanwhile must stay whole.
      if (++seen % 16 > 0) return
      far.pause()
      setImmediate(() => far.resume())
    })
    for (const chunk of chunks) near.write(chunk)
    near.end()
    await once(far, 'end')
    assert.equal(got.digest('hex'), expected.digest('hex'))
    assert.ok(chunks.every((chunk) => chunk.length === 0))
    assert.ok(memories.size < seen, `${memories.size} buffers for ${seen} chunks`)
  },
)
