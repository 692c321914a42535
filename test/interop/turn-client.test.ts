import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import test, { after, before, describe } from 'node:test'
import { UdpEndpoint } from '../../src/socket/index.ts'
import { LongTermAuth, StaticUsers, StunResponseError } from '../../src/stun/index.ts'
import {
  connectRelay,
  connectTcpRelay,
  openRelayOverUdp,
  TurnPeerError,
  TurnService,
  type ConnectRelayOptions,
  type RelayAllocation,
} from '../../src/turn/index.ts'
import { UtpServer } from '../../src/utp/index.ts'
import { certificate, coturn, freePorts, missing, stop } from './stun-peers.ts'

// Our TURN client against Debian's coturn and against our own server, on loopback. About 10 seconds.

const skip = missing('turnserver')
const user = { username: 'user', password: 'secret' }

/** coturn on loopback, once it answers. */
async function started(port: number, more: readonly string[]): Promise<ChildProcess> {
  const server = coturn([
    ...['-L', '127.0.0.1', '-L', '::1', '-E', '127.0.0.1', '-E', '::1', '-p', `${port}`],
    ...['-r', 'relay.test', '--allow-loopback-peers', '-m', '1', ...more],
  ])
  const socket = createSocket('udp4')
  const binding = Buffer.from('000100002112a442000000000000000000000000', 'hex')
  const asking = setInterval(() => socket.send(binding, port, '127.0.0.1'), 20)
  await once(socket, 'message')
  clearInterval(asking)
  socket.close()
  return server
}

/** A UDP peer that sends back what it gets. */
async function echo(host: string): Promise<{ address: string; port: number; close: () => void }> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  socket.bind(0, host)
  await once(socket, 'listening')
  socket.on('message', (bytes, from) => socket.send(bytes, from.port, from.address))
  return { address: host, port: socket.address().port, close: () => socket.close() }
}

/** Exchanges `count` datagrams of several lengths with an echoing peer, one after the other. */
async function exchange(
  relay: RelayAllocation,
  peer: { address: string; port: number },
  count: number,
): Promise<void> {
  const lengths = Array.from({ length: count }, (_, n) => (n * 37) % 1_200)
  for (const [n, length] of lengths.entries()) {
    const came = once(relay, 'message')
    relay.send(Buffer.alloc(length, n), peer)
    const [data, from] = (await came) as [Uint8Array, { address: string; port: number }]
    assert.deepEqual(Buffer.from(data), Buffer.alloc(length, n))
    assert.deepEqual(from, { address: peer.address, port: peer.port })
  }
}

async function withRelay(
  uri: string,
  options: ConnectRelayOptions,
  use: (relay: RelayAllocation) => Promise<void>,
): Promise<void> {
  const relay = await connectRelay(uri, { ...user, ...options })
  try {
    await use(relay)
  } finally {
    await relay.close()
  }
}

interface Running {
  readonly port: number
  readonly tlsPort: number
  readonly cert: string
  stop(): Promise<void>
}

async function runCoturn(): Promise<Running> {
  const [port, tlsPort] = [await freePorts(), await freePorts()]
  const folder = mkdtempSync(join(tmpdir(), 'natwork-turn-'))
  const { cert, key } = await certificate('localhost')
  writeFileSync(join(folder, 'cert.pem'), cert)
  writeFileSync(join(folder, 'key.pem'), key)
  const server = await started(port, [
    ...['--lt-cred-mech', '-u', 'user:secret', '--mobility'],
    ...['--tls-listening-port', `${tlsPort}`, '--no-dtls'],
    ...['--cert', join(folder, 'cert.pem'), '--pkey', join(folder, 'key.pem')],
  ])
  return {
    port,
    tlsPort,
    cert,
    stop: async () => {
      await stop(server)
      rmSync(folder, { recursive: true })
    },
  }
}

