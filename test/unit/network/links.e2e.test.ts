// 20 s, most of it starting nodes. Nodes that meet through a helper, over loopback.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { formatAddress } from '../../../src/core/index.ts'
import type { NetworkOptions, NodeConnection } from '../../../src/network/index.ts'
import { readAll } from './duplex-pair.ts'
import { connectionOf, listen, makeNode, type Node } from './nodes.ts'

const helperText = ({ network }: Node): string => `${network.id}@${formatAddress(network.boundAddress)}`

async function startNode(t: TestContext, options: NetworkOptions = {}): Promise<Node> {
  // Signals alone: a busy machine must not make the addresses in the record the faster way.
  const node = makeNode(t, { timeouts: { headStart: 60_000 }, ...options })
  await node.network.start()
  return node
}

/** A helper, a node that shares an echo with everybody, and one that calls. */
async function meet(t: TestContext): Promise<{ helper: Node; callee: Node; caller: Node }> {
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  const helper = await startNode(t, { help: true })
  const helpers = [helperText(helper)]
  const services = [{ name: 'echo', host: '127.0.0.1', port, allow: '*' as const }]
  const utp = { connection: { connectTimeout: 2_000_000 } }
  // One after the other: by the time the caller can ask, the helper has the record that names it, and not the one before.
  const callee = await startNode(t, { helpers, services })
  const caller = await startNode(t, { helpers, utp })
  return { helper, callee, caller }
}

async function echo(from: Node, to: Node, ticket?: string): Promise<void> {
  const stream = await from.network.connect(to.network.id, { service: 'echo', ...(ticket && { ticket }) })
  stream.end('hello')
  assert.equal((await readAll(stream)).toString(), 'hello')
}

test('nodes that know nothing but a helper meet by an id', async (t) => {
  const { caller, callee } = await meet(t)
  await echo(caller, callee)
  const seen = connectionOf(caller, callee)
  assert.equal(seen.state, 'connected')
  assert.equal(seen.path?.kind, 'direct')
  assert.deepEqual(seen.path.remote, callee.network.boundAddress)
  assert.ok(seen.pairs.some(({ selected }) => selected))
  assert.equal(connectionOf(callee, caller).path?.kind, 'direct')
  // The next one takes the same link.
  await echo(caller, callee)
  assert.equal(connectionOf(caller, callee).history.length, 1)
})

test('a ticket is enough for somebody with no helper and no directory', async (t) => {
  const { callee } = await meet(t)
  const { text } = await callee.network.createTicket({ service: 'echo' })
  const stranger = await startNode(t)
  await echo(stranger, callee, text)
  assert.equal(connectionOf(stranger, callee).path?.kind, 'direct')
})

test('both call at once: one link, and both calls arrive', async (t) => {
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  const helper = await startNode(t, { help: true })
  const options = {
    helpers: [helperText(helper)],
    services: [{ name: 'echo', host: '127.0.0.1', port, allow: '*' as const }],
  }
  const [one, two] = await Promise.all([startNode(t, options), startNode(t, options)])
  await Promise.all([echo(one, two), echo(two, one)])
  assert.equal(connectionOf(one, two).state, 'connected')
  assert.equal(connectionOf(two, one).state, 'connected')
})

test('a node that came back under its id is met anew', async (t) => {
  const { helper, callee, caller } = await meet(t)
  await echo(caller, callee)
  const services = [...callee.network.services]
  await callee.network.stop()
  const again = makeNode(t, { helpers: [helperText(helper)], services }, callee.context)
  await again.network.start()
  await echo(caller, again)
})

test('a node that hangs on no helper any more is said to be unreachable', async (t) => {
  const { callee, caller } = await meet(t)
  const { id } = callee.network
  const { text } = await callee.network.createTicket({ service: 'echo' })
  await callee.network.stop()
  await assert.rejects(caller.network.connect(id, { service: 'echo', ticket: text }), {
    code: /^ERR_NATWORK_NODE_(UNREACHABLE|UNKNOWN)$/,
  })
})

test('giving up a call leaves nothing behind', async (t) => {
  const { callee, caller } = await meet(t)
  const reason = new Error('changed my mind')
  const call = caller.network.connect(callee.network.id, {
    service: 'echo',
    signal: AbortSignal.abort(reason),
  })
  await assert.rejects(call, reason)
  assert.equal(caller.network.pipes.size, 0)
})

test('events say what happens: the path found, and each step', async (t) => {
  const { callee, caller } = await meet(t)
  const steps: string[] = []
  caller.network.on('trace', (peer, { what }) => {
    assert.equal(peer, callee.network.id)
    steps.push(what)
  })
  const connected = once(caller.network, 'connection') as Promise<[NodeConnection]>
  await echo(caller, callee)
  const [connection] = await connected
  assert.equal(connection.peer, callee.network.id)
  for (const what of ['opened', 'local-candidate', 'remote-candidate', 'valid', 'selected']) {
    assert.ok(steps.includes(what), `${what} is missing in ${steps.join(' ')}`)
  }
})

test('a node that stops ends its pipes before it says good-bye to the peer', async (t) => {
  const { callee, caller } = await meet(t)
  const stream = await caller.network.connect(callee.network.id, { service: 'echo' })
  stream.on('error', () => undefined).write('hello')
  await once(stream, 'data')
  // At the good-bye the peer closes what its end of the path goes through.
  const heard: string[] = []
  const both = new Promise<void>((resolve) => {
    const note = (what: string): void => {
      if (heard.push(what) === 2) resolve()
    }
    callee.network.once('pipeClosed', () => note('pipe'))
    callee.network.on('connection', ({ state }) => {
      if (state === 'interrupted' || state === 'idle') note('link')
    })
  })
  await caller.network.stop()
  await both
  assert.deepEqual(heard, ['pipe', 'link'])
})
