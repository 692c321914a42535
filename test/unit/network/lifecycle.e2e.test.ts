import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import type { TraversalService } from '../../../src/network/index.ts'
import { unknownAddress } from '../../../src/stun/index.ts'
import type { UdpEndpoint } from '../../../src/socket/index.ts'
import { dial, listen, makeNode, makePair } from './nodes.ts'

async function takeUdpPort(port = 0): Promise<{ port: number; close: () => void }> {
  const socket = createSocket('udp4')
  socket.bind(port, '127.0.0.1')
  await once(socket, 'listening')
  return { port: socket.address().port, close: () => socket.close() }
}

/** A traversal service that writes down what happens to it, and holds the endpoint. */
function spy(fail?: Error): TraversalService & { log: string[]; endpoint: UdpEndpoint | undefined } {
  return {
    log: [],
    endpoint: undefined,
    publicAddress: unknownAddress('no-servers'),
    start(endpoint) {
      this.log.push(`start, socket ${endpoint.closed ? 'closed' : 'open'}`)
      this.endpoint = endpoint
      return fail === undefined ? Promise.resolve() : Promise.reject(fail)
    },
    stop() {
      this.log.push(`stop, socket ${this.endpoint?.closed === true ? 'closed' : 'open'}`)
      return Promise.resolve()
    },
  }
}

test('start and stop are idempotent, and a restart works on the same port', async (t) => {
  const traversal = spy()
  const { network } = makeNode(t, { traversal })
  await network.stop()
  await Promise.all([network.start(), network.start()])
  await network.start()
  const { id } = network
  assert.ok(network.running)
  await Promise.all([network.stop(), network.stop()])
  await network.stop()
  assert.ok(!network.running)
  await network.start()
  assert.equal(network.id, id)
  await network.stop()
  const once_ = ['start, socket open', 'stop, socket open']
  assert.deepEqual(traversal.log, [...once_, ...once_])
})

test('any interleaving of start and stop ends as the last call says', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ start: fc.boolean(), ticks: fc.integer({ min: 0, max: 5 }) }), { maxLength: 8 }),
      async (steps) => {
        const traversal = spy()
        const { network } = makeNode(t, { traversal })
        const calls: Promise<unknown>[] = []
        for (const { start, ticks } of steps) {
          calls.push(
            start
              ? network.start().catch((error: unknown) => {
                  assert.equal(error instanceof Error && 'code' in error && error.code, 'ERR_NATWORK_STOPPED')
                })
              : network.stop(),
          )
          for (let i = 0; i < ticks; i++) await new Promise(setImmediate)
        }
        await Promise.all(calls)
        assert.equal(network.running, steps.at(-1)?.start ?? false)
        await network.stop()
        const starts = traversal.log.filter((line) => line === 'start, socket open').length
        const stops = traversal.log.filter((line) => line === 'stop, socket open').length
        assert.equal(starts, stops)
        assert.equal(starts + stops, traversal.log.length)
        assert.ok(traversal.endpoint?.closed ?? true)
      },
    ),
    { numRuns: 40 },
  )
})

test('a stop during a start breaks it off', async (t) => {
  const { network } = makeNode(t, {}, { getPrivateKey: () => new Promise(() => undefined) })
  const starting = assert.rejects(network.start(), { name: 'UsageError', code: 'ERR_NATWORK_STOPPED' })
  await network.stop()
  await starting
})

test('a traversal service that hangs in start does not hang stop', async (t) => {
  const traversal: TraversalService = {
    publicAddress: unknownAddress('no-servers'),
    start: () => new Promise(() => undefined),
    stop: () => Promise.resolve(),
  }
  const { network } = makeNode(t, { traversal })
  const starting = assert.rejects(network.start(), { code: 'ERR_NATWORK_STOPPED' })
  await new Promise(setImmediate)
  await network.stop()
  await starting
})

test('a port in use fails the start with what to do, and the next start may work', async (t) => {
  const taken = await takeUdpPort()
  const traversal = spy()
  const { network } = makeNode(t, { port: taken.port, traversal })
  await assert.rejects(network.start(), { name: 'SystemError', code: 'ERR_NATWORK_SOCKET_IN_USE' })
  assert.deepEqual(traversal.log, [])
  assert.throws(() => network.address(), { code: 'ERR_NATWORK_STOPPED' })
  taken.close()
  await network.start()
  assert.equal(network.address().port, taken.port)
})

test('a start that fails half-way leaves nothing open', async (t) => {
  const free = await takeUdpPort()
  free.close()
  const traversal = spy(new Error('no such STUN server'))
  const { network } = makeNode(t, { port: free.port, traversal })
  await assert.rejects(network.start(), /no such STUN server/)
  assert.deepEqual(traversal.log, ['start, socket open', 'stop, socket open'])
  ;(await takeUdpPort(free.port)).close()
})

