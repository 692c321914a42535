// The ports of a relay of several workers, and the one number of UDP and TCP.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { test, type TestContext } from 'node:test'
import { holdPorts } from '../../../src/cli/relay/held-ports.ts'
import type { SocketAddress } from '../../../src/core/index.ts'
import type { TurnListen } from '../../../src/turn/index.ts'

const host = '127.0.0.1'
const both: TurnListen[] = [
  { host, port: 0, transport: 'udp' },
  { host, port: 0, transport: 'tcp' },
]

async function tcpServer(): Promise<{ server: Server; port: number }> {
  const server = createServer().listen(0, host)
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

/** A system that gives UDP these numbers, one after the other. */
function giving(t: TestContext, numbers: number[]) {
  const open = new Set<number>()
  const bind = (at: SocketAddress) => {
    const port = numbers.shift()
    assert.ok(port !== undefined, 'no more numbers')
    open.add(port)
    const close = (): Promise<void> => {
      open.delete(port)
      return Promise.resolve()
    }
    return Promise.resolve({ address: { ...at, port }, close })
  }
  t.after(() => open.clear())
  return { open, bind }
}

test('a number that is taken for TCP is given back, and another one asked for', async (t) => {
  const taken = await tcpServer()
  t.after(() => taken.server.close())
  const free = await tcpServer()
  free.server.close()
  await once(free.server, 'close')
  const { open, bind } = giving(t, [taken.port, taken.port, free.port])
  const { held, listen } = await holdPorts(both, bind)
  assert.deepEqual(
    listen.map(({ port }) => port),
    [free.port, free.port],
  )
  assert.equal(held.length, 1)
  assert.deepEqual([...open], [free.port])
})

test('not without end, and not where the number was asked for', async (t) => {
  const taken = await tcpServer()
  t.after(() => taken.server.close())
  const endless = giving(
    t,
    Array.from({ length: 100 }, () => taken.port),
  )
  await assert.rejects(holdPorts(both, endless.bind), { code: 'ERR_NATWORK_TURN_LISTEN' })
  assert.deepEqual([...endless.open], [])
  const fixed: TurnListen[] = [
    { host, port: taken.port, transport: 'udp' },
    { host, port: 0, transport: 'tcp' },
  ]
  const wanted = giving(t, [taken.port])
  await assert.rejects(holdPorts(fixed, wanted.bind), { code: 'ERR_NATWORK_TURN_LISTEN' })
})
