// 4 s. Nodes on helpers, over loopback: who they hang on, what their records say, and what is left when a helper dies.
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { formatAddress } from '../../../src/core/index.ts'
import {
  parseHelper,
  parseTicket,
  type Network,
  type NetworkOptions,
  type NodeInfo,
} from '../../../src/network/index.ts'
import { createIdentity } from '../../../src/network/identity.ts'
import { signNodeInfo } from '../../../src/network/node-info.ts'
import { Exchange } from '../../../src/network/signalling/exchange.ts'
import { makeNode, type Node } from './nodes.ts'

const helperText = ({ network }: Node): string => `${network.id}@${formatAddress(network.boundAddress)}`

async function startNode(t: TestContext, options: NetworkOptions = {}): Promise<Node> {
  const node = makeNode(t, options)
  await node.network.start()
  return node
}

async function until(network: Network, count: number): Promise<void> {
  while (network.helpers.length !== count) await once(network, 'helpers')
}

test('a started node hangs on its helper: its record and its tickets say so', async (t) => {
  const helper = await startNode(t, { help: true })
  const node = await startNode(t, {
    helpers: [helperText(helper)],
    services: [{ name: 'web', host: '127.0.0.1', port: 1 }],
  })
  const reference = { id: helper.network.id, address: helper.network.boundAddress }
  assert.deepEqual(
    node.network.helpers.map(({ id, address }) => ({ id, address })),
    [reference],
  )
  assert.deepEqual(node.network.self.helpers, [reference])
  assert.equal(node.network.self.helps, false)
  assert.equal(helper.network.self.helps, true)
  // The helper answers STUN on the same port: the node knows how it looks from outside.
  assert.deepEqual(
    node.network.publicAddress.known && node.network.publicAddress.address,
    node.network.boundAddress,
  )
  const { text } = await node.network.createTicket({ service: 'web' })
  assert.deepEqual(parseTicket(text).helpers, [reference])
})

test('a node that does not help refuses, and the start does not fail for it', async (t) => {
  const other = await startNode(t)
  const node = await startNode(t, { helpers: [helperText(other)] })
  assert.deepEqual(node.network.helpers, [])
  assert.deepEqual(node.network.self.helpers, [])
})

test('a node on helpers hears of a new record through them: its NAT meets no datagram uninvited', async (t) => {
  const helper = await startNode(t, { help: true })
  const helped = { helpers: [helperText(helper)] }
  const [b, stranger] = await Promise.all([startNode(t, helped), startNode(t, helped)])
  const dialled: string[] = []
  const a = makeNode(t, helped, {
    connectToNode: async (id, { dial }) => {
      dialled.push(id)
      return await dial()
    },
  })
  await a.directory.put(b.network.self)
  await a.directory.put(stranger.network.self)
  // Only one of them knows the node that speaks: only that one keeps what it says.
  const identity = await createIdentity(await a.context.getPrivateKey())
  await b.directory.put(signNodeInfo(identity, { addresses: [], sequence: 1, expires: 0 }))
  const hears = once(b.network, 'nodeUpdated') as Promise<[NodeInfo]>
  await a.network.start()
  const [told] = await hears
  assert.equal(told.id, a.network.id)
  assert.ok(told.sequence > 1)
  assert.equal(await stranger.directory.get(a.network.id), undefined)
  assert.deepEqual([...new Set(dialled)], [helper.network.id])
})

test('a lost helper is replaced and found again; the record follows', async (t) => {
  const [first, second] = await Promise.all([startNode(t, { help: true }), startNode(t, { help: true })])
  const port = first.network.boundAddress.port
  const node = await startNode(t, { helpers: [helperText(first), helperText(second)] })
  await until(node.network, 2)
  await first.network.stop()
  await until(node.network, 1)
  assert.deepEqual(
    node.network.self.helpers?.map(({ id }) => id),
    [second.network.id],
  )
  const again = makeNode(t, { help: true, port }, first.context)
  await again.network.start()
  await until(node.network, 2)
  const { helpers = [] } = node.network.self
  assert.equal(helpers.length, 2)
})

test('helpers of the directory are used when none is configured', async (t) => {
  const helper = await startNode(t, { help: true })
  const stranger = await startNode(t)
  const node = makeNode(t)
  await node.directory.put(stranger.network.self)
  await node.directory.put(helper.network.self)
  await node.network.start()
  await until(node.network, 1)
  assert.equal(node.network.helpers[0]?.id, helper.network.id)
})

test('ID@HOST:PORT is read, and mistakes are named', () => {
  const id = 'b' + 'a'.repeat(52)
  assert.deepEqual(parseHelper(`${id}@helper.example:1315`), { id, host: 'helper.example', port: 1315 })
  assert.deepEqual(parseHelper(`${id}@[2001:db8::1]:1315`), { id, host: '2001:db8::1', port: 1315 })
  for (const text of ['', id, `${id}@host`, `${id}@host:0`, `${id}@host:99999`, '@host:1']) {
    assert.throws(() => parseHelper(text), { code: 'ERR_NATWORK_HELPER' })
  }
  assert.throws(() => parseHelper('nobody@host:1'), { code: 'ERR_NATWORK_NODE_ID' })
})

test('the very first record that a helper gets of a node names the helper', async (t) => {
  const attach = t.mock.method(Exchange.prototype, 'attach')
  const [first, second] = await Promise.all([startNode(t, { help: true }), startNode(t, { help: true })])
  const node = await startNode(t, { helpers: [helperText(first), helperText(second)] })
  await until(node.network, 2)
  const records = attach.mock.calls.map(({ arguments: [, info], this: exchange }) => ({ info, exchange }))
  for (const helper of [first, second]) {
    const told = records.filter(({ info }) => info.helpers?.some(({ id }) => id === helper.network.id))
    assert.ok(told.length > 0)
  }
  for (const exchange of new Set(records.map((one) => one.exchange))) {
    const [earliest] = records.filter((one) => one.exchange === exchange)
    assert.ok((earliest?.info.helpers?.length ?? 0) > 0, 'the first record named no helper')
  }
})

test('a caller who knows only addresses that are dead asks before they have failed', async (t) => {
  const helper = await startNode(t, { help: true })
  const callee = await startNode(t, { helpers: [helperText(helper)] })
  // Waiting for them would take longer than the whole call may.
  const utp = { connection: { connectTimeout: 60_000_000 } }
  const caller = makeNode(t, { helpers: [helperText(helper)], timeouts: { headStart: 100 }, utp })
  // A record of earlier, by the same key: nobody listens there, and nothing says so.
  const identity = await createIdentity(await callee.context.getPrivateKey())
  const silent = createSocket('udp4').bind(0, '127.0.0.1')
  await once(silent, 'listening')
  t.after(() => silent.close())
  const addresses = [{ address: '127.0.0.1', port: silent.address().port }]
  await caller.directory.put(signNodeInfo(identity, { addresses, sequence: 1, expires: 2_000_000_000 }))
  await caller.network.start()
  const pinger = await caller.network.ping(callee.network.id)
  pinger.close()
})
