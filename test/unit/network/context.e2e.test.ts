import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import type { Logger } from '../../../src/core/index.ts'
import { createContext, memoryDirectory } from '../../../src/directory/index.ts'
import { signNodeInfo } from '../../../src/network/node-info.ts'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import type { NetworkContext, NodeId, NodeInfo } from '../../../src/network/index.ts'
import { readAll } from './duplex-pair.ts'
import { listen, makeNode, makePair, type Node } from './nodes.ts'

const never = (): Promise<never> => new Promise(() => undefined)
const fail = (): Promise<never> => Promise.reject(new Error('out of order'))

/** A started node with an echo service for everybody. */
async function echoNode(t: Parameters<typeof makeNode>[0]): Promise<Node> {
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  const node = makeNode(t, { services: [{ name: 'echo', host: '127.0.0.1', port, allow: '*' }] })
  await node.network.start()
  return node
}

async function echo(from: Node, to: NodeId, ticket?: string): Promise<void> {
  const stream = await from.network.connect(to, { service: 'echo', ...(ticket !== undefined && { ticket }) })
  stream.end('hello')
  assert.equal((await readAll(stream)).toString(), 'hello')
}

/** Long enough for every callback that answers, on a busy machine too. */
const quick = { timeouts: { callback: 1_000 } }

test('getPrivateKey: asked once by each start; a failure or silence fails the start', async (t) => {
  const key = generatePrivateKey()
  let asked = 0
  const context = createContext({ directory: memoryDirectory(), privateKey: key })
  const getPrivateKey = (): Promise<typeof key> => {
    asked++
    return Promise.resolve(key)
  }
  const node = makeNode(t, {}, { ...context, getPrivateKey })
  await node.network.start()
  await node.network.start()
  assert.equal(asked, 1)
  for (const broken of [fail, never]) {
    const { network } = makeNode(t, quick, { getPrivateKey: broken })
    await assert.rejects(network.start(), {
      name: 'SystemError',
      code: 'ERR_NATWORK_CONTEXT',
      message: /^getPrivateKey (failed: out of order|did not answer within 1000 ms)$/,
    })
  }
})

test('getSelf: asked once by each start; its sequence is exceeded; a wrong record fails the start', async (t) => {
  const key = generatePrivateKey()
  const identity = await createIdentity(key)
  const far = Date.now() + 1_000_000
  let asked = 0
  const context: Partial<NetworkContext> = {
    getPrivateKey: () => Promise.resolve(key),
    getSelf() {
      asked++
      return Promise.resolve(signNodeInfo(identity, { addresses: [], sequence: far, expires: 0 }))
    },
  }
  const { network } = makeNode(t, {}, context)
  await network.start()
  assert.equal(asked, 1)
  assert.equal(network.self.sequence, far + 1)
  assert.deepEqual(network.self.addresses, [network.address()])

  for (const getSelf of [fail, never]) {
    const broken = makeNode(t, quick, { getSelf }).network
    await assert.rejects(broken.start(), { code: 'ERR_NATWORK_CONTEXT', message: /^getSelf / })
  }
  const stranger = makeNode(t, {}, { getSelf: context.getSelf! }).network
  await assert.rejects(stranger.start(), { code: 'ERR_NATWORK_CONTEXT', message: /private key is that of/ })
  const forged = { ...signNodeInfo(identity, { addresses: [], sequence: 1, expires: 0 }), sequence: 2 }
  const liar = makeNode(t, {}, { ...context, getSelf: () => Promise.resolve(forged) }).network
  await assert.rejects(liar.start(), { code: 'ERR_NATWORK_NODE_INFO' })
})

test('getNode: asked at each connect; a ticket helps when it fails or hangs', async (t) => {
  const a = await echoNode(t)
  const asked: NodeId[] = []
  const b = makeNode(
    t,
    {},
    {
      getNode(id) {
        asked.push(id)
        return Promise.resolve(id === a.network.id ? a.network.self : undefined)
      },
    },
  )
  await b.network.start()
  await echo(b, a.network.id)
  await echo(b, a.network.id)
  assert.deepEqual(asked, [a.network.id, a.network.id])

  const { text } = await a.network.createTicket({ service: 'echo' })
  for (const getNode of [fail, never]) {
    const c = makeNode(t, quick, { getNode })
    await c.network.start()
    await assert.rejects(echo(c, a.network.id), { code: 'ERR_NATWORK_CONTEXT', message: /^getNode / })
    await echo(c, a.network.id, text)
  }
})

test('getNode: a record that does not verify, or is of another node, is not used', async (t) => {
  const a = await echoNode(t)
  const forged: NodeInfo = { ...a.network.self, sequence: a.network.self.sequence + 1 }
  const other = makeNode(t)
  await other.network.start()
  for (const record of [forged, other.network.self, { id: a.network.id } as NodeInfo]) {
    const b = makeNode(t, {}, { getNode: () => Promise.resolve(record) })
    await b.network.start()
    await assert.rejects(echo(b, a.network.id), { code: /^ERR_NATWORK_(NODE_INFO|CONTEXT)$/ })
  }
})

test('updateNode: gets the own record after start; a failure or silence blocks no pipe and no stop', async (t) => {
  const a = await echoNode(t)
  const got: NodeInfo[] = []
  const b = makeNode(
    t,
    {},
    {
      updateNode(info) {
        got.push(info)
        return Promise.resolve()
      },
    },
  )
  await b.network.start()
  assert.deepEqual(got, [b.network.self])
  for (const updateNode of [fail, never]) {
    const c = makeNode(t, {}, { updateNode, getNode: () => Promise.resolve(a.network.self) })
    await c.network.start()
    await echo(c, a.network.id)
    await c.network.stop()
  }
})

