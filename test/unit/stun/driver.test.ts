import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, connect, type AddressInfo } from 'node:net'
import test from 'node:test'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { StunBuilder } from '../../../src/stun/codec/builder.ts'
import { Attribute, MessageClass, Method } from '../../../src/stun/codec/registry.ts'
import { StunView } from '../../../src/stun/codec/view.ts'
import { LongTermAuth } from '../../../src/stun/credentials/client.ts'
import { LongTermServerAuth, StaticUsers } from '../../../src/stun/credentials/server.ts'
import { StunAgent } from '../../../src/stun/driver/agent.ts'
import { StunConnection } from '../../../src/stun/driver/connection.ts'
import { discoverMtu } from '../../../src/stun/driver/mtu.ts'
import { discoverStunServers, type StunResolver } from '../../../src/stun/driver/discover.ts'
import { getMappedAddress } from '../../../src/stun/driver/mapped-address.ts'
import { StunService } from '../../../src/stun/driver/service.ts'
import { StunFramer } from '../../../src/stun/framing.ts'
import { formatStunUri, parseStunUri } from '../../../src/stun/uri.ts'
import { certificate } from '../../interop/stun-peers.ts'
import * as vectors from './vectors.ts'

test('stun: and stuns: URIs (RFC 7064 appendix A, RFC 8489 §8.1)', () => {
  for (const [text, uri] of [
    ['stun:example.org', { scheme: 'stun', host: 'example.org', port: undefined }],
    ['STUNS:example.org', { scheme: 'stuns', host: 'example.org', port: undefined }],
    ['stun:example.org:8000', { scheme: 'stun', host: 'example.org', port: 8000 }],
    ['stun:192.0.2.1:', { scheme: 'stun', host: '192.0.2.1', port: undefined }],
    ['stun:[2001:db8::1]:3478', { scheme: 'stun', host: '2001:db8::1', port: 3478 }],
  ] as const) {
    assert.deepEqual(parseStunUri(text), uri)
    assert.deepEqual(parseStunUri(formatStunUri(uri)), uri)
  }
  const bad = [
    '',
    'example.org',
    'stun:',
    'stun://example.org',
    'turn:example.org',
    'stun:a:0',
    'stun:a:65536',
  ]
  bad.push(
    'stun:2001:db8::1',
    'stun:[1.2.3.4]',
    'stun:a?transport=udp',
    'stuns:192.0.2.1',
    'stuns:[::1]',
    'stun:a b',
  )
  for (const text of bad) assert.throws(() => parseStunUri(text), { code: 'ERR_NATWORK_STUN_URI' }, text)
})