async function runOurs(): Promise<Running> {
  const [port, tlsPort] = [await freePorts(), await freePorts()]
  const tls = await certificate('localhost')
  const service = await TurnService.listen({
    users: new StaticUsers('relay.test', { user: 'secret' }),
    listen: [
      ...['127.0.0.1', '::1'].flatMap((host) => [
        { host, port, transport: 'udp' as const },
        { host, port, transport: 'tcp' as const },
        { host, port: tlsPort, transport: 'tls' as const },
      ]),
    ],
    addresses: [{ host: '127.0.0.1' }, { host: '::1' }],
    peers: { allow: ['127.0.0.1/32', '::1/128'] },
    tcp: true,
    tls,
  })
  return { port, tlsPort, cert: tls.cert, stop: () => service.close() }
}

const servers = [
  { name: 'coturn', skip, run: runCoturn },
  { name: 'our own server', skip: false, run: runOurs },
]

for (const { name, skip, run } of servers)
  describe(`our TURN client against ${name}`, { skip }, () => {
    let port = 0
    let tlsPort = 0
    let cert = ''
    let server: Running
    const peers: Awaited<ReturnType<typeof echo>>[] = []
    let four: Awaited<ReturnType<typeof echo>>
    let six: Awaited<ReturnType<typeof echo>>

    before(async () => {
      server = await run()
      ;({ port, tlsPort, cert } = server)
      peers.push((four = await echo('127.0.0.1')), (six = await echo('::1')))
    })
    after(async () => {
      for (const peer of peers) peer.close()
      await server.stop()
    })

    for (const transport of ['udp', 'tcp', 'tls'] as const) {
      const uri = (): string =>
        transport === 'tls' ? `turns:localhost:${tlsPort}` : `turn:127.0.0.1:${port}?transport=${transport}`
      test(`${transport}: Send indications, then a channel, nothing lost or changed`, () =>
        withRelay(uri(), { ca: cert }, async (relay) => {
          assert.equal(relay.transport, transport)
          await exchange(relay, four, 40)
          assert.deepEqual(relay.counters, { sent: 40, received: 40, dropped: 0 })
        }))

      test(`${transport}: an IPv6 relayed address`, () =>
        withRelay(uri(), { ca: cert, family: 6 }, async (relay) => {
          assert.equal(relay.relayed.address, '::1')
          await exchange(relay, six, 20)
        }))

      test(`${transport}: both families at once`, () =>
        withRelay(uri(), { ca: cert, family: 'both' }, async (relay) => {
          assert.deepEqual(relay.allocation.relayed.map(({ address }) => address).sort(), [
            '127.0.0.1',
            '::1',
          ])
          await exchange(relay, four, 10)
          await exchange(relay, six, 10)
        }))
    }

    test('an IPv6 way to the server', () =>
      withRelay(`turn:[::1]:${port}?transport=udp`, {}, (relay) => exchange(relay, four, 10)))

    test('an even port, and the reserved one after it', () =>
      withRelay(`turn:127.0.0.1:${port}?transport=udp`, { evenPort: 'reserve' }, async (relay) => {
        assert.equal(relay.relayed.port % 2, 0)
        const token = relay.allocation.reservationToken
        assert.ok(token)
        await withRelay(`turn:127.0.0.1:${port}`, { reservationToken: token }, (next) => {
          assert.equal(next.relayed.port, relay.relayed.port + 1)
          return Promise.resolve()
        })
      }))

    test('datagrams that must not be fragmented', () =>
      withRelay(`turn:127.0.0.1:${port}?transport=udp`, { dontFragment: true }, async (relay) => {
        assert.ok(relay.allocation.dontFragment)
        await exchange(relay, four, 20)
      }))

    test('a wrong password is told as such', async () => {
      await assert.rejects(
        connectRelay(`turn:127.0.0.1:${port}?transport=udp`, { ...user, password: 'wrong' }),
        (error) => error instanceof StunResponseError && error.status === 401,
      )
    })

    test('a relay that nobody runs is told as such', async () => {
      const nobody = await freePorts()
      await assert.rejects(
        connectRelay(`turn:127.0.0.1:${nobody}?transport=tcp`, user),
        (error) => error instanceof TurnPeerError && error.code === 'ERR_NATWORK_TURN_CONNECTION',
      )
    })

    test('a certificate for another name is refused', async () => {
      await assert.rejects(
        connectRelay(`turns:127.0.0.1:${tlsPort}`, { ...user, ca: cert }),
        (error) => error instanceof TurnPeerError && /127\.0\.0\.1/.test(error.message),
      )
    })

    test('the server has an allocation of an earlier run on our port: it is replaced', async () => {
      const endpoint = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
      const at = { address: '127.0.0.1', port }
      const open = (): Promise<RelayAllocation> =>
        openRelayOverUdp(endpoint, at, { auth: new LongTermAuth('user', 'secret') })
      try {
        const first = await open()
        const second = await open()
        assert.notEqual(second.relayed.port, first.relayed.port)
        await second.close()
      } finally {
        await endpoint.close()
      }
    })

    test('mobility: another port of ours, the same relayed address', async () => {
      // What a NAT does that forgets us: between us and the server stands a forwarder that takes another port.
      const inside = createSocket('udp4')
      inside.bind(0, '127.0.0.1')
      await once(inside, 'listening')
      let client = 0
      const outside = (): ReturnType<typeof createSocket> =>
        createSocket('udp4').on('message', (bytes) => inside.send(bytes, client, '127.0.0.1'))
      let out = outside()
      inside.on('message', (bytes, from) => {
        client = from.port
        out.send(bytes, port, '127.0.0.1')
      })
      try {
        await withRelay(
          `turn:127.0.0.1:${inside.address().port}?transport=udp`,
          { mobility: true },
          async (relay) => {
            assert.ok(relay.allocation.mobility)
            const before = relay.relayed
            await exchange(relay, four, 20)
            out.close()
            out = outside()
            relay.recheck()
            // What is sent meanwhile is lost.
            const asking = setInterval(() => relay.send(Buffer.from('there?'), four), 50)
            await once(relay, 'message')
            clearInterval(asking)
            assert.deepEqual(relay.relayed, before)
            assert.ok(relay.isLive)
          },
        )
      } finally {
        out.close()
        inside.close()
      }
    })

    for (const scheme of ['turn', 'turns'] as const) {
      test(`RFC 6062 over ${scheme}: connections to a peer and from a peer`, async () => {
        const listener = createServer((socket) => socket.on('error', () => undefined).pipe(socket))
        listener.listen(0, '127.0.0.1')
        await once(listener, 'listening')
        const uri = scheme === 'turn' ? `turn:127.0.0.1:${port}` : `turns:localhost:${tlsPort}`
        const relay = await connectTcpRelay(uri, { ...user, ca: cert })
        try {
          const out = await relay.connect({
            address: '127.0.0.1',
            port: (listener.address() as AddressInfo).port,
          })
          const sent = Buffer.alloc(300_000, 'natwork')
          assert.ok(sent.equals(await sentAndReceived(out, sent)))

          relay.permit(['127.0.0.1'])
          const came = once(relay, 'connection')
          // The permission takes a round trip; what comes before it is closed by the relay.
          const peer = await connectedTo(relay.relayed.port, came)
          const [stream] = (await came) as [Duplex]
          stream.on('error', () => undefined).pipe(stream)
          assert.ok(sent.equals(await sentAndReceived(peer, sent)))
        } finally {
          await relay.close()
          listener.close()
        }
      })
    }

    test('through an HTTP proxy with a password, which finds the name', async () => {
      const asked: string[] = []
      const proxy = createHttpServer()
      proxy.on('connect', (request, socket: Duplex) => {
        const { url = '', headers } = request
        asked.push(`${url} ${headers['proxy-authorization'] ?? ''}`)
        if (headers['proxy-authorization'] === undefined) {
          socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
          return
        }
        const through = connect(Number(url.split(':')[1]), '127.0.0.1', () => {
          socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
          socket.pipe(through).pipe(socket)
        })
        through.on('error', () => socket.destroy())
        socket.on('error', () => through.destroy())
      })
      proxy.listen(0, '127.0.0.1')
      await once(proxy, 'listening')
      const at = `127.0.0.1:${(proxy.address() as AddressInfo).port}`
      const login = Buffer.from('me:word').toString('base64')
      try {
        const options = { ca: cert, proxy: `http://me:word@${at}` }
        // The first name is in no DNS: only the proxy can reach it.
        await withRelay(`turn:relay.invalid:${port}?transport=tcp`, options, (relay) =>
          exchange(relay, four, 20),
        )
        await withRelay(`turns:localhost:${tlsPort}`, options, (relay) => exchange(relay, four, 20))
        assert.deepEqual(asked, [
          `relay.invalid:${port} Basic ${login}`,
          `localhost:${tlsPort} Basic ${login}`,
        ])
        await assert.rejects(
          connectRelay(`turns:localhost:${tlsPort}`, { ...user, ca: cert, proxy: `http://${at}` }),
          (error) => error instanceof TurnPeerError && error.code === 'ERR_NATWORK_TURN_PROXY',
        )
      } finally {
        proxy.close()
        proxy.closeAllConnections()
      }
    })

    test('uTP runs over a relayed path, and a permitted peer gets in', async () => {
      // coturn cuts datagrams behind 16 KiB off without a word, which no path but the loopback is wide enough to show.
      const limits = { connection: { maxDatagramSize: 8_192 } }
      const near = new UtpServer({ host: '127.0.0.1', port: 0, onConnection: echoing, limits })
      const far = new UtpServer({ host: '127.0.0.1', port: 0, onConnection: echoing, limits })
      await Promise.all([near.start(), far.start()])
      const relay = await connectRelay(`turn:127.0.0.1:${port}?transport=udp`, {
        ...user,
        endpoint: near.endpoint,
      })
      try {
        relay.permit(['127.0.0.1'])
        const sent = Buffer.alloc(2_000_000, 'natwork')
        assert.ok(sent.equals(await sentAndReceived(await near.connect(relay.path(far.address)), sent)))
        assert.ok(sent.equals(await sentAndReceived(await far.connect(relay.relayed), sent)))
      } finally {
        await relay.close()
        await Promise.all([near.stop({ timeout: 0 }), far.stop({ timeout: 0 })])
      }
    })
  })

