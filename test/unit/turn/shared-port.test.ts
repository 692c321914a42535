import assert from 'node:assert/strict'
import test from 'node:test'
import { Probe } from '../../../src/cli/relay/probe.ts'
import type { Machine } from '../../../src/core/index.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { Attribute, StaticUsers } from '../../../src/stun/index.ts'
import { RelayHost, writeChannelData } from '../../../src/turn/index.ts'

test('on a port that speaks other protocols too, the relay takes what is its own and leaves the rest', async () => {
  const endpoint = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  const host = new RelayHost({
    users: new StaticUsers('example.org', { alice: 'wonderland' }),
    addresses: [{ host: '127.0.0.1' }],
    peers: { allow: ['127.0.0.1'] },
  })
  host.attach(endpoint, 'no-utp')
  let left: (bytes: Buffer) => void = () => undefined
  const behind: Machine = {
    handleDatagram: (_now, _path, bytes) => {
      left(Buffer.from(bytes))
      return true
    },
    handleTimeout: () => undefined,
    pollTransmit: () => undefined,
    pollEvent: () => undefined,
    pollTimeout: () => undefined,
  }
  endpoint.attach(behind, () => undefined)
  const user = { username: 'alice', password: 'wonderland' }
  const client = await Probe.open(endpoint.address, 'udp', user)
  const other = await Probe.open(endpoint.address, 'udp', user)
  try {
    const { view } = await client.allocate()
    const relayed = view.xorAddress(Attribute.XorRelayedAddress)!
    const { view: second } = await other.allocate()
    const peer = second.xorAddress(Attribute.XorRelayedAddress)!
    // Two clients of one relay meet at its relayed addresses.
    assert.equal((await client.bind(0x4100, peer)).code, 400, 'a uTP SYN')
    assert.equal((await client.bind(0x4201, peer)).code, 0)
    assert.equal((await other.bind(0x4305, relayed)).code, 0)
    const message = Buffer.alloc(9)
    writeChannelData(message, 0x4201, Buffer.from('hello'), false)
    const came = new Promise<Buffer>((resolve) => {
      other.onUnasked = resolve
    })
    client.send(message)
    assert.deepEqual([...(await came)], [0x43, 5, 0, 5, ...Buffer.from('hello')])

    const passedOn = new Promise<Buffer>((resolve) => {
      left = resolve
    })
    message[1] = 2
    client.send(message)
    assert.deepEqual(await passedOn, message, 'a channel that nobody bound is not the relay’s')
  } finally {
    await client.close()
    await other.close()
    host.close()
    await endpoint.close()
  }
})
