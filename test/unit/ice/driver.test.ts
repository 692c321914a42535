// 2 s. ICE on real sockets, on loopback: candidates of interfaces, a path, extra sockets.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { hostCandidates, IceAgent, type IceEvent, type InterfaceAddress } from '../../../src/ice/index.ts'
import type { Carrier, Path } from '../../../src/core/machine.ts'
import { silentLogger } from '../../../src/core/logger.ts'
import { ExtraSockets } from '../../../src/ice/driver/sockets.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'

const LOOPBACK = { host: '127.0.0.1', port: 0 }

function on(name: string, address: string, flags: Partial<InterfaceAddress> = {}): InterfaceAddress {
  return { interface: name, address, temporary: false, unusable: false, ...flags }
}

test('host candidates: those of a wildcard port, without what means nothing elsewhere', () => {
  const addresses = [
    on('lo', '127.0.0.1'),
    on('lo', '::1'),
    on('docker0', '172.17.0.1'),
    on('eth0', '192.168.1.7'),
    on('eth0', 'fe80::1'),
    on('eth0', '2001:db8:0:1:211:22ff:fe33:4455'),
    on('eth0', '2001:db8:0:1:9c1f:1:2:3', { temporary: true }),
    on('eth0', '2001:db8:0:1:aaaa:1:2:3', { temporary: true, unusable: true }),
    on('eth1', '2001:db8:0:2::7'),
    on('wwan0', '203.0.113.7'),
  ]
  const of = (host: string): string[] =>
    hostCandidates({ address: host, port: 9 }, addresses).map(({ address }) => address.address)
  assert.deepEqual(of('::'), [
    '2001:db8:0:1:9c1f:1:2:3',
    '2001:db8:0:2::7',
    '203.0.113.7',
    '192.168.1.7',
    '172.17.0.1',
  ])
  assert.deepEqual(of('0.0.0.0'), ['203.0.113.7', '192.168.1.7', '172.17.0.1'])
  assert.deepEqual(of('10.1.2.3'), ['10.1.2.3'])
  assert.deepEqual(
    hostCandidates({ address: '::', port: 9 }, addresses.slice(0, 2)).map(({ address }) => address.address),
    ['::1', '127.0.0.1'],
  )
})

test('two agents find their path, keep it, and leave nothing behind', async () => {
  const emitter = new EventEmitter()
  const ends = await Promise.all(
    ['a', 'b'].map(async (name) => {
      const endpoint = await UdpEndpoint.bind(LOOPBACK)
      const agent = new IceAgent(endpoint, {
        onEvent: (event: IceEvent) => emitter.emit(`${name} ${event.type}`, event),
      })
      return { endpoint, agent }
    }),
  )
  const [a, b] = [ends[0]!, ends[1]!]
  const sessions = [a, b].map(({ agent }, i) =>
    agent.open({ controlling: i === 0, local: { candidates: agent.hostCandidates() } }),
  )
  const [one, other] = [sessions[0]!, sessions[1]!]
  const found = Promise.all([once(emitter, 'a path'), once(emitter, 'b path')])
  other.setRemote(b.endpoint.now(), { ...one.parameters, candidates: one.localCandidates })
  one.setRemote(a.endpoint.now(), { ...other.parameters, candidates: other.localCandidates })
  a.agent.wake()
  b.agent.wake()
  await found
  assert.deepEqual(one.path?.path.remote, b.endpoint.address)
  assert.deepEqual(other.path?.path.remote, a.endpoint.address)
  assert.equal(one.path.kind, 'direct')
  await Promise.all(ends.map(({ agent }) => agent.close()))
  await Promise.all(ends.map(({ endpoint }) => endpoint.close()))
})

test('extra sockets carry datagrams both ways, within their bound, and are closed', async () => {
  const main = await UdpEndpoint.bind(LOOPBACK)
  const far = await UdpEndpoint.bind(LOOPBACK)
  const emitter = new EventEmitter()
  const listener = (name: string) => ({
    handleDatagram: (_now: number, path: unknown, bytes: Uint8Array) =>
      emitter.emit(name, path, bytes.slice()),
    handleTimeout: () => undefined,
    pollTransmit: () => undefined,
    pollEvent: () => undefined,
    pollTimeout: () => undefined,
  })
  main.attach(listener('main'), () => undefined)
  far.attach(listener('far'), () => undefined)

  const sockets = new ExtraSockets(main, 3, silentLogger)
  const opened: Carrier[] = []
  await sockets.open(5, (carrier) => opened.push(carrier))
  assert.equal(opened.length, 3)
  const [carrier] = opened
  assert.ok(carrier !== undefined)
  const arrived = once(emitter, 'far')
  carrier.send(main.now(), { path: { remote: far.address, via: carrier }, data: Uint8Array.of(1), ttl: 5 })
  const [from] = (await arrived) as [Path]
  assert.notEqual(from.remote.port, main.address.port)
  const back = once(emitter, 'main')
  const reply = new ExtraSockets(far, 1, silentLogger)
  await reply.open(1, (other) => {
    other.send(far.now(), { path: from, data: Uint8Array.of(2) })
  })
  const [path, bytes] = (await back) as [{ via?: Carrier }, Uint8Array]
  assert.equal(path.via, carrier)
  assert.deepEqual([...bytes], [2])

  sockets.close(carrier)
  assert.equal(sockets.size, 2)
  await Promise.all([sockets.closeAll(), reply.closeAll(), main.close(), far.close()])
  assert.equal(sockets.size, 0)
})