test('time-limited credentials from a shared secret', { skip }, async () => {
  const port = await freePorts()
  const server = await started(port, [
    '--use-auth-secret',
    '--static-auth-secret=north',
    '--no-tls',
    '--no-dtls',
  ])
  const peer = await echo('127.0.0.1')
  try {
    const username = `${Math.floor(Date.now() / 1_000) + 600}:somebody`
    const password = createHmac('sha1', 'north').update(username).digest('base64')
    await withRelay(`turn:127.0.0.1:${port}?transport=udp`, { username, password }, (relay) =>
      exchange(relay, peer, 10),
    )
  } finally {
    peer.close()
    await stop(server)
  }
})

const echoing = (stream: Duplex): void => void stream.on('error', () => undefined).pipe(stream)

/** What an echoing peer sends back. The end comes after that: a relay of RFC 6062 ends both directions at once. */
async function sentAndReceived(stream: Duplex, bytes: Buffer): Promise<Buffer> {
  stream.on('error', () => undefined).write(bytes)
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of stream) {
    chunks.push(chunk as Buffer)
    length += (chunk as Buffer).length
    if (length >= bytes.length) break
  }
  return Buffer.concat(chunks)
}

/** A TCP connection that the relay keeps: it closes those that come before the permission is there. */
async function connectedTo(port: number, kept: Promise<unknown>): Promise<Socket> {
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    const closed = new Promise((resolve) =>
      socket.on('error', () => undefined).once('close', () => resolve('closed')),
    )
    if ((await Promise.race([kept, closed])) !== 'closed') return socket
  }
}
