// Which ports a stand-alone relay gets. Under a second.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { mock, test } from 'node:test'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { StaticUsers } from '../../../src/stun/index.ts'
import { TurnService } from '../../../src/turn/index.ts'

test('with port 0 UDP and TCP have one number, also when the first one of UDP is taken on TCP', async (t) => {
  const host = '127.0.0.1'
  const other = createServer().listen(0, host)
  t.after(() => other.close())
  await once(other, 'listening')
  const taken = (other.address() as AddressInfo).port
  const bind = UdpEndpoint.bind.bind(UdpEndpoint)
  const asked = mock.method(UdpEndpoint, 'bind', (options: Parameters<typeof bind>[0]) =>
    bind(asked.mock.callCount() === 0 ? { ...options, port: taken } : options),
  )
  t.after(() => asked.mock.restore())
  const service = await TurnService.listen({
    users: new StaticUsers('natwork.test', { user: 'pass' }),
    addresses: [{ host }],
    listen: [
      { host, port: 0, transport: 'udp' },
      { host, port: 0, transport: 'tcp' },
    ],
  })
  t.after(() => service.close())
  assert.equal(asked.mock.callCount(), 2)
  assert.equal(service.udpAddresses[0]?.port, service.streamAddresses[0]?.port)
  assert.notEqual(service.udpAddresses[0]?.port, taken)

  const chosen = { host, port: taken, transport: 'tcp' } as const
  await assert.rejects(
    TurnService.listen({ users: new StaticUsers('r', {}), addresses: [{ host }], listen: [chosen] }),
    { code: 'ERR_NATWORK_TURN_LISTEN' },
  )
})
