import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { Pipe, SecureStream } from '../../../src/network/index.ts'
import { Forward } from '../../../src/network/forward.ts'
import { readExactly, readMessage, requestSchema, type Request } from '../../../src/network/protocol.ts'
import { accept, ask } from '../../../src/network/refusal.ts'
import { readAll } from './duplex-pair.ts'
import { closedPort, dial, listen, makeNode, makePair } from './nodes.ts'
import { securePair } from './secure-pair.ts'
import { tapWire } from './tap-wire.ts'

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

test('200 pipes at once carry their bytes both ways, and the records end empty', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: [b.network.id] })
  const forward = await b.network.forward({ port: 0, to: { id: a.network.id, service: 'echo' } })
  await Promise.all(
    Array.from({ length: 200 }, async (_, index) => {
      const bytes = randomBytes(20_000 + index)
      const socket = await dial(forward.address.port)
      socket.end(bytes)
      assert.equal(sha(await readAll(socket)), sha(bytes))
    }),
  )
  await forward.close()
  await Promise.all([gone(a.network.pipes), gone(b.network.pipes)])
})

test('a record tells id, peer, service, bytes, age and state from birth to close', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => {
    socket.write('welcome')
    socket.once('data', () => socket.end('bye'))
  })
  a.network.services.set({ name: 'greeter', host: '127.0.0.1', port, allow: [b.network.id] })
  const opened = once(a.network, 'pipe') as Promise<[Pipe]>
  const closing = once(a.network, 'pipeClosed') as Promise<[Pipe, Error | undefined]>
  const connecting = b.network.connect(a.network.id, { service: 'greeter' })
  const [out] = [...b.network.pipes.values()]
  assert.equal(out?.state, 'opening')
  const stream = await connecting
  const [incoming] = await opened
  assert.equal(a.network.pipes.get(incoming.id), incoming)
  assert.deepEqual(
    [incoming.direction, incoming.peer, incoming.service, incoming.state, incoming.ticketId],
    ['in', b.network.id, 'greeter', 'open', undefined],
  )
  assert.equal(incoming.remote?.address, '127.0.0.1')
  assert.equal(out.state, 'open')
  stream.end('thanks')
  assert.equal(out.state, 'half-closed')
  assert.equal((await readAll(stream)).toString(), 'welcomebye')
  const [closed, error] = await closing
  assert.equal(closed, incoming)
  assert.equal(error, undefined)
  assert.deepEqual([incoming.bytesIn, incoming.bytesOut, incoming.state], [6, 10, 'closed'])
  assert.deepEqual([out.bytesIn, out.bytesOut], [10, 6])
  assert.ok(incoming.age >= 0 && incoming.since <= new Date())
  assert.equal(a.network.pipes.size, 0)
})

test('what the caller says first arrives before all else, counts, and does no harm where it is refused', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: [b.network.id] })
  const first = (): Buffer => Buffer.from('first, ')
  const stream = await b.network.connect(a.network.id, { service: 'echo', first })
  const [out] = [...b.network.pipes.values()]
  stream.end('then the rest')
  assert.equal((await readAll(stream)).toString(), 'first, then the rest')
  assert.deepEqual([out?.bytesOut, out?.bytesIn], [20, 20])
  const refused = b.network.connect(a.network.id, { service: 'other', first })
  await assert.rejects(refused, { code: 'ERR_NATWORK_SERVICE_UNKNOWN' })
})

test('what a local program says while its forward connects arrives before the service has been granted', async (t) => {
  const { a: near, b: far } = await securePair()
  const request: Request = { op: 'pipe', to: near.peer, service: 'web' }
  const forward = await Forward.open(
    { port: 0, to: { id: near.peer, service: 'web' } },
    async (_signal, first) => {
      let bytes = first()
      for (; bytes === undefined; bytes = first()) await new Promise((resolve) => setImmediate(resolve))
      await ask(near, request, bytes)
      return near
    },
  )
  t.after(() => forward.close())
  const socket = await dial(forward.address.port)
  socket.write('question')
  assert.deepEqual(await readMessage(far, requestSchema), request)
  assert.equal((await readExactly(far, 8))?.toString(), 'question')
  accept(far)
  socket.end(' and more')
  assert.equal((await readAll(far)).toString(), ' and more')
  far.end('answer')
  assert.equal((await readAll(socket)).toString(), 'answer')
})

