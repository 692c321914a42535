// Which ports stand-alone servers get. Under a second.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { mock, test, type TestContext } from 'node:test'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { StaticUsers, StunService } from '../../../src/stun/index.ts'
import { TurnService } from '../../../src/turn/index.ts'

const host = '127.0.0.1'
const relay = { users: new StaticUsers('natwork.test', { user: 'pass' }), addresses: [{ host }] }

/** A port that another program has on TCP; the next one asked for on UDP has its number. */
async function takenNext(t: TestContext): Promise<{ taken: number; asked: () => number }> {
  const other = createServer().listen(0, host)
  t.after(() => other.close())
  await once(other, 'listening')
  const taken = (other.address() as AddressInfo).port
  const bind = UdpEndpoint.bind.bind(UdpEndpoint)
  const asked = mock.method(UdpEndpoint, 'bind', (options: Parameters<typeof bind>[0]) =>
    bind(asked.mock.callCount() === 0 ? { ...options, port: taken } : options),
  )
  t.after(() => asked.mock.restore())
  return { taken, asked: () => asked.mock.callCount() }
}

test('with port 0 UDP and TCP of a relay have one number, also when the first one is taken on TCP', async (t) => {
  const { taken, asked } = await takenNext(t)
  const listen = (['udp', 'tcp'] as const).map((transport) => ({ host, port: 0, transport }))
  const service = await TurnService.listen({ ...relay, listen })
  t.after(() => service.close())
  assert.equal(asked(), 2)
  assert.equal(service.udpAddresses[0]?.port, service.streamAddresses[0]?.port)
  assert.notEqual(service.udpAddresses[0]?.port, taken)
})

test('the same for a STUN server', async (t) => {
  const { taken, asked } = await takenNext(t)
  const service = await StunService.listen({ host, port: 0 })
  t.after(() => service.close())
  assert.equal(asked(), 2)
  assert.equal(service.udpAddresses[0]?.port, service.tcpAddresses[0]?.port)
  assert.notEqual(service.udpAddresses[0]?.port, taken)
})

test('a port that was asked for and is taken is an error', async (t) => {
  const { taken } = await takenNext(t)
  await assert.rejects(TurnService.listen({ ...relay, listen: [{ host, port: taken, transport: 'tcp' }] }), {
    code: 'ERR_NATWORK_TURN_LISTEN',
  })
  await assert.rejects(StunService.listen({ host, port: taken, udp: false }), {
    code: 'ERR_NATWORK_STUN_LISTEN',
  })
})