test('a byte stream is cut into messages wherever it is torn apart', () => {
  const stream = Buffer.concat([vectors.request, vectors.responseV4, vectors.sha256Request])
  for (let size = 1; size <= stream.length; size++) {
    const messages: string[] = []
    const framer = new StunFramer(1000, (message) => messages.push(Buffer.from(message).toString('hex')))
    for (let at = 0; at < stream.length; at += size) assert.ok(framer.push(stream.subarray(at, at + size)))
    assert.deepEqual(
      messages,
      [vectors.request, vectors.responseV4, vectors.sha256Request].map((m) => Buffer.from(m).toString('hex')),
    )
  }
  const refuse = (bytes: Uint8Array, max = 1000): void => {
    assert.ok(!new StunFramer(max, () => assert.fail()).push(bytes))
  }
  refuse(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n'))
  refuse(vectors.request, 100)
})

const srv = (name: string, priority: number, weight: number) => ({
  name,
  port: 1000 + priority,
  priority,
  weight,
})

function resolver(
  records: Record<string, ReturnType<typeof srv>[]>,
  hosts: Record<string, string[]>,
): StunResolver {
  return {
    resolveSrv: (name) =>
      records[name] ? Promise.resolve(records[name]) : Promise.reject(new Error('ENOTFOUND')),
    lookup: (name) =>
      hosts[name]
        ? Promise.resolve(hosts[name].map((address) => ({ address })))
        : Promise.reject(new Error(`ENOTFOUND ${name}`)),
  }
}

test('discovery: SRV by priority and weight, else the name itself; IPv6 and IPv4 alternate', async () => {
  const dns = resolver(
    {
      '_stun._udp.example.org': [
        srv('late', 20, 1),
        srv('never', 10, 0),
        srv('first', 10, 100),
        srv('gone', 30, 1),
      ],
      '_stuns._tcp.example.org': [srv('first', 10, 1)],
      '_stun._tcp.example.org': [srv('.', 0, 0)],
    },
    {
      first: ['192.0.2.1', '192.0.2.2', '2001:db8::1'],
      never: ['192.0.2.3'],
      late: ['192.0.2.4'],
      'example.org': ['192.0.2.9'],
    },
  )
  const rng = { uint32: () => 0x80000000, fill: (bytes: Uint8Array) => bytes.fill(0) }
  const find = (text: string, more = {}) =>
    discoverStunServers(parseStunUri(text), { resolver: dns, rng, ...more }).then((targets) =>
      targets.map((target) => target.map(({ address, port }) => `${address} ${port}`)),
    )
  assert.deepEqual(await find('stun:example.org'), [
    ['2001:db8::1 1010', '192.0.2.1 1010', '192.0.2.2 1010'],
    ['192.0.2.3 1010'],
    ['192.0.2.4 1020'],
  ])
  assert.deepEqual(await find('stun:example.org', { family: 6 }), [['2001:db8::1 1010']])
  assert.deepEqual(await find('stuns:example.org'), [
    ['2001:db8::1 1010', '192.0.2.1 1010', '192.0.2.2 1010'],
  ])
  assert.deepEqual(await find('stun:example.org', { transport: 'tcp' }), [['192.0.2.9 3478']])
  assert.deepEqual(await find('stun:example.org:7'), [['192.0.2.9 7']])
  assert.deepEqual(await find('stun:192.0.2.8'), [['192.0.2.8 3478']])
  await assert.rejects(find('stun:nowhere.example'), { code: 'ERR_NATWORK_STUN_DNS' })
  await assert.rejects(
    find('stun:first', { family: 6 }).then(() => find('stun:late', { family: 6 })),
    {
      code: 'ERR_NATWORK_STUN_DNS',
    },
  )
})

test('our server and our client over UDP, TCP and TLS', async () => {
  const tls = await certificate()
  const service = await StunService.listen({ host: '127.0.0.1', port: 0, tls: { ...tls, port: 0 } })
  try {
    const { port } = service.udpAddresses[0]!
    assert.equal(service.tcpAddresses[0]!.port, port)
    for (const transport of ['udp', 'tcp'] as const) {
      const found = await getMappedAddress(`stun:127.0.0.1:${port}`, { transport })
      assert.deepEqual(found.mappedAddress, { address: '127.0.0.1', port: found.localAddress.port })
      assert.equal(found.transport, transport)
      assert.ok(found.rtt !== undefined && found.rtt >= 0)
    }
    const uri = `stuns:localhost:${service.tlsAddresses[0]!.port}`
    const found = await getMappedAddress(uri, { ca: tls.cert, family: 4 })
    assert.deepEqual(found.mappedAddress, found.localAddress)
    const unknown = (await certificate()).cert
    const refused = { code: 'ERR_NATWORK_STUN_CONNECTION' }
    await assert.rejects(getMappedAddress(uri, { ca: unknown, family: 4 }), refused)
    const other = { servername: 'other.example', ca: tls.cert }
    await assert.rejects(StunConnection.connect(service.tlsAddresses[0]!, { tls: other }), refused)
    assert.equal(service.counters.responses, 3)
  } finally {
    await service.close()
  }
})

test('an endpoint of the user’s own is asked from, and stays open', async () => {
  const service = await StunService.listen({ host: '127.0.0.1', port: 0, tcp: false })
  const endpoint = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  try {
    const uri = `stun:127.0.0.1:${service.udpAddresses[0]!.port}`
    for (let n = 0; n < 2; n++) {
      assert.deepEqual((await getMappedAddress(uri, { endpoint })).mappedAddress, endpoint.address)
    }
    const agent = new StunAgent(endpoint)
    const many = await Promise.all(Array.from({ length: 10 }, () => agent.request(service.udpAddresses[0]!)))
    for (const { response } of many) assert.deepEqual(response.mappedAddress(), endpoint.address)
    const silent = agent.request({ address: '127.0.0.1', port: 1 })
    agent.close()
    await assert.rejects(silent, { code: 'ERR_NATWORK_STUN_ABORTED' })
  } finally {
    await endpoint.close()
    await service.close()
  }
})

test('credentials over the wire; RFC 5780 wants two whole addresses', async () => {
  const auth = new LongTermServerAuth(
    new StaticUsers('example.org', { alice: 'wonderland' }),
    Buffer.alloc(32, 3),
    6e8,
  )
  const service = await StunService.listen({ host: '127.0.0.1', port: 0, auth })
  try {
    const uri = `stun:127.0.0.1:${service.udpAddresses[0]!.port}`
    for (const transport of ['udp', 'tcp'] as const) {
      await getMappedAddress(uri, { transport, auth: new LongTermAuth('alice', 'wonderland') })
      const wrong = getMappedAddress(uri, { transport, auth: new LongTermAuth('alice', 'queen') })
      await assert.rejects(wrong, { code: 'ERR_NATWORK_STUN_RESPONSE', status: 401 })
    }
  } finally {
    await service.close()
  }
  const bad = { code: 'ERR_NATWORK_STUN_CONFIG' }
  await assert.rejects(
    StunService.listen({ host: '0.0.0.0', alternate: { host: '127.0.0.2', port: 1 } }),
    bad,
  )
  await assert.rejects(
    StunService.listen({ host: '127.0.0.1', alternate: { host: '127.0.0.1', port: 1 } }),
    bad,
  )
})

test('how large packets may be: what is lost all at once is asked again', async (t) => {
  const endpoint = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  const server = createSocket('udp4')
  t.after(async () => {
    await endpoint.close()
    server.close()
  })
  server.bind(0, '127.0.0.1')
  await once(server, 'listening')
  const asked: number[] = []
  server.on('message', (bytes, from) => {
    // The first round is lost, and of the second all that is longer than a tunnel takes.
    if (asked.push(bytes.length) <= 24 || bytes.length > 1420 - 28) return
    const request = new StunView()
    assert.ok(request.open(bytes))
    const response = new StunBuilder().startResponse(request, MessageClass.Success)
    server.send(response.xorAddress(Attribute.XorMappedAddress, from).copy(), from.port, from.address)
  })
  const { value } = await discoverMtu(endpoint, server.address())
  assert.equal(value, 1420)
  assert.equal(asked.length, 48)
})

test('a signal gives up, before and during', async () => {
  const gone = { code: 'ERR_NATWORK_STUN_ABORTED' }
  const uri = 'stun:127.0.0.1:1'
  await assert.rejects(getMappedAddress(uri, { signal: AbortSignal.abort() }), gone)
  const listener = createServer(() => undefined).listen(0, '127.0.0.1')
  await new Promise((resolve) => listener.once('listening', resolve))
  const { port } = listener.address() as AddressInfo
  for (const transport of ['udp', 'tcp'] as const) {
    const controller = new AbortController()
    const asked = getMappedAddress(`stun:127.0.0.1:${port}`, { transport, signal: controller.signal })
    setImmediate(() => controller.abort())
    await assert.rejects(asked, gone)
  }
  listener.close()
})

test('a connection that ends, or speaks something else, fails what is open on it', async () => {
  const listener = createServer((socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => listener.once('listening', resolve))
  const { port } = listener.address() as AddressInfo
  const ended = { code: 'ERR_NATWORK_STUN_CONNECTION' }
  await assert.rejects(getMappedAddress(`stun:127.0.0.1:${port}`, { transport: 'tcp' }), ended)
  listener.close()
  await assert.rejects(getMappedAddress(`stun:127.0.0.1:${port}`, { transport: 'tcp' }), ended)
})

test('the server closes connections that are silent or speak no STUN', async () => {
  const service = await StunService.listen({ host: '127.0.0.1', port: 0, idleTimeout: 50 })
  try {
    const at = service.tcpAddresses[0]!
    const closed = (first?: string): Promise<void> =>
      new Promise((resolve) => {
        const socket = connect(at.port, at.address, () => first !== undefined && socket.write(first))
        socket.resume()
        socket.once('close', () => resolve())
        socket.once('error', () => undefined)
      })
    await closed()
    await closed('GET / HTTP/1.1\r\nHost: example.org\r\n\r\n')
  } finally {
    await service.close()
  }
})

test('the server answers what comes in pieces', async () => {
  const service = await StunService.listen({ host: '127.0.0.1', port: 0 })
  try {
    const at = service.tcpAddresses[0]!
    const request = new StunBuilder().start(Method.Binding, MessageClass.Request, vectors.iceId).copy()
    const answer = await new Promise<Buffer>((resolve) => {
      const socket = connect({ port: at.port, host: at.address, noDelay: true }, () => {
        socket.write(request.subarray(0, 7))
        setImmediate(() => socket.write(Buffer.concat([request.subarray(7), request])))
      })
      let all = Buffer.alloc(0)
      socket.on('data', (chunk: Buffer) => {
        all = Buffer.concat([all, chunk])
        if (all.length >= 64) {
          socket.destroy()
          resolve(all)
        }
      })
    })
    const view = new StunView()
    assert.ok(view.open(answer.subarray(0, 32)))
    assert.ok(view.has(Attribute.XorMappedAddress))
  } finally {
    await service.close()
  }
})