test('while a connection is open, the next one to the same address takes the first words of TLS along with its SYN', async (t) => {
  const [a, b] = [makeNode(t), makeNode(t)]
  await Promise.all([a.network.start(), b.network.start()])
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: [b.network.id] })
  const wire = await tapWire(t, a.network.boundAddress)
  const open = { service: 'echo', addresses: [wire.address] }
  const first = await b.network.connect(a.network.id, open)
  wire.holdBack()
  const second = await b.network.connect(a.network.id, open)
  second.end('question')
  assert.equal((await readAll(second)).toString(), 'question')
  first.destroy()
})

test('half-close is kept: the caller ends first', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => {
    void readAll(socket).then((question) => socket.end(`you said ${question.toString()}`))
  })
  a.network.services.set({ name: 'ask', host: '127.0.0.1', port, allow: [b.network.id] })
  const forward = await b.network.forward({ port: 0, to: { id: a.network.id, service: 'ask' } })
  const socket = await dial(forward.address.port)
  socket.end('hello')
  assert.equal((await readAll(socket)).toString(), 'you said hello')
})

test('half-close is kept: the service ends first', async (t) => {
  const [a, b] = await makePair(t)
  const answers: Promise<Buffer>[] = []
  const { port } = await listen(t, (socket) => {
    answers.push(readAll(socket))
    socket.end('tell me everything')
  })
  a.network.services.set({ name: 'listen', host: '127.0.0.1', port, allow: [b.network.id] })
  const forward = await b.network.forward({ port: 0, to: { id: a.network.id, service: 'listen' } })
  const socket = await dial(forward.address.port)
  assert.equal((await readAll(socket)).toString(), 'tell me everything')
  const story = randomBytes(500_000)
  socket.end(story)
  await once(socket, 'close')
  assert.equal(sha((await answers[0])!), sha(story))
})

test('a reset by the service is a reset at the caller, and the other way round', async (t) => {
  const [a, b] = await makePair(t)
  const accepted: Socket[] = []
  const { port, server } = await listen(t, (socket) => accepted.push(socket))
  a.network.services.set({ name: 'raw', host: '127.0.0.1', port, allow: [b.network.id] })
  const forward = await b.network.forward({ port: 0, to: { id: a.network.id, service: 'raw' } })

  const [first] = await Promise.all([dial(forward.address.port), once(server, 'connection')])
  first.write('x')
  await once(accepted[0]!, 'data')
  accepted[0]!.resetAndDestroy()
  const [error] = (await once(first, 'error')) as [Error]
  assert.equal('code' in error && error.code, 'ECONNRESET')

  const [second] = await Promise.all([dial(forward.address.port), once(server, 'connection')])
  second.write('x')
  await once(accepted[1]!, 'data')
  const failed = once(accepted[1]!, 'error') as Promise<[Error]>
  second.resetAndDestroy()
  const [otherError] = await failed
  assert.equal('code' in otherError && otherError.code, 'ECONNRESET')
  await Promise.all([gone(a.network.pipes), gone(b.network.pipes)])
})

test('a stream of connect() that is destroyed resets the service; a service that resets breaks the stream', async (t) => {
  const [a, b] = await makePair(t)
  const accepted: Socket[] = []
  const { port } = await listen(t, (socket) => accepted.push(socket))
  a.network.services.set({ name: 'raw', host: '127.0.0.1', port, allow: [b.network.id] })
  const one = await b.network.connect(a.network.id, { service: 'raw' })
  const failed = once(accepted[0]!, 'error')
  one.destroy()
  await failed
  const two = await b.network.connect(a.network.id, { service: 'raw' })
  accepted[1]!.resetAndDestroy()
  const [error] = (await once(two, 'error')) as [Error]
  assert.match(String('code' in error && error.code), /^ERR_NATWORK_(UTP_)?RESET$/)
})

