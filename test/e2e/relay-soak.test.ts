// The short form of `npm run soak:turn`: a relay in this process, clients that come and go. About 10 seconds.
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import test from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Probe } from '../../src/cli/relay/probe.ts'
import { StaticUsers } from '../../src/stun/index.ts'
import { TurnService, writeChannelData } from '../../src/turn/index.ts'

const user = { username: 'alice', password: 'wonderland' }

test('clients that come and go leave neither memory nor sockets behind', async (t) => {
  const service = await TurnService.listen({
    users: new StaticUsers('example.org', { [user.username]: user.password }),
    addresses: [{ host: '127.0.0.1' }],
    peers: { allow: ['127.0.0.1'] },
    listen: [
      { host: '127.0.0.1', port: 0, transport: 'udp' },
      { host: '127.0.0.1', port: 0, transport: 'tcp' },
    ],
    rateLimit: false,
  })
  t.after(() => service.close())
  const server = service.udpAddresses[0]!
  const echo = createSocket('udp4').on('message', (bytes, { port, address }) => {
    echo.send(bytes, port, address)
  })
  echo.bind(0, '127.0.0.1')
  await once(echo, 'listening')
  t.after(() => echo.close())
  const peer = { address: '127.0.0.1', port: echo.address().port }
  const framed = Buffer.alloc(1_204)
  writeChannelData(framed, 0x4201, Buffer.alloc(1_200), false)

  const oneClient = async (n: number): Promise<void> => {
    const probe = await Probe.open(server, n % 2 === 0 ? 'udp' : 'tcp', user)
    assert.equal((await probe.allocate()).code, 0)
    assert.equal((await probe.bind(0x4201, peer)).code, 0)
    assert.equal((await probe.permit({ ...peer, port: 1 })).code, 0)
    const back = new Promise<void>((resolve) => {
      let left = 10
      probe.onUnasked = () => {
        if (--left === 0) resolve()
      }
    })
    for (let packet = 0; packet < 10; packet++) {
      if (n % 4 < 2) probe.send(framed)
      else probe.indicate(peer, framed)
    }
    await back
    if (n % 8 === 7) {
      // Without a goodbye: a TCP connection that ends is one.
      probe.abandon()
      return
    }
    await probe.close()
  }
  const round = async (): Promise<{ heap: number; external: number }> => {
    for (let n = 0; n < CLIENTS; n += 8) {
      await Promise.all(Array.from({ length: 8 }, (_, k) => oneClient(n + k)))
    }
    while (service.host.relay.allocations.size > 0) await new Promise(setImmediate)
    collect()
    const { heapUsed, external } = process.memoryUsage()
    return { heap: heapUsed, external }
  }

  // What is made once has been made by then.
  for (let n = 0; n < 3; n++) await round()
  const sockets = countSockets()
  const before = await round()
  for (let n = 0; n < 4; n++) await round()
  const after = await round()
  const perClient = (kind: 'heap' | 'external'): number => (after[kind] - before[kind]) / (5 * CLIENTS)
  assert.ok(perClient('heap') < 1_000, `${perClient('heap').toFixed(0)} bytes of heap stay of each client`)
  assert.ok(perClient('external') < 1_000, `${perClient('external').toFixed(0)} bytes stay of each client`)
  assert.ok(countSockets() <= sockets, `${countSockets()} sockets, ${sockets} before`)
  const { relay } = service.host
  assert.deepEqual([relay.perUser.of(user.username), relay.perSource.of('127.0.0.1')], [0, 0])
  assert.equal(relay.pollTimeout(), undefined, 'nothing is left to wait for')
})

const CLIENTS = 96

const collect = ((): (() => void) => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  return () => {
    gc()
    gc()
  }
})()

function countSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => /UDP|TCP|Pipe/.test(name)).length
}
