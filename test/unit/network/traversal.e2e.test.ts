// 2 s. What a node learns of its public address from STUN servers, says to others, and serves itself.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { formatAddress } from '../../../src/core/address.ts'
import { silentLogger } from '../../../src/core/logger.ts'
import { systemRng } from '../../../src/core/ports.ts'
import {
  getMappedAddress,
  StunResponder,
  StunServer,
  StunService,
  unknownAddress,
  type PublicAddress,
} from '../../../src/stun/index.ts'
import type { TraversalService } from '../../../src/network/index.ts'
import { StunTraversal } from '../../../src/network/stun-traversal.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { dial, listen, makeNode, makePair } from './nodes.ts'

/** A STUN server that sees everybody at another address than they have, as behind a NAT. */
async function translatingServer(t: TestContext, host: string, seen = '203.0.113.7'): Promise<string> {
  const endpoint = await UdpEndpoint.bind({ host, port: 0 })
  t.after(() => endpoint.close())
  const responder = new StunResponder({ rng: systemRng })
  const asSeen = new Proxy(responder, {
    get: (target, key) =>
      key === 'respond'
        ? (...[now, view, arrival]: Parameters<StunResponder['respond']>) => {
            const source = { address: seen, port: arrival.source.port }
            const reply = target.respond(now, view, { ...arrival, source })
            return reply && { ...reply, to: arrival.source }
          }
        : (Reflect.get(target, key) as unknown),
  })
  endpoint.attach(new StunServer(asSeen), () => undefined)
  return `stun:${formatAddress(endpoint.address)}`
}

test('two servers agree: the address is the first of all, in the record and in tickets', async (t) => {
  const stun = [await translatingServer(t, '127.0.0.2'), await translatingServer(t, '127.0.0.3')]
  const { network } = makeNode(t, { host: '0.0.0.0', stun, services: [{ name: 'x', host: '::1', port: 1 }] })
  await network.start()
  const expected = { address: '203.0.113.7', port: network.boundAddress.port }
  const seen = network.publicAddress
  assert.ok(seen.known)
  assert.deepEqual(seen.address, expected)
  assert.deepEqual(seen.observers.map(({ address }) => address).sort(), ['127.0.0.2', '127.0.0.3'])
  assert.deepEqual(network.address(), expected)
  assert.deepEqual(network.self.addresses[0], expected)
  assert.deepEqual((await network.createTicket({ service: 'x' })).addresses[0], expected)
})

test('servers that disagree leave the own addresses, and a typed reason', async (t) => {
  const stun = [
    await translatingServer(t, '127.0.0.2', '203.0.113.7'),
    await translatingServer(t, '127.0.0.3', '203.0.113.8'),
  ]
  const { network } = makeNode(t, { host: '0.0.0.0', stun })
  await network.start()
  let seen: PublicAddress = network.publicAddress
  if (!seen.known && seen.reason === 'pending')
    [seen] = (await once(network, 'publicAddress')) as [PublicAddress]
  assert.ok(!seen.known)
  assert.equal(seen.reason, 'per-destination')
  assert.deepEqual(seen.seen.map(({ address }) => address).sort(), ['203.0.113.7', '203.0.113.8'])
  assert.notEqual(network.address().address, '203.0.113.7')
})

test('without servers nothing is asked, and the own addresses stand', async (t) => {
  const { network } = makeNode(t)
  await network.start()
  assert.deepEqual(network.publicAddress, unknownAddress('no-servers'))
  assert.deepEqual(network.address(), network.boundAddress)
})

test('a change is an event, and a new record for the others', async (t) => {
  let change: ((next: PublicAddress) => void) | undefined
  const traversal: { publicAddress: PublicAddress } & TraversalService = {
    publicAddress: unknownAddress('pending'),
    start(_endpoint: UdpEndpoint, _signal: AbortSignal, onChange: () => void) {
      change = (next) => {
        this.publicAddress = next
        onChange()
      }
      return Promise.resolve()
    },
    stop: () => Promise.resolve(),
  }
  const { network, directory } = makeNode(t, { traversal })
  await network.start()
  const { id, self: before } = network
  const address = { address: '203.0.113.9', port: 4242 }
  const event = once(network, 'publicAddress')
  change!({ known: true, address, observers: [] })
  assert.deepEqual(await event, [{ known: true, address, observers: [] }])
  assert.ok(network.self.sequence > before.sequence)
  assert.deepEqual(network.self.addresses[0], address)
  await network.stop()
  assert.deepEqual((await directory.get(id))?.addresses[0], address)
})

test('a node answers Binding requests on its port while it moves bulk data', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: '*' })
  const forward = await b.network.forward({ to: { id: a.network.id, service: 'echo' }, port: 0 })
  const socket = await dial(forward.address.port)
  const sent = Buffer.alloc(4_000_000, 'natwork ')
  const received = (async () => {
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks)
  })()
  socket.end(sent)
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => getMappedAddress(`stun:${formatAddress(a.network.boundAddress)}`)),
  )
  assert.ok(answers.every(({ mappedAddress }) => mappedAddress.address === '127.0.0.1'))
  assert.ok((await received).equals(sent))
})

test('a stuns: server is refused with what to write', async (t) => {
  const { network } = makeNode(t, { stun: ['stuns:stun.example.org'] })
  await assert.rejects(network.start(), { code: 'ERR_NATWORK_STUN_CONFIG', message: /only stun: over UDP/ })
})

test('how the NAT behaves is known soon after the address, from the very port', async (t) => {
  const service = await StunService.listen({
    host: '127.0.0.2',
    port: await freePort(t),
    alternate: { host: '127.0.0.3', port: await freePort(t) },
    tcp: false,
  })
  t.after(() => service.close())
  const endpoint = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  t.after(() => endpoint.close())
  const stun = new StunTraversal([`stun:${formatAddress(service.udpAddresses[0]!)}`], silentLogger)
  await stun.start(endpoint, new AbortController().signal, () => undefined)
  assert.ok(stun.publicAddress.known)
  while (stun.nat.ports === undefined) await new Promise((resolve) => setTimeout(resolve, 10))
  assert.deepEqual(stun.nat, {
    mapping: 'endpoint-independent',
    filtering: 'endpoint-independent',
    ports: 'preserving',
  })
  await stun.stop()
  assert.deepEqual(stun.nat, {})
})

async function freePort(t: TestContext): Promise<number> {
  const endpoint = await UdpEndpoint.bind({ host: '127.0.0.2', port: 0 })
  t.after(() => endpoint.close())
  const { port } = endpoint.address
  await endpoint.close()
  return port
}
