import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Duplex, PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { ask, askAndFollow, askForStream } from '../../../src/cli/control/client.ts'
import { startControlServer, type Handler } from '../../../src/cli/control/server.ts'
import { parseNodeId } from '../../../src/network/node-id.ts'
import { PeerError, silentLogger, UsageError } from '../../../src/core/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'natwork-control-'))
after(() => rmSync(folder, { recursive: true }))
let count = 0

/** Runs `use` with a server that answers by `handler`. */
async function withServer(handler: Handler, use: (path: string) => Promise<void>): Promise<void> {
  const path = join(folder, `${count++}`, 'control.sock')
  const server = await startControlServer(path, handler, silentLogger)
  try {
    await use(path)
  } finally {
    await server.close()
  }
}

const status = { request: 'status' } as const
const peer = { id: parseNodeId(`b${'a'.repeat(52)}`), addresses: [] }
const toEcho = { request: 'connect' as const, goal: { ...peer, service: 'echo' } }
const echo: Handler = () => Promise.resolve({ stream: new PassThrough() })

test('a question gets its answer, an error arrives with class, code and message', async () => {
  const handler: Handler = (request) => {
    if (request.request === 'status') return Promise.resolve({ result: { up: true } })
    if (request.request === 'ping') return Promise.reject(new PeerError('ERR_NATWORK_TIMEOUT', 'no answer'))
    return Promise.reject(new TypeError('oops'))
  }
  await withServer(handler, async (path) => {
    assert.deepEqual(await ask(path, status), { up: true })
    await assert.rejects(ask(path, { request: 'ping', peer }), {
      name: 'PeerError',
      code: 'ERR_NATWORK_TIMEOUT',
      message: 'no answer',
    })
    await assert.rejects(ask(path, { request: 'unexpose', name: 'x' }), { code: 'ERR_NATWORK_INTERNAL' })
  })
})

test('only the owner can open the socket', async () => {
  await withServer(echo, (path) => {
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(statSync(join(path, '..')).mode & 0o777, 0o700)
    return Promise.resolve()
  })
})

test('without a node the command says so', async () => {
  await assert.rejects(ask(join(folder, 'none'), status), {
    code: 'ERR_NATWORK_NO_NODE',
    message: /natwork up/,
  })
})

test('a second node is refused; a socket that a dead node left is replaced; a file is not', async () => {
  await withServer(echo, async (path) => {
    await assert.rejects(startControlServer(path, echo, silentLogger), {
      code: 'ERR_NATWORK_NODE_RUNS',
      message: new RegExp(`pid ${process.pid}`),
    })
  })
  const stale = join(folder, 'stale.sock')
  const dead = createServer().listen(stale)
  await once(dead, 'listening')
  // A killed process leaves its socket behind: take the file away from the server, as the kernel would keep it.
  const { execFileSync } = await import('node:child_process')
  execFileSync('cp', ['-a', stale, `${stale}.kept`])
  await new Promise((resolve) => dead.close(resolve))
  const server = await startControlServer(`${stale}.kept`, echo, silentLogger)
  await server.close()
  const file = join(folder, 'file')
  writeFileSync(file, 'precious')
  await assert.rejects(startControlServer(file, echo, silentLogger), { code: 'ERR_NATWORK_CONTROL' })
  assert.equal(readFileSync(file, 'utf8'), 'precious')
})

test('another protocol version is named', async () => {
  const path = join(folder, 'future.sock')
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end('{"natwork":"9.1.0","protocol":99,"pid":1}\n')
  }).listen(path)
  await once(server, 'listening')
  await assert.rejects(ask(path, status), { code: 'ERR_NATWORK_CONTROL_VERSION', message: /natwork 9\.1\.0/ })
  server.close()
})

test('garbage is answered by an error or by the end, never by a crash', async () => {
  await withServer(echo, async (path) => {
    for (const garbage of [
      '\n',
      'GET / HTTP/1.1\r\n\r\n',
      '{"request":"format-disk"}\n',
      'x'.repeat(2_000_000),
    ]) {
      const socket = connect(path)
      socket.on('error', () => undefined)
      socket.write(garbage)
      await new Promise((resolve) => socket.on('close', resolve).resume())
    }
    assert.ok(await askForStream(path, toEcho).then((stream) => stream.destroy()))
  })
})