test('stop ends the traversal service, the uTP server, the pipes, and then the record is empty', async (t) => {
  const order: string[] = []
  const traversal: TraversalService & { endpoint: UdpEndpoint | undefined } = {
    endpoint: undefined,
    publicAddress: unknownAddress('no-servers'),
    start(endpoint) {
      this.endpoint = endpoint
      return Promise.resolve()
    },
    stop() {
      order.push(`traversal: ${a.network.pipes.size} pipe, socket closed ${String(this.endpoint?.closed)}`)
      return Promise.resolve()
    },
  }
  const [a, b] = await makePair(t, { traversal })
  const sockets: Socket[] = []
  const { port } = await listen(t, (socket) => sockets.push(socket))
  a.network.services.set({ name: 'raw', host: '127.0.0.1', port, allow: '*' })
  const stream = await b.network.connect(a.network.id, { service: 'raw' })
  a.network.on('pipeClosed', () => order.push(`pipe closed`))
  const broken = [once(stream, 'error'), once(sockets[0]!, 'error')]
  await a.network.stop()
  assert.deepEqual(order, ['traversal: 1 pipe, socket closed false', 'pipe closed'])
  assert.equal(traversal.endpoint?.closed, true)
  assert.equal(a.network.pipes.size, 0)
  await Promise.all(broken)
})

test('stop during a connect: the connect ends with a typed error', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => socket.resume())
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: '*' })
  const { id } = a.network
  for (let ticks = 0; ticks < 12; ticks++) {
    const outcome = b.network.connect(id, { service: 'web' }).then(
      (stream) => stream.on('error', () => undefined),
      (error: unknown) => error,
    )
    for (let i = 0; i < ticks; i++) await new Promise(setImmediate)
    await b.network.stop()
    const result = await outcome
    if (result instanceof Error) {
      assert.equal('code' in result && result.code, 'ERR_NATWORK_STOPPED')
    }
    assert.equal(b.network.pipes.size, 0)
    await b.network.start()
  }
  await assert.rejects(
    b.network.stop().then(() => b.network.connect(id, { service: 'web' })),
    { code: 'ERR_NATWORK_STOPPED' },
  )
})

test('an aborted connect gives the reason and leaves no pipe', async (t) => {
  const [a, b] = await makePair(t)
  const abort = new AbortController()
  const reason = new Error('changed my mind')
  const connecting = assert.rejects(
    b.network.connect(a.network.id, { service: 'web', signal: abort.signal }),
    reason,
  )
  abort.abort(reason)
  await connecting
  assert.equal(b.network.pipes.size, 0)
})

test('a peer that vanishes in the middle of a pipe is a time-out at both ends', async (t) => {
  const utp = { connection: { idleTimeout: 1_000_000, keepAliveInterval: 1_000_000 } }
  const traversal = spy()
  const [a, b] = await makePair(t, { traversal, utp }, { utp })
  const sockets: Socket[] = []
  const { port } = await listen(t, (socket) => sockets.push(socket))
  a.network.services.set({ name: 'raw', host: '127.0.0.1', port, allow: '*' })
  const forward = await b.network.forward({ port: 0, to: { id: a.network.id, service: 'raw' } })
  const stream = await b.network.connect(a.network.id, { service: 'raw' })
  const socket = await dial(forward.address.port)
  while (sockets.length < 2) await new Promise(setImmediate)
  const local = once(socket, 'error') as Promise<[Error]>
  await traversal.endpoint?.close()
  const [error] = (await once(stream, 'error')) as [Error]
  assert.equal('code' in error && error.code, 'ERR_NATWORK_UTP_TIMEOUT')
  const [reset] = await local
  assert.equal('code' in reset && reset.code, 'ECONNRESET')
})

test('a node that is not there is a typed error that names the addresses tried', async (t) => {
  const utp = { connection: { connectTimeout: 200_000 } }
  const [a, b] = await makePair(t, {}, { utp })
  const { id } = a.network
  const { port } = a.network.address()
  await a.network.stop()
  await assert.rejects(b.network.connect(id, { service: 'web' }), {
    code: 'ERR_NATWORK_NODE_UNREACHABLE',
    message: new RegExp(`127\\.0\\.0\\.1:${port}`),
  })
})

test('a connect that takes too long ends with a time-out', async (t) => {
  const silent = await takeUdpPort()
  t.after(silent.close)
  const [a, b] = await makePair(t, {}, { timeouts: { connect: 50 } })
  const { id } = a.network
  await a.network.stop()
  await assert.rejects(b.network.connect(id, { service: 'web' }), { code: 'ERR_NATWORK_TIMEOUT' })
})

test('a process that starts, uses and stops two nodes exits by itself; a listener that throws harms no pipe', async () => {
  const script = `
    import { createServer } from 'node:net'
    import { once } from 'node:events'
    import { Network, createContext, memoryDirectory } from './src/index.ts'
    const directory = memoryDirectory()
    const make = () => new Network(createContext({ directory }), { host: '127.0.0.1', port: 0 })
    const [a, b] = [make(), make()]
    await Promise.all([a.start(), b.start()])
    await directory.put(a.self)
    const server = createServer((socket) => socket.end('hi')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    a.services.set({ name: 'web', host: '127.0.0.1', port: server.address().port, allow: '*' })
    a.on('pipe', () => { throw new Error('of the listener') })
    process.once('uncaughtException', (error) => console.log(error.message))
    const stream = await b.connect(a.id, { service: 'web' })
    stream.on('data', (bytes) => console.log(bytes.toString()))
    stream.end()
    await once(stream, 'end')
    server.close()
    await Promise.all([a.stop(), b.stop()])
    console.log('stopped')
  `
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', script],
    { timeout: 60_000 },
  )
  assert.equal(stdout, 'of the listener\nhi\nstopped\n')
})
