// 20 s. A helper's TCP port: nodes whose UDP is lost on the way hang on it by TLS, and who comes there for nothing is turned away.
import assert from 'node:assert/strict'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test, type TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { parseHelper, parseTicket, verifyNodeInfo, type NetworkOptions } from '../../../src/network/index.ts'
import { makeNode, listen, type Node } from './nodes.ts'

async function startNode(t: TestContext, options: NetworkOptions = {}): Promise<Node> {
  const node = makeNode(t, options)
  await node.network.start()
  return node
}

/** What stands before a helper's UDP port: it passes datagrams on, or loses all. */
class Gate {
  isOpen = false
  readonly #outer: UdpSocket
  readonly #inner = new Map<string, UdpSocket>()

  private constructor(outer: UdpSocket, to: number) {
    this.#outer = outer
    outer.on('message', (bytes, { port }) => {
      if (!this.isOpen) return
      let inner = this.#inner.get(String(port))
      if (inner === undefined) {
        inner = createSocket('udp4')
        this.#inner.set(String(port), inner)
        inner.on('message', (answer) => this.isOpen && outer.send(answer, port, '127.0.0.1'))
      }
      inner.send(bytes, to, '127.0.0.1')
    })
  }

  static async before(t: TestContext, to: number): Promise<Gate> {
    const outer = createSocket('udp4')
    outer.bind(0, '127.0.0.1')
    await once(outer, 'listening')
    const gate = new Gate(outer, to)
    t.after(() => {
      outer.close()
      for (const inner of gate.#inner.values()) inner.close()
    })
    return gate
  }

  get port(): number {
    return this.#outer.address().port
  }
}

/** A helper, and its name for nodes whose UDP goes through the gate. */
async function open(t: TestContext, help: NetworkOptions['help'] = { tls: 0 }) {
  const helper = await startNode(t, { help })
  const gate = await Gate.before(t, helper.network.boundAddress.port)
  const tls = helper.network.tlsAddress!.port
  return { helper, gate, tls, text: `${helper.network.id}@127.0.0.1:${gate.port}/${tls}` }
}

test('where UDP is lost, a node hangs on its helper by TLS; its record and tickets say where', async (t) => {
  const { helper, gate, tls, text } = await open(t)
  const record = verifyNodeInfo(JSON.parse(JSON.stringify(helper.network.self)))
  assert.equal(record.tls, tls)
  const { network } = await startNode(t, {
    helpers: [text],
    services: [{ name: 'web', host: '127.0.0.1', port: 1 }],
  })
  const [status] = network.helpers
  assert.equal(status?.transport, 'tls')
  assert.equal(network.udpBlocked, true)
  const reference = { id: helper.network.id, address: { address: '127.0.0.1', port: gate.port }, tls }
  assert.deepEqual(network.self.helpers, [reference])
  assert.deepEqual(verifyNodeInfo(JSON.parse(JSON.stringify(network.self))), network.self)
  const ticket = await network.createTicket({ service: 'web' })
  assert.deepEqual(parseTicket(ticket.text).helpers, [reference])
})

test('a node that UDP does not lead to is called by TLS, and pipes and pings work', async (t) => {
  const { helper, text } = await open(t)
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  helper.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: '*' })
  const node = makeNode(t, { helpers: [text] })
  await node.directory.put({ ...helper.network.self })
  await node.network.start()
  const stream = await node.network.connect(helper.network.id, { service: 'echo', addresses: [] })
  stream.end('there and back')
  const got: Buffer[] = []
  for await (const bytes of stream) got.push(bytes as Buffer)
  assert.equal(Buffer.concat(got).toString(), 'there and back')
})

test('when UDP gets through again, the helper is reached that way, and nothing was lost in between', async (t) => {
  const { gate, text } = await open(t)
  const { network } = await startNode(t, { helpers: [text] })
  const transport = (): string | undefined => network.helpers[0]?.transport
  assert.equal(transport(), 'tls')
  gate.isOpen = true
  const counts: number[] = []
  while (transport() !== 'udp') {
    await once(network, 'helpers')
    counts.push(network.helpers.length)
  }
  assert.equal(network.udpBlocked, false)
  assert.ok(counts.every((count) => count === 1))
})

test('another node at the port is found out, and not hung on', async (t) => {
  const { tls } = await open(t)
  const stranger = await startNode(t)
  const gate = await Gate.before(t, 1)
  const { network } = await startNode(t, {
    helpers: [`${stranger.network.id}@127.0.0.1:${gate.port}/${tls}`],
  })
  assert.deepEqual(network.helpers, [])
})

test('a port that is taken: an error when it was asked for, else another one or none', async (t) => {
  const { port } = await listen(t, (socket) => socket.destroy())
  await assert.rejects(startNode(t, { help: { tls: port } }), { code: 'ERR_NATWORK_BIND' })
  const none = await startNode(t, { help: { tls: false } })
  assert.equal(none.network.tlsAddress, undefined)
  assert.equal(none.network.self.tls, undefined)
})

test('who speaks no TLS, or offers nothing that is spoken here, is shut out', async (t) => {
  const { tls } = await open(t, { tls: 0, relay: false })
  for (const said of [
    'GET / HTTP/1.1\r\n\r\n',
    '\u0016\u0003\u0001\u0000\u0000',
    '\u0016\u0003\u0001\u0000\u0004\u0002aaa',
  ]) {
    const socket = connect(tls, '127.0.0.1')
    const shut = new Promise<void>((resolve) => socket.on('close', () => resolve()))
    socket.on('error', () => undefined).resume()
    socket.write(said)
    await shut
  }
  // Without a relay there is nothing for its clients.
  const client = connectTls({
    port: tls,
    host: '127.0.0.1',
    ALPNProtocols: ['stun.turn'],
    rejectUnauthorized: false,
  })
  await new Promise<void>((resolve) => client.on('error', () => undefined).on('close', () => resolve()))
})

test('connections that say nothing have few places, and lose them', async (t) => {
  const { tls, text } = await open(t)
  const silent = Array.from({ length: 80 }, () => connect(tls, '127.0.0.1'))
  t.after(() => silent.forEach((socket) => socket.destroy()))
  for (const socket of silent) socket.on('error', () => undefined).resume()
  const shut = silent.map((socket) => new Promise<void>((resolve) => socket.on('close', () => resolve())))
  // One address has 64 places: the rest is closed at once.
  await Promise.any(shut)
  for (const socket of silent) socket.destroy()
  await Promise.all(shut)
  const { network } = await startNode(t, { helpers: [text] })
  assert.equal(network.helpers[0]?.transport, 'tls')
})

test('ID@HOST:PORT/TLS is read, and mistakes are named', () => {
  const id = 'b' + 'a'.repeat(52)
  assert.deepEqual(parseHelper(`${id}@[2001:db8::1]:1315/8443`), {
    id,
    host: '2001:db8::1',
    port: 1315,
    tls: 8443,
  })
  for (const text of [`${id}@host:1315/`, `${id}@host:1315/0`, `${id}@host:1315/99999`, `${id}@host/443`]) {
    assert.throws(() => parseHelper(text), { code: 'ERR_NATWORK_HELPER' })
  }
})
