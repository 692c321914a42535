import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import test, { after, before, describe } from 'node:test'
import { cleanup, PeerConnection, type DataChannel } from 'node-datachannel'
import { StaticUsers } from '../../src/stun/credentials/server.ts'
import { AnyOfUsers, SharedSecretUsers, TurnService } from '../../src/turn/index.ts'
import { certificate, freePorts, missing, output, stop } from './stun-peers.ts'

// Other people's clients against our server, all on loopback. About 30 seconds.

const skip = missing('turnutils_uclient', 'turnutils_peer')
const realm = 'natwork.test'

describe('coturn’s turnutils_uclient', { skip, concurrency: 6 }, () => {
  let service: TurnService
  let peerPort: number
  const peers: ChildProcess[] = []

  before(async () => {
    service = await TurnService.listen({
      users: new AnyOfUsers(realm, [
        new StaticUsers(realm, { user: 'pass' }),
        new SharedSecretUsers(realm, 'shared secret', () => Date.now() / 1000),
      ]),
      addresses: [{ host: '127.0.0.1' }, { host: '::1' }],
      // Nothing on this machine is globally reachable: each address is named.
      peers: { allow: ['127.0.0.1', '::1'] },
      listen: [
        { host: '127.0.0.1', port: 0, transport: 'udp' },
        { host: '127.0.0.1', port: 0, transport: 'tcp' },
        { host: '127.0.0.1', port: 0, transport: 'tls' },
        { host: '::1', port: 0, transport: 'udp' },
      ],
      tls: await certificate(),
      tcp: true,
      // Debian 12's draws channel numbers as RFC 5766 had them.
      oldChannels: true,
      limits: { allocationsPerUser: 1000, allocationsPerSource: 1000 },
    })
    peerPort = await freePorts()
    for (const address of ['127.0.0.1', '::1']) {
      peers.push(spawn('turnutils_peer', ['-L', address, '-p', `${peerPort}`], { stdio: 'ignore' }))
    }
  })

  after(async () => {
    await Promise.all(peers.map(stop))
    await service.close()
  })

  // All that pass against coturn itself, but for combinations that add nothing; its -N, -O and -P (passive RFC 6062) do
  // not, -R spoils bytes at random and waits for ever for an answer to what is no STUN message then, -S without -t is DTLS.
  const modes: [what: string, args: string[], port?: 'tls' | 'udp6'][] = [
    ['channels over UDP', []],
    ['Send and Data indications', ['-s']],
    ['two clients with each other', ['-y', '-c']],
    ['two clients, by Send', ['-y', '-c', '-s']],
    ['TCP', ['-t']],
    ['TCP, by Send', ['-t', '-s']],
    // It takes one message from each read of TLS, and loses a second one that has come by then: from coturn too.
    ['TLS', ['-t', '-S', '-c', '-z', '100'], 'tls'],
    ['an IPv6 relay', ['-x', '-e', '::1']],
    ['an IPv6 relay, over TCP', ['-x', '-t', '-e', '::1']],
    ['an IPv6 relay, over IPv6', ['-x', '-e', '::1'], 'udp6'],
    ['an IPv4 relay, over IPv6', ['-X'], 'udp6'],
    ['a dual allocation', ['-Z']],
    ['a dual allocation, over TCP, by Send', ['-Z', '-t', '-s']],
    ['DONT-FRAGMENT', ['-g']],
    ['padded ChannelData over UDP', ['-D']],
    ['mobility', ['-M']],
    ['mobility, by Send', ['-M', '-s']],
    ['mobility, over TCP', ['-M', '-t']],
    ['TCP allocations (RFC 6062)', ['-T']],
    ['TCP allocations, over TLS', ['-T', '-S'], 'tls'],
    ['requests it need not make', ['-G']],
    ['time-limited credentials', ['-W', 'shared secret']],
    ['time-limited credentials, over TCP', ['-t', '-W', 'shared secret']],
    ['clients that leave in the middle', ['-B']],
    ['messages of 1,400 bytes', ['-l', '1400']],
  ]
  for (const [what, args, at] of modes) {
    test(`loses nothing: ${what}`, async () => {
      const [tcp, tls] = service.streamAddresses
      const udp6 = service.udpAddresses[1]
      const { port } = (at === 'tls' ? tls : at === 'udp6' ? udp6 : tcp) ?? {}
      const { text } = await output('turnutils_uclient', [
        ...['-u', 'user', '-w', 'pass', '-e', '127.0.0.1', '-r', `${peerPort}`, '-p', `${port ?? 0}`],
        ...['-n', '5', '-m', '2', ...args, at === 'udp6' ? '::1' : '127.0.0.1'],
      ])
      assert.match(text, /Total lost packets 0 \(0\.000000%\), total send dropped 0 /, text.slice(-2000))
    })
  }

  test('is refused with a wrong password', async () => {
    const { code, text } = await output('turnutils_uclient', [
      ...['-u', 'user', '-w', 'wrong', '-e', '127.0.0.1', '-r', `${peerPort}`],
      ...['-p', `${service.udpAddresses[0]?.port ?? 0}`, '-n', '1', '127.0.0.1'],
    ])
    assert.notEqual(code, 0)
    assert.match(text, /Cannot complete Allocation/)
  })
})

