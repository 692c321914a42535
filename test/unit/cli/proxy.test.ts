import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { createProxyServer, type OpenHost } from '../../../src/cli/proxy/server.ts'
import { PeerError, silentLogger, UsageError } from '../../../src/core/index.ts'

const opened: string[] = []
// A name is a port of this machine here; what the command line makes of names is tested elsewhere.
const open: OpenHost = async (host) => {
  opened.push(host)
  if (host === 'refused') throw new PeerError('ERR_NATWORK_SERVICE_DENIED', 'not for you')
  if (host === 'away') throw new PeerError('ERR_NATWORK_TIMEOUT', 'no answer')
  const port = { web: portOf(web), echo: portOf(echo) }[host]
  if (port === undefined) throw new UsageError('ERR_NATWORK_ARGUMENT', 'no such name')
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}

const web = createHttpServer((request, response) => {
  response.setHeader('x-seen', JSON.stringify(request.headers))
  response.end(`${request.method ?? ''} ${request.url ?? ''} from ${request.socket.remotePort ?? 0}`)
})
const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
const proxy = createProxyServer(open, silentLogger)
const servers: Server[] = [web, echo, proxy]

before(() => Promise.all(servers.map((server) => once(server.listen(0, '127.0.0.1'), 'listening'))))
after(() => {
  web.closeAllConnections()
  for (const server of servers) server.close()
})

const portOf = (server: Server) => (server.address() as AddressInfo).port
const client = () => connect({ port: portOf(proxy), host: '127.0.0.1', allowHalfOpen: true })
const closed = (socket: Socket) => new Promise((resolve) => socket.on('close', resolve).resume())

function curl(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const at = `127.0.0.1:${portOf(proxy)}`
    const options = args.map((arg) => arg.replace('PROXY', at))
    execFile('curl', ['-sS', '--noproxy', '', ...options], (error, stdout) => {
      if (error) reject(new Error('curl failed', { cause: error }))
      else resolve(stdout)
    })
  })
}

test('curl gets a page by SOCKS 5, by CONNECT and by a plain proxy request', async () => {
  for (const how of [
    ['-x', 'socks5h://PROXY'],
    ['-p', '-x', 'http://PROXY'],
    ['-x', 'http://PROXY'],
  ]) {
    assert.match(await curl(...how, 'http://web/a?b=c'), /^GET \/a\?b=c from/, how.join(' '))
  }
  assert.match(await curl('-x', 'http://PROXY', '-d', 'body', 'http://web/'), /^POST/)
})

test('a plain request keeps its own headers and loses those of the hop', async () => {
  const answer = await curl(
    ...['-x', 'http://PROXY', '-i', '-H', 'Connection: x-hop', '-H', 'X-Hop: 1', '-H', 'X-End: 2'],
    'http://web/',
  )
  const seen = JSON.parse(/^x-seen: (.*)$/im.exec(answer)?.[1] ?? '') as Record<string, string>
  assert.equal(seen['x-end'], '2')
  assert.equal(seen['x-hop'], undefined)
  assert.equal(seen['host'], 'web')
})

test('refusals say why: HTTP', async () => {
  const status = async (host: string) =>
    (await curl('-i', '-x', 'http://PROXY', `http://${host}/`)).split('\r\n')[0]
  assert.match((await status('refused')) ?? '', / 403 /)
  assert.match((await status('away')) ?? '', / 504 /)
  assert.match((await status('nothing')) ?? '', / 400 /)
  const socket = client()
  socket.end('CONNECT refused:443 HTTP/1.1\r\nhost: refused:443\r\n\r\n')
  assert.match(await text(socket), /^HTTP\/1\.1 403 [\s\S]*natwork: not for you\n$/)
  const direct = client()
  direct.end('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  assert.match(await text(direct), /^HTTP\/1\.1 400 [\s\S]*this is a proxy/)
})

test('refusals say why: SOCKS', async () => {
  const reply = async (name: string) => {
    const socket = client()
    socket.write(
      Buffer.concat([
        Buffer.from([5, 1, 0, 5, 1, 0, 3, name.length]),
        Buffer.from(name),
        Buffer.from([0, 80]),
      ]),
    )
    const answer = await buffer(socket)
    socket.end()
    return [...answer].slice(0, 4)
  }
  assert.deepEqual(await reply('refused'), [5, 0, 5, 2])
  assert.deepEqual(await reply('away'), [5, 0, 5, 4])
  assert.deepEqual(await reply('nothing'), [5, 0, 5, 2])
})

test('CONNECT and SOCKS keep half-close, and what was sent ahead of the answer', async () => {
  const heads: [string, Buffer, number][] = [
    [
      'CONNECT',
      Buffer.from('CONNECT echo:1 HTTP/1.1\r\nhost: echo:1\r\n\r\n'),
      'HTTP/1.1 200 Connection established\r\n\r\n'.length,
    ],
    ['SOCKS', Buffer.from([5, 1, 0, 5, 1, 0, 3, 4, ...Buffer.from('echo'), 0, 7]), 2 + 10],
  ]
  for (const [name, head, answer] of heads) {
    const bytes = Buffer.alloc(500_000, name)
    const socket = client()
    socket.end(Buffer.concat([head, bytes]))
    assert.ok((await buffer(socket)).subarray(answer).equals(bytes), name)
  }
})

test('no bytes of a client take the proxy down', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom([], [5], [5, 1, 0], [71, 69, 84, 32]),
      fc.uint8Array(),
      async (head, noise) => {
        const socket = client()
        socket.on('error', () => undefined)
        socket.end(Buffer.from([...head, ...noise]))
        await closed(socket)
      },
    ),
    { numRuns: 60 },
  )
  assert.match(await curl('-x', 'http://PROXY', 'http://web/'), /^GET/)
})
