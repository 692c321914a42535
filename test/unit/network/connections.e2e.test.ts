// 5 s. What `network.connections` says, against what was done: over loopback, where everything can be counted.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import type { NodeConnection } from '../../../src/network/index.ts'
import { readAll } from './duplex-pair.ts'
import { connectionOf, listen, makePair, type Node } from './nodes.ts'

/** A node with an echo, and one that knows its address. */
async function meet(t: TestContext): Promise<{ callee: Node; caller: Node }> {
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  const [callee, caller] = await makePair(t)
  callee.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: '*' })
  return { callee, caller }
}

async function becomes(node: Node, peer: Node, state: NodeConnection['state']): Promise<NodeConnection> {
  while (connectionOf(node, peer).state !== state) await once(node.network, 'connection')
  return connectionOf(node, peer)
}

test('bytes: those of the pipe, and what TLS and the request put around them', async (t) => {
  const before = new Date()
  const { callee, caller } = await meet(t)
  const stream = await caller.network.connect(callee.network.id, { service: 'echo' })
  const sent = Buffer.alloc(3_000_000, 'natwork')
  stream.end(sent)
  assert.equal((await readAll(stream)).length, sent.length)
  // The same bytes at both ends; what is sent counts when it is acknowledged, and the last acknowledgements are on their way.
  let [ours, theirs] = [connectionOf(caller, callee), connectionOf(callee, caller)]
  while (ours.bytesOut !== theirs.bytesIn || theirs.bytesOut !== ours.bytesIn) {
    await new Promise(setImmediate)
    ;[ours, theirs] = [connectionOf(caller, callee), connectionOf(callee, caller)]
  }
  for (const { bytesIn, bytesOut } of [ours, theirs]) {
    for (const bytes of [bytesIn, bytesOut]) {
      assert.ok(bytes >= sent.length, `${bytes} of ${sent.length} bytes`)
      // 22 bytes per TLS record of up to 16 KiB, and a handshake.
      assert.ok(bytes <= sent.length * 1.01 + 8_000, `${bytes} for ${sent.length} bytes`)
    }
  }
  assert.equal(ours.path?.kind, 'direct')
  assert.deepEqual(ours.path.remote, callee.network.boundAddress)
  assert.deepEqual(ours.path.local, caller.network.boundAddress)
  assert.ok(ours.rtt !== undefined && ours.rtt > 0 && ours.rtt < 1_000, `${ours.rtt} ms on loopback`)
  assert.ok(ours.loss >= 0 && ours.loss < 0.5)
  assert.ok(ours.since >= before && ours.since <= ours.path.since && ours.path.since <= new Date())
})

test('a link that nothing uses any more is idle, and not interrupted; used again it is the same link', async (t) => {
  const { callee, caller } = await meet(t)
  const use = async (): Promise<void> => {
    const stream = await caller.network.connect(callee.network.id, { service: 'echo' })
    assert.equal(connectionOf(caller, callee).state, 'connected')
    stream.end('hello')
    assert.equal((await readAll(stream)).toString(), 'hello')
  }
  const states: string[] = []
  caller.network.on('connection', ({ state }) => states.push(state))
  await use()
  const idle = await becomes(caller, callee, 'idle')
  await becomes(callee, caller, 'idle')
  assert.equal(idle.path, undefined)
  assert.ok(idle.bytesOut > 5 && idle.history.length === 1 && idle.history[0]?.until !== undefined)
  await use()
  const again = await becomes(caller, callee, 'idle')
  assert.deepEqual(again.since, idle.since)
  assert.ok(again.bytesOut > idle.bytesOut)
  assert.deepEqual(states, ['connected', 'idle', 'connected', 'idle'])
})
