// 2 s. An allocation over TCP: a relay that does not read, one that hangs up, one that says nothing.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { test } from 'node:test'
import { Attribute, MessageClass, Method, StunBuilder, StunView } from '../../../src/stun/index.ts'
import { connectRelay, TurnFramer, type RelayAllocation } from '../../../src/turn/index.ts'
import { RELAYED } from './scripted.ts'

const peer = { address: '198.51.100.1', port: 9 }

/** A relay that gives what is asked for; `onSocket` gets each connection, `port` changes with each allocation. */
async function withRelay(use: (relay: RelayAllocation, sockets: Socket[]) => Promise<void>): Promise<void> {
  const sockets: Socket[] = []
  let allocations = 0
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => undefined)
    const view = new StunView()
    const builder = new StunBuilder()
    const framer = new TurnFramer({
      onMessage: (message) => {
        if (!view.open(message) || view.messageClass !== MessageClass.Request) return
        builder.startResponse(view, MessageClass.Success).uint32(Attribute.Lifetime, 600)
        if (view.method === Method.Allocate) {
          builder.xorAddress(Attribute.XorRelayedAddress, { ...RELAYED, port: RELAYED.port + allocations++ })
        }
        socket.write(builder.copy())
      },
    })
    socket.on('data', (chunk: Buffer) => framer.push(chunk))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const relay = await connectRelay(`turn:127.0.0.1:${(server.address() as AddressInfo).port}?transport=tcp`)
  try {
    await use(relay, sockets)
  } finally {
    for (const socket of sockets) socket.destroy()
    await relay.close()
    server.close()
  }
}

test('a relay that does not read costs no memory: what does not fit is dropped, and flows again later', () =>
  withRelay(async (relay, [socket]) => {
    relay.send(Buffer.from('permission'), peer)
    await once(socket!, 'data')
    socket!.pause()
    const datagram = Buffer.alloc(1_200)
    let sent = 0
    // Whatever the kernels take between them, it ends.
    while (relay.counters.dropped < 1_000) {
      relay.send(datagram, peer)
      if (++sent % 50 === 0) await new Promise(setImmediate)
      assert.ok(sent < 100_000)
    }
    const { dropped } = relay.counters
    socket!.resume()
    while (relay.counters.dropped > dropped || relay.counters.sent === 0) await new Promise(setImmediate)
    // It is read to the end, and there is room again.
    let quiet = relay.counters
    do {
      quiet = relay.counters
      await new Promise(setImmediate)
      relay.send(datagram, peer)
    } while (relay.counters.dropped > quiet.dropped)
    assert.equal(relay.counters.sent, quiet.sent + 1)
  }))

test('a relay that hangs up: lost, connected again, renewed at another address', () =>
  withRelay(async (relay, sockets) => {
    relay.permit([peer.address])
    const before = relay.relayed
    const lost = once(relay, 'lost')
    const renewed = once(relay, 'renewed')
    sockets[0]!.destroy()
    await lost
    assert.equal(relay.isLive, false)
    await renewed
    assert.equal(relay.isLive, true)
    assert.notDeepEqual(relay.relayed, before)
  }))

test('what is no TURN ends the connection, not the process', () =>
  withRelay(async (relay, sockets) => {
    const renewed = once(relay, 'renewed')
    sockets[0]!.write('SSH-2.0-OpenSSH\r\n')
    await renewed
  }))
