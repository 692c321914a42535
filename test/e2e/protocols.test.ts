// Programs that people use, through a pipe: each talks in its own rhythm.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, createServer as createHttpServer, get, type IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { test, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { Home, main, program, startForward, startNode } from './natwork.ts'
import { listen, need, startPostgres, startSshd } from './servers.ts'

/** A node that shares a TCP port, and a ticket for it. */
async function share(t: TestContext, name: string, port: number): Promise<string> {
  return (await startNode(t, new Home(t), ['--expose', `${name}=127.0.0.1:${port}`])).ticket
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

test('ssh, with natwork cat as its ProxyCommand', async (t) => {
  const [ssh, sshd] = need(t, 'ssh', 'sshd') ?? []
  if (ssh === undefined || sshd === undefined) return
  const server = await startSshd(t, sshd)
  const ticket = await share(t, 'ssh', server.port)
  const { env } = new Home(t)
  const proxy = ['-o', `ProxyCommand=${process.execPath} ${main} cat ${ticket}`]
  const remote = (command: string, input?: Buffer) =>
    program(ssh, [...server.options, ...proxy, `${server.user}@natwork`, command], {
      env,
      ...(input && { input }),
    })

  const exit = await remote('echo out; echo err >&2; exit 7')
  assert.deepEqual([exit.code, exit.stdout.toString(), exit.stderr], [7, 'out\n', 'err\n'])
  const file = randomBytes(8_000_000)
  const copied = await remote('cat', file)
  assert.equal(sha256(copied.stdout), sha256(file))
})

test('HTTP/1.1 keep-alive: many requests on one connection', async (t) => {
  let connections = 0
  const server = createHttpServer((request, response) => {
    response.end(`${request.url ?? ''}\n`)
  })
  server.on('connection', () => connections++)
  const forward = await startForward(t, new Home(t), await share(t, 'web', await listen(t, server)))
  // One for the trial of `forward`.
  const before = connections
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  for (let i = 0; i < 100; i++) {
    const request = get({ agent, port: forward.port, host: '127.0.0.1', path: `/${i}` })
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    assert.equal(await text(response), `/${i}\n`)
  }
  assert.equal(connections - before, 1)
  agent.destroy()
})

test('a WebSocket: messages of every size both ways, and its close code', async (t) => {
  const http = createHttpServer()
  const server = new WebSocketServer({ server: http })
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    socket.on('close', (code) => socket.close(code))
  })
  const forward = await startForward(t, new Home(t), await share(t, 'web', await listen(t, http)))
  const client = new WebSocket(`ws://127.0.0.1:${forward.port}/`)
  await once(client, 'open')
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 1_000_000]) {
    const message = randomBytes(size)
    client.send(message)
    const [echoed] = (await once(client, 'message')) as [Buffer]
    assert.equal(sha256(echoed), sha256(message), `${size} bytes`)
  }
  client.close(4_711)
  const [code] = (await once(client, 'close')) as [number]
  assert.equal(code, 4_711)
  server.close()
})

test("PostgreSQL's psql: a session, rows out, COPY in and out", async (t) => {
  const [psql, postgres] = need(t, 'psql', 'postgres') ?? []
  if (psql === undefined || postgres === undefined) return
  const ticket = await share(t, 'postgres', await startPostgres(t, postgres))
  const forward = await startForward(t, new Home(t), ticket)
  const query = (sql: string, input?: string) =>
    program(
      psql,
      [
        '-X',
        '-A',
        '-t',
        '-q',
        '-v',
        'ON_ERROR_STOP=1',
        '-h',
        '127.0.0.1',
        '-p',
        `${forward.port}`,
        '-U',
        'postgres',
        '-c',
        sql,
      ],
      { ...(input !== undefined && { input }) },
    )
  const rows = await query('select n, md5(n::text) from generate_series(1, 50000) n')
  assert.deepEqual([rows.code, rows.stderr], [0, ''])
  assert.equal(rows.stdout.toString().trim().split('\n').length, 50_000)
  const lines = Array.from({ length: 20_000 }, (_, n) => `${n}\trow ${n}`).join('\n')
  const copied = await query('create table t (n int, name text); copy t from stdin', `${lines}\n`)
  assert.deepEqual([copied.code, copied.stderr], [0, ''])
  assert.equal((await query('copy (select * from t order by n) to stdout')).stdout.toString(), `${lines}\n`)
  // One line, one answer, one line …: the slowest rhythm there is.
  const chat = await program(
    psql,
    ['-X', '-A', '-t', '-q', '-h', '127.0.0.1', '-p', `${forward.port}`, '-U', 'postgres'],
    { input: Array.from({ length: 200 }, (_, n) => `select ${n};`).join('\n') },
  )
  assert.equal(chat.stdout.toString().trim().split('\n').at(-1), '199')
  assert.equal((await query('select 1/0')).code, 1)
})

test('nc -N: the request ends by half-close, the answer comes after', async (t) => {
  const [nc] = need(t, 'nc') ?? []
  if (nc === undefined) return
  // Answers only when the request is complete.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('end', () => {
      const bytes = Buffer.concat(chunks)
      socket.end(`${bytes.length} ${sha256(bytes)}\n`)
    })
  })
  const ticket = await share(t, 'digest', await listen(t, server))
  const forward = await startForward(t, new Home(t), ticket)
  const file = randomBytes(3_000_000)
  const expected = `${file.length} ${sha256(file)}\n`
  const byForward = await program(nc, ['-N', '127.0.0.1', `${forward.port}`], { input: file })
  assert.equal(byForward.stdout.toString(), expected)
  const byCat = await program(process.execPath, [main, 'cat', ticket], { input: file, env: new Home(t).env })
  assert.deepEqual([byCat.code, byCat.stdout.toString(), byCat.stderr], [0, expected, ''])
})

test('a server that speaks first and ends first', async (t) => {
  const greeting = randomBytes(1_000_000)
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined)
    socket.end(greeting)
  })
  const ticket = await share(t, 'quote', await listen(t, server))
  const { code, stdout } = await program(process.execPath, [main, 'cat', ticket], { env: new Home(t).env })
  assert.equal(code, 0)
  assert.ok(stdout.equals(greeting))
})