test('listNodes and connectToNode: the nodes that are known are told where this one is now', async (t) => {
  const [a, b] = [makeNode(t), makeNode(t)]
  await a.network.start()
  await b.directory.put(a.network.self)
  const identity = await createIdentity(await b.context.getPrivateKey())
  await a.directory.put(signNodeInfo(identity, { addresses: [], sequence: 1, expires: 0 }))
  const updated = once(a.network, 'nodeUpdated') as Promise<[NodeInfo]>
  await b.network.start()
  const [info] = await updated
  assert.deepEqual(info, b.network.self)
  while ((await a.directory.get(b.network.id))?.sequence !== info.sequence) await new Promise(setImmediate)
})

test('listNodes and connectToNode: a node whose address is unknown is found through one that knows it', async (t) => {
  const a = await echoNode(t)
  const helper = makeNode(t)
  await helper.network.start()
  await helper.directory.put(a.network.self)

  const dialled: NodeId[] = []
  const b = makeNode(t, {})
  const seeker = makeNode(
    t,
    {},
    {
      ...b.context,
      connectToNode(id, { dial, signal }) {
        assert.equal(signal.aborted, false)
        dialled.push(id)
        return dial()
      },
    },
  )
  const identity = await createIdentity(await b.context.getPrivateKey())
  await helper.directory.put(signNodeInfo(identity, { addresses: [], sequence: 1, expires: 0 }))
  await b.directory.put(helper.network.self)
  await seeker.network.start()
  await echo(seeker, a.network.id)
  assert.ok(dialled.includes(helper.network.id))
  while ((await b.directory.get(a.network.id)) === undefined) await new Promise(setImmediate)
})

test('a node that moved is found at its new address', async (t) => {
  const a = await echoNode(t)
  const helper = makeNode(t)
  await helper.network.start()
  await helper.directory.put(a.network.self)
  const b = makeNode(t, { utp: { connection: { connectTimeout: 200_000 } } })
  const identity = await createIdentity(await b.context.getPrivateKey())
  await helper.directory.put(signNodeInfo(identity, { addresses: [], sequence: 1, expires: 0 }))
  await b.directory.put(helper.network.self)
  const owner = await createIdentity(await a.context.getPrivateKey())
  const old = [{ address: '127.0.0.1', port: 9 }]
  await b.directory.put(signNodeInfo(owner, { addresses: old, sequence: 1, expires: 0 }))
  await b.network.start()
  await echo(b, a.network.id)
})

test('listNodes and connectToNode: when they fail or hang, the connect ends with a typed error', async (t) => {
  const a = await echoNode(t)
  const helper = (await createIdentity(generatePrivateKey())).id
  for (const broken of [
    { listNodes: fail },
    { listNodes: never },
    {
      // eslint-disable-next-line @typescript-eslint/require-await -- it hangs or throws before that
      async *listNodes(): AsyncGenerator<NodeId> {
        throw new Error('out of order')
      },
    },
    { listNodes: () => Promise.resolve([helper]), connectToNode: fail },
    { listNodes: () => Promise.resolve([helper]), connectToNode: never },
    { listNodes: () => Promise.resolve(['no id' as NodeId]) },
  ] satisfies Partial<NetworkContext>[]) {
    const b = makeNode(t, quick, broken)
    await b.network.start()
    await assert.rejects(b.network.connect(a.network.id, { service: 'echo' }), {
      code: 'ERR_NATWORK_NODE_UNKNOWN',
    })
    await b.directory.put(a.network.self)
    await echo(b, a.network.id)
    await b.network.stop()
  }
})

test('strangers get no control stream, and nobody can announce another node', async (t) => {
  const [a, b] = await makePair(t)
  const c = await echoNode(t)
  const helper = makeNode(t, {}, { listNodes: () => Promise.resolve([a.network.id]) })
  await helper.directory.put(a.network.self)
  await helper.network.start()
  // Unknown to `a`: it neither answers nor keeps anything.
  await assert.rejects(helper.network.connect(c.network.id, { service: 'echo' }), {
    code: 'ERR_NATWORK_NODE_UNKNOWN',
  })
  assert.equal(await a.directory.get(helper.network.id), undefined)
  assert.equal(await a.directory.get(b.network.id), undefined)
})

test('logger: gets messages, never a secret; one that throws breaks nothing', async (t) => {
  const lines: string[] = []
  const write = (message: string, fields?: object): void => {
    lines.push(`${message} ${JSON.stringify(fields)}`)
  }
  const logger: Logger = { debug: write, info: write, warn: write, error: write }
  const bad = (): never => {
    throw new Error('disk full')
  }
  const a = makeNode(t, {}, { logger })
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'echo', host: '127.0.0.1', port })
  await a.network.start()
  const ticket = await a.network.createTicket({ service: 'echo' })
  const b = makeNode(t, {}, { logger: { debug: bad, info: bad, warn: bad, error: bad } })
  await b.network.start()
  await echo(b, a.network.id, ticket.text)
  await a.network.stop()
  const all = lines.join('\n')
  assert.match(all, /network started/)
  assert.match(all, /pipe opened/)
  assert.match(all, /pipe closed/)
  assert.ok(!all.includes(ticket.text))
  assert.ok(!all.includes('PRIVATE KEY'))
})