test('a reader that does not read stops the writer at the other end', async (t) => {
  const [a, b] = await makePair(t)
  const accepted: Socket[] = []
  const { port } = await listen(t, (socket) => accepted.push(socket.pause()))
  a.network.services.set({ name: 'slow', host: '127.0.0.1', port, allow: [b.network.id] })
  const stream = await b.network.connect(a.network.id, { service: 'slow' })
  const chunk = randomBytes(65_536)
  const hash = createHash('sha256')
  const limit = 64 * 1024 * 1024
  let written = 0
  // Writes until the pipe stays full for a while: that is the bound. Without back-pressure it would reach the limit.
  for (;;) {
    while (written < limit && !stream.writableNeedDrain) {
      stream.write(chunk)
      hash.update(chunk)
      written += chunk.length
    }
    if (written >= limit || !(await drains(stream))) break
  }
  assert.ok(written < limit, `${written} bytes were taken though nobody reads`)
  stream.end()
  const received = await readAll(accepted[0]!)
  assert.equal(received.length, written)
  assert.equal(sha(received), hash.digest('hex'))
  accepted[0]!.end()
  stream.resume()
  await gone(a.network.pipes)
})

test('a service whose port is closed is a typed refusal at the other end', async (t) => {
  const [a, b] = await makePair(t)
  a.network.services.set({ name: 'off', host: '127.0.0.1', port: await closedPort(), allow: [b.network.id] })
  await assert.rejects(b.network.connect(a.network.id, { service: 'off' }), {
    name: 'RefusedError',
    code: 'ERR_NATWORK_SERVICE_UNREACHABLE',
  })
  const forward = await b.network.forward({ port: 0, to: { id: a.network.id, service: 'off' } })
  const failed = once(forward, 'failed') as Promise<[Error]>
  const socket = await dial(forward.address.port)
  const [reset] = (await once(socket, 'error')) as [Error]
  assert.equal('code' in reset && reset.code, 'ECONNRESET')
  const [error] = await failed
  assert.equal('code' in error && error.code, 'ERR_NATWORK_SERVICE_UNREACHABLE')
  await Promise.all([gone(a.network.pipes), gone(b.network.pipes)])
})

test('pipes are bounded per peer and in total', async (t) => {
  const [a, b] = await makePair(t, { limits: { pipesPerPeer: 2 } })
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: [b.network.id] })
  const open = (): Promise<SecureStream> => b.network.connect(a.network.id, { service: 'echo' })
  const one = await open()
  const two = await open()
  await assert.rejects(open(), { code: 'ERR_NATWORK_BUSY' })
  one.end()
  one.resume()
  while (a.network.pipes.size > 1) await new Promise(setImmediate)
  const last = await open()
  for (const stream of [two, last]) stream.on('error', () => undefined)
})

test('closing a pipe by its record resets both ends', async (t) => {
  const [a, b] = await makePair(t)
  const accepted: Socket[] = []
  const { port } = await listen(t, (socket) => accepted.push(socket))
  a.network.services.set({ name: 'raw', host: '127.0.0.1', port, allow: [b.network.id] })
  const stream = await b.network.connect(a.network.id, { service: 'raw' })
  const broken = [once(stream, 'error'), once(accepted[0]!, 'error')]
  for (const pipe of a.network.pipes.values()) pipe.close()
  await Promise.all(broken)
  await gone(a.network.pipes)
})

test('the signal closes a forward', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: '*' })
  const abort = new AbortController()
  const forward = await b.network.forward({
    port: 0,
    to: { id: a.network.id, service: 'echo' },
    signal: abort.signal,
  })
  const socket = await dial(forward.address.port)
  socket.write('x')
  await once(socket, 'data')
  const ended = Promise.all([once(forward, 'close'), once(socket, 'error')])
  abort.abort()
  await ended
  await assert.rejects(dial(forward.address.port), { code: 'ECONNREFUSED' })
})

async function gone(pipes: ReadonlyMap<string, Pipe>): Promise<void> {
  while (pipes.size > 0) await new Promise(setImmediate)
}

// Whether room appears within many turns of the loop and a second.
function drains(stream: NodeJS.WritableStream): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), 1_000)
    stream.once('drain', () => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}