test('a stream carries its bytes both ways and keeps half-close', async () => {
  await withServer(echo, async (path) => {
    const stream = await askForStream(path, toEcho)
    const bytes = randomBytes(3_000_000)
    stream.end(bytes)
    assert.ok((await buffer(stream)).equals(bytes))
  })
})

test('a stream that breaks in the node breaks here, by the same error', async () => {
  const broken = new PassThrough()
  await withServer(
    () => Promise.resolve({ stream: broken }),
    async (path) => {
      const stream = await askForStream(path, toEcho)
      stream.write('x')
      await once(stream, 'data')
      broken.destroy(new UsageError('ERR_NATWORK_TEST', 'broke'))
      const [error] = (await once(stream.resume(), 'error')) as [Error & { code: string }]
      assert.deepEqual([error.name, error.code, error.message], ['UsageError', 'ERR_NATWORK_TEST', 'broke'])
    },
  )
})

test('a command that is stopped ends its stream in the node, and its unanswered request', async () => {
  const inNode = new PassThrough()
  await withServer(
    () => Promise.resolve({ stream: inNode }),
    async (path) => {
      const stream = await askForStream(path, toEcho)
      const broke = once(inNode, 'error') as Promise<[{ code: string }]>
      stream.destroy()
      assert.equal((await broke)[0].code, 'ERR_NATWORK_RESET')
    },
  )
  let aborted: () => void
  const seen = new Promise<void>((resolve) => (aborted = resolve))
  const neverAnswers: Handler = (_request, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        aborted()
        reject(new Error('gone'))
      })
      asked.abort()
    })
  const asked = new AbortController()
  await withServer(neverAnswers, async (path) => {
    await assert.rejects(ask(path, status, asked.signal), { name: 'AbortError' })
    await seen
  })
})

test('a node that dies breaks the streams of its commands', async () => {
  const path = join(folder, 'dying', 'control.sock')
  const endless = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() })
  endless.on('error', () => undefined)
  const server = await startControlServer(path, () => Promise.resolve({ stream: endless }), silentLogger)
  const stream = await askForStream(path, toEcho)
  const broke = once(stream.resume(), 'error') as Promise<[{ code: string }]>
  await server.close()
  assert.equal((await broke)[0].code, 'ERR_NATWORK_NODE_GONE')
})

test('a slow reader stops a fast writer', async () => {
  const source = new Duplex({
    read() {
      this.push(Buffer.alloc(65_536))
      produced += 65_536
    },
    write: (_chunk, _encoding, done) => done(),
  })
  source.on('error', () => undefined)
  let produced = 0
  await withServer(
    () => Promise.resolve({ stream: source }),
    async (path) => {
      const stream = await askForStream(path, toEcho)
      await once(stream, 'readable')
      // Nobody reads on. When two looks a few turns of the event loop apart agree, the writer stands still.
      let before = -1
      while (before !== produced) {
        before = produced
        for (let i = 0; i < 50; i++) await new Promise(setImmediate)
      }
      assert.ok(produced < 4_000_000, `${produced} bytes were taken from the source`)
      stream.destroy()
    },
  )
})

test('a held request tells events, and ends when the command does, or by itself', async () => {
  let closed = 0
  let endByItself = (): void => undefined
  const handler: Handler = (_request, _signal, tell) => {
    tell({ n: 1 })
    setImmediate(() => tell({ n: 2 }))
    const ended = new Promise<void>((resolve) => (endByItself = resolve))
    return Promise.resolve({
      result: 'held',
      held: {
        ended,
        close: () => {
          closed++
          return Promise.resolve()
        },
      },
    })
  }
  await withServer(handler, async (path) => {
    const follow = async (): Promise<{
      told: Promise<unknown>
      held: Awaited<ReturnType<typeof askAndFollow>>
    }> => {
      const events: unknown[] = []
      let second: (value: unknown) => void
      const told = new Promise((resolve) => (second = resolve))
      const held = await askAndFollow(path, status, undefined, (event) => {
        if (events.push(event) === 2) second(events)
      })
      return { told, held }
    }
    const first = await follow()
    assert.equal(first.held.result, 'held')
    assert.deepEqual(await first.told, [{ n: 1 }, { n: 2 }])
    await first.held.close()
    assert.equal(closed, 1)
    const other = await follow()
    endByItself()
    await assert.rejects(other.held.ended, { code: 'ERR_NATWORK_NODE_GONE' })
    assert.equal(closed, 2)
  })
})