for (const transport of ['udp', 'tcp'] as const) {
  test(`werift connects by relay candidates alone, by ${transport}`, { timeout: 60_000 }, async () => {
    const service = await TurnService.listen({
      users: new StaticUsers(realm, { user: 'pass' }),
      addresses: [{ host: '127.0.0.1' }],
      peers: { allow: ['127.0.0.1'] },
      listen: [{ host: '127.0.0.1', port: 0, transport }],
    })
    const { port = 0 } = (transport === 'udp' ? service.udpAddresses : service.streamAddresses)[0] ?? {}
    try {
      const pair = join(import.meta.dirname, 'werift-pair.ts')
      const child = spawn(process.execPath, ['--import', 'tsx', pair, transport, String(port)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let said = ''
      child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
      await once(child, 'close')
      assert.equal(said, 'hello, through the relay')
      assert.equal(service.host.relay.counters.allocationsMade, 2)
      assert.ok(service.host.relay.counters.packetsToPeers > 0)
    } finally {
      await service.close()
    }
  })
}

test('node-datachannel connects by relay candidates alone', async () => {
  const service = await TurnService.listen({
    users: new StaticUsers(realm, { user: 'pass' }),
    addresses: [{ host: '127.0.0.1' }],
    peers: { allow: ['127.0.0.1'] },
    listen: [{ host: '127.0.0.1', port: 0, transport: 'udp' }],
  })
  const { port = 0 } = service.udpAddresses[0] ?? {}
  const made = ['one', 'two'].map(
    (name) =>
      new PeerConnection(name, {
        iceServers: [`turn:user:pass@127.0.0.1:${port}?transport=udp`],
        iceTransportPolicy: 'relay',
      }),
  )
  const [one, two] = made
  assert.ok(one && two)
  try {
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      from.onLocalDescription((sdp, type) => to.setRemoteDescription(sdp, type))
      from.onLocalCandidate((candidate, mid) => {
        assert.match(candidate, /typ relay/)
        to.addRemoteCandidate(candidate, mid)
      })
    }
    const echo = new Promise<string>((resolve) => {
      two.onDataChannel((channel: DataChannel) => {
        channel.onMessage((message) => channel.sendMessage(`${text(message)}, through the relay`))
      })
      const channel = one.createDataChannel('test')
      channel.onOpen(() => channel.sendMessage('hello'))
      channel.onMessage((message) => {
        resolve(text(message))
      })
    })
    assert.equal(await echo, 'hello, through the relay')
    assert.equal(service.host.relay.allocations.size, 2)
    assert.ok(service.host.relay.counters.packetsToPeers > 0)
  } finally {
    for (const peer of made) peer.close()
    // Its threads would keep the process alive.
    cleanup()
    await service.close()
  }
})

function text(message: string | Buffer | ArrayBuffer): string {
  return typeof message === 'string' ? message : Buffer.from(message as ArrayBuffer).toString()
}
