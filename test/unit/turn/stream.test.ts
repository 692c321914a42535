// 2 s. An allocation over TCP: a relay that does not read, hangs up, talks nonsense, or sends us elsewhere.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { test } from 'node:test'
import type { SocketAddress } from '../../../src/core/address.ts'
import { systemClock } from '../../../src/core/ports.ts'
import {
  Attribute,
  LongTermServerAuth,
  MessageClass,
  Method,
  StaticUsers,
  StunView,
} from '../../../src/stun/index.ts'
import { connectRelay, TurnFramer, type RelayAllocation } from '../../../src/turn/index.ts'
import { Answers, RELAYED } from './scripted.ts'

const peer = { address: '198.51.100.1', port: 9 }

/** A server over TCP that answers each request as it is told. */
async function serve(
  answer: (request: StunView, from: SocketAddress) => Uint8Array,
): Promise<{ server: Server; port: number; sockets: Socket[] }> {
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => undefined)
    const view = new StunView()
    const from = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 }
    const framer = new TurnFramer({
      onMessage: (message) => {
        if (view.open(message) && view.messageClass === MessageClass.Request) socket.write(answer(view, from))
      },
    })
    socket.on('data', (chunk: Buffer) => framer.push(chunk))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port, sockets }
}

/** A relay that gives what is asked for, at another port with each allocation. */
async function withRelay(use: (relay: RelayAllocation, sockets: Socket[]) => Promise<void>): Promise<void> {
  let allocations = 0
  const { server, port, sockets } = await serve((request) =>
    request.method === Method.Allocate
      ? new Answers(request).ok((builder) =>
          builder
            .uint32(Attribute.Lifetime, 600)
            .xorAddress(Attribute.XorRelayedAddress, { ...RELAYED, port: RELAYED.port + allocations++ }),
        )
      : new Answers(request).usual(),
  )
  const relay = await connectRelay(`turn:127.0.0.1:${port}?transport=tcp`)
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
    socket!.resume()
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

for (const circle of [false, true]) {
  test(`300 Try Alternate over TCP: ${circle ? 'in a circle, an error' : 'another connection, and the allocation there'}`, async () => {
    const auth = new LongTermServerAuth(
      new StaticUsers('relay.test', { user: 'secret' }),
      new Uint8Array(32).fill(5),
      600_000_000,
    )
    const signed = (
      request: StunView,
      from: SocketAddress,
      reply: (answers: Answers) => Uint8Array,
    ): Uint8Array => {
      const checked = auth.check(systemClock.now(), request, from)
      return checked.ok
        ? reply(new Answers(request, checked.sign))
        : new Answers(request, checked.challenge).error(checked.code)
    }
    let alternate = { address: '127.0.0.1', port: 0 }
    const sendAway = (request: StunView, from: SocketAddress): Uint8Array =>
      signed(request, from, (answers) =>
        answers.error(300, (builder) => builder.address(Attribute.AlternateServer, alternate)),
      )
    const first = await serve(sendAway)
    const second = await serve((request, from) =>
      circle ? sendAway(request, from) : signed(request, from, (answers) => answers.usual()),
    )
    alternate = { address: '127.0.0.1', port: second.port }
    const credentials = { username: 'user', password: 'secret', proxy: false } as const
    const connecting = connectRelay(`turn:127.0.0.1:${first.port}?transport=tcp`, credentials)
    try {
      if (circle) {
        await assert.rejects(connecting, { code: 'ERR_NATWORK_STUN_REDIRECT' })
      } else {
        const relay = await connecting
        assert.deepEqual(relay.allocation.server, alternate)
        await relay.close()
      }
    } finally {
      for (const { server, sockets } of [first, second]) {
        for (const socket of sockets) socket.destroy()
        server.close()
      }
    }
  })
}

test('where UDP gets no answer, TCP is tried next, and wins', async () => {
  const { server, port, sockets } = await serve((request) => new Answers(request).usual())
  try {
    const relay = await connectRelay(`turn:127.0.0.1:${port}`, { proxy: false })
    assert.equal(relay.transport, 'tcp')
    await relay.close()
  } finally {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
})

test('given up: the reason is the cause, and nothing stays behind', async () => {
  const { server, port, sockets } = await serve(() => new Uint8Array(0))
  const reason = new Error('enough')
  const given = new AbortController()
  try {
    const connecting = connectRelay(`turn:127.0.0.1:${port}`, { proxy: false, signal: given.signal })
    await once(server, 'connection')
    given.abort(reason)
    await assert.rejects(connecting, { code: 'ERR_NATWORK_TURN_ABORTED', cause: reason })
    const [socket] = sockets
    if (!socket!.destroyed) await once(socket!, 'close')
  } finally {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
})
