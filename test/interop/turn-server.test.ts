import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import test, { after, before, describe } from 'node:test'
import { cleanup, PeerConnection, type DataChannel } from 'node-datachannel'
import { StaticUsers } from '../../src/stun/credentials/server.ts'
import { AnyOfUsers, SharedSecretUsers, TurnService } from '../../src/turn/index.ts'
import { certificate, freePorts, missing, output, stop } from './stun-peers.ts'

// Other people's clients against our server, all on loopback. About 25 seconds.

const skip = missing('turnutils_uclient', 'turnutils_peer')
const realm = 'natwork.test'

describe('coturn’s turnutils_uclient', { skip, concurrency: 4 }, () => {
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

  const modes: [what: string, args: string[], tls?: boolean][] = [
    ['channels over UDP', []],
    ['Send and Data indications', ['-s']],
    ['two clients with each other', ['-y', '-c']],
    ['two clients, by Send', ['-y', '-c', '-s']],
    ['TCP', ['-t']],
    ['TCP, by Send', ['-t', '-s']],
    ['TLS', ['-t', '-S'], true],
    ['an IPv6 relay', ['-x', '-e', '::1']],
    ['a dual allocation', ['-Z']],
    ['DONT-FRAGMENT', ['-g']],
    ['padded ChannelData over UDP', ['-D']],
    ['mobility', ['-M']],
    ['mobility, by Send', ['-M', '-s']],
    ['TCP allocations (RFC 6062)', ['-T']],
    ['requests it need not make', ['-G']],
    ['time-limited credentials', ['-W', 'shared secret']],
    ['messages of 1,400 bytes', ['-l', '1400']],
  ]
  for (const [what, args, tls] of modes) {
    test(`loses nothing: ${what}`, async () => {
      const [stream, secure] = service.streamAddresses
      const port = tls === true ? secure?.port : stream?.port
      const { text } = await output('turnutils_uclient', [
        ...['-u', 'user', '-w', 'pass', '-e', '127.0.0.1', '-r', `${peerPort}`, '-p', `${port ?? 0}`],
        ...['-n', '5', '-m', '2', ...args, '127.0.0.1'],
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
