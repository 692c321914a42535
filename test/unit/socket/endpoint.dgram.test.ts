import assert from 'node:assert/strict'
import { Socket } from 'node:dgram'
import { test } from 'node:test'
import { setDefaultDriver } from '../../../src/socket/index.ts'
import { bound, receives } from './endpoints.ts'
import { TestMachine } from './machines.ts'

setDefaultDriver('dgram')
await import('./endpoint-suite.ts')

test('the TTL of one datagram is set and set back around its send', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const send = t.mock.method(Socket.prototype, 'send')
  const original: (this: Socket, ttl: number) => number = Reflect.get(Socket.prototype, 'setTTL')
  const set: { ttl: number; sends: number }[] = []
  t.mock.method(Socket.prototype, 'setTTL', function (this: Socket, ttl: number) {
    set.push({ ttl, sends: send.mock.callCount() })
    return original.call(this, ttl)
  })
  const machine = new TestMachine()
  const done = receives(b, machine, 3)
  const path = a.path(b.address)
  const sender = new TestMachine()
  sender.outgoing.push(
    { path, data: Buffer.from('x') },
    { path, data: Buffer.from('low'), ttl: 3 },
    { path, data: Buffer.from('y') },
  )
  a.attach(sender, () => undefined)
  await done
  assert.deepEqual(set, [
    { ttl: 3, sends: 1 },
    { ttl: 64, sends: 2 },
  ])
  assert.equal(send.mock.callCount(), 3)
})

test('nothing is taken from the machines while the kernel takes nothing', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  let waiting = 1
  const queue = t.mock.method(Socket.prototype, 'getSendQueueCount', () => waiting)
  const path = a.path(b.address)
  const sender = new TestMachine()
  const total = 1_000
  for (let i = 0; i < total; i++) sender.outgoing.push({ path, data: Buffer.from('x') })
  const machine = new TestMachine()
  const done = receives(b, machine, total)
  a.attach(sender, () => undefined)
  while (queue.mock.callCount() < 3) await new Promise(setImmediate)
  assert.ok(sender.outgoing.length > total - 10, 'the libuv queue is bounded')
  waiting = 0
  await done
  assert.equal(sender.outgoing.length, 0)
})

for (const queued of [0, 1]) {
  const what = queued === 0 ? 'holds none' : 'holds one'
  test(`memory of datagrams is used again when libuv ${what}: ${queued === 0}`, async (t) => {
    const a = await bound(t)
    const b = await bound(t)
    t.mock.method(Socket.prototype, 'getSendQueueCount', () => queued)
    const send = t.mock.method(Socket.prototype, 'send', () => undefined)
    const path = a.path(b.address)
    // A few at a time: with a queue the driver takes no more.
    for (let i = 0; i < 10; i++) a.send({ path, data: Buffer.alloc(60_000) })
    for (let i = 0; i < 10; i++) a.forward({ path, data: Buffer.alloc(60_000) })
    const memories = new Set(
      send.mock.calls.map(({ arguments: [data] }) => (data as unknown as Buffer).buffer),
    )
    const places = send.mock.calls.map(({ arguments: [data] }) => data as unknown as Buffer)
    assert.ok(places.length >= 8, 'so many were sent')
    assert.equal(memories.size === 1, queued === 0)
  })
}
