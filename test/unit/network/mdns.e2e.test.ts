// 6 s. Real multicast, on loopback; test/lab/mdns.test.ts has it on a network.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { createContext, memoryDirectory } from '../../../src/directory/index.ts'
import { generatePrivateKey, nodeIdOf, type NodeId } from '../../../src/network/index.ts'
import { localLinks } from '../../../src/mdns/driver/links.ts'
import { openSocket } from '../../../src/mdns/driver/socket.ts'
import { MDNS_GROUP, MDNS_PORT, writeAnnouncement } from '../../../src/mdns/message.ts'
import { makeNode, type Node } from './nodes.ts'

async function start(t: TestContext, mdns: boolean | 'browse'): Promise<Node> {
  const node = makeNode(t, { mdns })
  await node.network.start()
  return node
}

async function reaches({ network }: Node, id: NodeId): Promise<void> {
  const pinger = await network.ping(id)
  await pinger.roundTrip()
  pinger.close()
}

/** Says, once, that a node is at that port of this machine. */
async function claim(id: NodeId, port: number): Promise<void> {
  const [link] = localLinks({ address: '127.0.0.1', port: 0 })
  assert.ok(link)
  const ignore = (): void => undefined
  const socket = await openSocket(link, ignore, ignore)
  const bytes = writeAnnouncement({ label: id, port, addresses: ['127.0.0.1'] })
  socket.send({ address: MDNS_GROUP[4], port: MDNS_PORT }, bytes)
  await socket.close()
}

test('an id is enough for a node of the same network, also for one that only looks', async (t) => {
  const a = await start(t, true)
  const b = await start(t, 'browse')
  await reaches(b, a.network.id)
  const [near] = b.network.nearby.filter(({ id }) => id === a.network.id)
  assert.deepEqual(near?.addresses, [a.network.boundAddress])
  assert.ok(!a.network.nearby.some(({ id }) => id === b.network.id))

  await a.network.stop()
  while (b.network.nearby.some(({ id }) => id === a.network.id)) await once(b.network, 'nearby')
})

test('where the record is old, the network knows better', async (t) => {
  const a = makeNode(t, { mdns: true })
  await a.network.start()
  const b = await start(t, 'browse')
  const old = a.network.self
  await a.network.stop()
  await a.network.start()
  assert.notEqual(a.network.boundAddress.port, old.addresses[0]?.port)
  await b.directory.put(old)
  await reaches(b, a.network.id)
})

test('a liar is found out, and keeps nobody from the right one', async (t) => {
  const b = await start(t, 'browse')
  const liar = await start(t, false)
  const key = generatePrivateKey()
  const id = nodeIdOf(key)
  const isClaimed = (): boolean => b.network.nearby.some((one) => one.id === id)
  await claim(id, liar.network.boundAddress.port)
  while (!isClaimed()) await once(b.network, 'nearby')
  await assert.rejects(b.network.ping(id), { code: 'ERR_NATWORK_IDENTITY' })

  const right = makeNode(t, { mdns: true }, createContext({ directory: memoryDirectory(), privateKey: key }))
  await right.network.start()
  const isThere = (): boolean =>
    b.network.nearby.some(
      (one) => one.id === id && one.addresses.some(({ port }) => port === right.network.boundAddress.port),
    )
  while (!isThere()) await once(b.network, 'nearby')
  await reaches(b, id)
})

test('one that nobody answers for is unknown, and the wait for it can be broken off', async (t) => {
  const b = await start(t, 'browse')
  const id = nodeIdOf(generatePrivateKey())
  await assert.rejects(b.network.ping(id), { code: 'ERR_NATWORK_NODE_UNKNOWN' })
  const abort = new AbortController()
  const ping = b.network.ping(id, { signal: abort.signal })
  abort.abort(new Error('enough'))
  await assert.rejects(ping, /enough/)
  const stopped = assert.rejects(b.network.ping(id), { code: 'ERR_NATWORK_STOPPED' })
  await b.network.stop()
  await stopped
})

test('switched off, nothing is said and nothing is looked for', async (t) => {
  const looking = await start(t, 'browse')
  const off = await start(t, false)
  await assert.rejects(looking.network.ping(off.network.id), { code: 'ERR_NATWORK_NODE_UNKNOWN' })
  await assert.rejects(off.network.ping(nodeIdOf(generatePrivateKey())), { code: 'ERR_NATWORK_NODE_UNKNOWN' })
  assert.deepEqual(off.network.nearby, [])
})
