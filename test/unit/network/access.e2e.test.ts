import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { memoryDirectory } from '../../../src/directory/index.ts'
import { signNodeInfo } from '../../../src/network/node-info.ts'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import { writeGreeting } from '../../../src/network/protocol.ts'
import { signTicket } from '../../../src/network/ticket.ts'
import { MemoryRecords, Network, TicketStore, type Pinger, type Refusal } from '../../../src/network/index.ts'
import { readAll } from './duplex-pair.ts'
import { closedPort, listen, makeNode, makePair, type Node } from './nodes.ts'

/** A TCP port that nobody may reach: counts who did. */
async function canary(t: TestContext): Promise<{ port: number; touched: () => number }> {
  let count = 0
  const { port } = await listen(t, (socket) => {
    count++
    socket.end('secret')
  })
  return { port, touched: () => count }
}

async function use(by: Node, of: Node, service: string, ticket?: string): Promise<string> {
  const stream = await by.network.connect(of.network.id, {
    service,
    ...(ticket !== undefined && { ticket }),
  })
  stream.end()
  return (await readAll(stream)).toString()
}

test('strangers hear the same for a service that is not theirs and for one that is not there', async (t) => {
  const [a, b] = await makePair(t)
  const { port, touched } = await canary(t)
  a.network.services.set({ name: 'closed', host: '127.0.0.1', port })
  a.network.services.set({ name: 'friends', host: '127.0.0.1', port, allow: [a.network.id] })
  const messages = new Set<string>()
  for (const service of ['closed', 'friends', 'missing']) {
    const refused = once(a.network, 'refused') as Promise<[Refusal]>
    await assert.rejects(use(b, a, service), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ERR_NATWORK_SERVICE_DENIED')
      messages.add(error.message.replace(service, 'X'))
      return true
    })
    const [refusal] = await refused
    assert.deepEqual([refusal.peer, refusal.service], [b.network.id, service])
  }
  assert.equal(messages.size, 1)
  assert.equal(touched(), 0)
})

test('a node that the owner listed is told that a service is unknown', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: [b.network.id] })
  assert.equal(await use(b, a, 'web'), 'secret')
  await assert.rejects(use(b, a, 'wev'), { code: 'ERR_NATWORK_SERVICE_UNKNOWN' })
  a.network.services.delete('web')
  await assert.rejects(use(b, a, 'web'), { code: 'ERR_NATWORK_SERVICE_DENIED' })
})

test('everybody is let in only by an explicit star', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: '*' })
  assert.equal(await use(b, a, 'web'), 'secret')
})

test('names that are no service names never leave this node, and host:port is none', async (t) => {
  const [a, b] = await makePair(t)
  const { touched, port } = await canary(t)
  for (const service of [`127.0.0.1:${port}`, '', '../x', 'A', 'x'.repeat(64)]) {
    await assert.rejects(use(b, a, service))
  }
  assert.equal(touched(), 0)
})

test('a ticket opens its service to as many nodes as it says, again and again', async (t) => {
  const [a, b] = await makePair(t)
  const c = makeNode(t)
  await c.network.start()
  const { port, touched } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port })
  a.network.services.set({ name: 'other', host: '127.0.0.1', port })
  const ticket = await a.network.createTicket({ service: 'web' })
  assert.equal(await use(b, a, 'web', ticket.text), 'secret')
  assert.equal(await use(b, a, 'web', ticket.text), 'secret')
  await assert.rejects(use(c, a, 'web', ticket.text), {
    name: 'RefusedError',
    code: 'ERR_NATWORK_TICKET_USED_UP',
  })
  await assert.rejects(use(b, a, 'web'), { code: 'ERR_NATWORK_SERVICE_DENIED' })
  // Locally already: it is not for that service.
  await assert.rejects(use(b, a, 'other', ticket.text), { code: 'ERR_NATWORK_TICKET' })
  assert.equal(touched(), 2)
  const [record] = await a.network.tickets()
  assert.deepEqual(record?.usedBy, [b.network.id])
})

test('a use that is under way for two nodes at once is given to one', async (t) => {
  const [a, b] = await makePair(t)
  const c = makeNode(t)
  await c.network.start()
  const { port } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port })
  const { text } = await a.network.createTicket({ service: 'web' })
  const results = await Promise.allSettled([use(b, a, 'web', text), use(c, a, 'web', text)])
  assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
})

test('tickets: expired, revoked, and forged ones open nothing', async (t) => {
  const [a, b] = await makePair(t)
  const { port, touched } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port })
  const own = await createIdentity(await a.context.getPrivateKey())
  const terms = { service: 'web', uses: 1, addresses: a.network.addresses() }
  const expired = signTicket(own, { ...terms, expires: Math.floor(Date.now() / 1_000) - 1 })
  await assert.rejects(use(b, a, 'web', expired.text), { code: 'ERR_NATWORK_TICKET_EXPIRED' })

  // Signed by the right key but not in the store: a restart with an empty memory refills nothing.
  const forgotten = signTicket(own, { ...terms, expires: Math.floor(Date.now() / 1_000) + 1_000 })
  await assert.rejects(use(b, a, 'web', forgotten.text), { code: 'ERR_NATWORK_TICKET_REVOKED' })

  const revoked = await a.network.createTicket({ service: 'web' })
  assert.equal(await a.network.revokeTicket(revoked.ticketId), true)
  assert.equal(await a.network.revokeTicket(revoked.ticketId), false)
  await assert.rejects(use(b, a, 'web', revoked.text), { code: 'ERR_NATWORK_TICKET_REVOKED' })
  assert.equal(touched(), 0)
})

test('revoking a ticket resets the pipes that it opened, and no others', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await listen(t, (socket) => socket.pipe(socket))
  a.network.services.set({ name: 'web', host: '127.0.0.1', port })
  const [one, two] = [
    await a.network.createTicket({ service: 'web' }),
    await a.network.createTicket({ service: 'web' }),
  ]
  const cut = await b.network.connect(a.network.id, { service: 'web', ticket: one.text })
  const kept = await b.network.connect(a.network.id, { service: 'web', ticket: two.text })
  const broken = once(cut, 'error')
  await a.network.revokeTicket(one.ticketId)
  await broken
  kept.end('still here')
  assert.equal((await readAll(kept)).toString(), 'still here')
})

test('a restart with the same store refills no ticket; one with an empty store opens none', async (t) => {
  const key = generatePrivateKey()
  const store = new TicketStore(new MemoryRecords())
  const { port } = await canary(t)
  const service = { name: 'web', host: '127.0.0.1', port }
  const options = { services: [service], tickets: store }
  const getPrivateKey = (): Promise<typeof key> => Promise.resolve(key)
  const identity = await createIdentity(key)
  const getSelf = () => Promise.resolve(signNodeInfo(identity, { addresses: [], sequence: 0, expires: 0 }))
  const first = makeNode(t, options, { getPrivateKey, getSelf })
  const [b, c] = [makeNode(t), makeNode(t)]
  await Promise.all([first, b, c].map(({ network }) => network.start()))
  const { text } = await first.network.createTicket({ service: 'web' })
  assert.equal(await use(b, first, 'web', text), 'secret')
  const at = first.network.address().port
  await first.network.stop()

  const second = makeNode(t, { ...options, port: at }, { getPrivateKey, getSelf })
  await second.network.start()
  assert.equal(await use(b, second, 'web', text), 'secret')
  await assert.rejects(use(c, second, 'web', text), { code: 'ERR_NATWORK_TICKET_USED_UP' })
  await second.network.stop()

  const third = makeNode(t, { services: [service], port: at }, { getPrivateKey, getSelf })
  await third.network.start()
  await assert.rejects(use(b, third, 'web', text), { code: 'ERR_NATWORK_TICKET_REVOKED' })
})

test('another node at the address: both sides get an error that names expected and found', async (t) => {
  const [a, b] = await makePair(t)
  const { port, touched } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: '*' })
  const wanted = await createIdentity(generatePrivateKey())
  const misled = signNodeInfo(wanted, {
    addresses: [a.network.address()],
    sequence: 1,
    expires: Math.floor(Date.now() / 1_000) + 1_000,
  })
  await b.directory.put(misled)
  const refused = once(a.network, 'refused') as Promise<[Refusal]>
  const both = new RegExp(`expected ${wanted.id}, found ${a.network.id}`)
  await assert.rejects(b.network.connect(wanted.id, { service: 'web' }), {
    name: 'PeerError',
    code: 'ERR_NATWORK_IDENTITY',
    message: both,
  })
  const [{ error, peer }] = await refused
  assert.equal(error.code, 'ERR_NATWORK_IDENTITY')
  assert.match(error.message, both)
  assert.equal(peer, b.network.id)
  assert.equal(touched(), 0)
})

test('the right node is found behind a wrong and a dead address', async (t) => {
  const [a, b] = await makePair(t)
  const c = makeNode(t)
  await c.network.start()
  const { port } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: '*' })
  const identity = await createIdentity(await a.context.getPrivateKey())
  const record = signNodeInfo(identity, {
    addresses: [{ address: '127.0.0.1', port: await closedPort() }, c.network.address(), a.network.address()],
    sequence: a.network.self.sequence + 1,
    expires: Math.floor(Date.now() / 1_000) + 1_000,
  })
  await b.directory.put(record)
  assert.equal(await use(b, a, 'web'), 'secret')
})

test('handshakes in progress are bounded, and what is not TLS ends by itself', async (t) => {
  const [a, b] = await makePair(t, {
    limits: { handshakesPerAddress: 1 },
    timeouts: { handshake: 500 },
  })
  const { port } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: '*' })
  const { UtpServer } = await import('../../../src/utp/index.ts')
  const stranger = new UtpServer({ host: '127.0.0.1', port: 0 })
  await stranger.start()
  t.after(() => stranger.stop({ timeout: 0 }))
  const silent = await stranger.connect(a.network.address())
  const refused = once(a.network, 'refused') as Promise<[Refusal]>
  silent.on('error', () => undefined).resume()
  await assert.rejects(use(b, a, 'web'))
  const [{ error, peer }] = await refused
  assert.equal(error.code, 'ERR_NATWORK_TIMEOUT')
  assert.equal(peer, undefined)
  assert.equal(await use(b, a, 'web'), 'secret')
})

test('a handshake that nobody has begun with signals cannot be gone on with', async (t) => {
  const [a, b] = await makePair(t)
  const { port } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: '*' })
  const { UtpServer } = await import('../../../src/utp/index.ts')
  const stranger = new UtpServer({ host: '127.0.0.1', port: 0 })
  await stranger.start()
  t.after(() => stranger.stop({ timeout: 0 }))
  // No link has a name yet, or one that anybody knows.
  for (const name of [Buffer.alloc(16), Buffer.alloc(16, 7)]) {
    const forged = await stranger.connect(a.network.address())
    const closed = new Promise((resolve) => forged.once('close', resolve))
    forged.on('error', () => undefined).resume()
    const refused = once(a.network, 'refused') as Promise<[Refusal]>
    forged.write(writeGreeting(name.toString('hex')))
    const [{ error, peer }] = await refused
    assert.deepEqual([error.code, peer], ['ERR_NATWORK_PROTOCOL', undefined])
    await closed
  }
  assert.equal(await use(b, a, 'web'), 'secret')
})

test('createTicket says what is wrong with its terms', async (t) => {
  const a = makeNode(t, { services: [{ name: 'web', host: '127.0.0.1', port: 80 }] })
  await a.network.start()
  const make = (options: object): Promise<unknown> => a.network.createTicket({ service: 'web', ...options })
  await assert.rejects(make({ service: 'wev' }), { code: 'ERR_NATWORK_SERVICE' })
  await assert.rejects(make({ uses: 0 }), { code: 'ERR_NATWORK_TICKET' })
  await assert.rejects(make({ uses: 1_001 }), { code: 'ERR_NATWORK_TICKET' })
  await assert.rejects(make({ expires: new Date(0) }), { code: 'ERR_NATWORK_TICKET' })
  await assert.rejects(make({ expires: new Date(NaN) }), { code: 'ERR_NATWORK_TICKET' })
})

test('services with impossible definitions are refused with the reason', () => {
  const network = new Network({} as never)
  for (const [bad, why] of [
    [{ name: 'Web' }, /cannot name a service/],
    [{ host: '' }, /needs the host/],
    [{ port: 0 }, /TCP port/],
    [{ port: 1.5 }, /TCP port/],
    [{ allow: ['everyone'] }, /not a node id/],
  ] as const) {
    const service = { name: 'web', host: '127.0.0.1', port: 80, ...bad }
    assert.throws(() => network.services.set(service as never), { code: 'ERR_NATWORK_SERVICE', message: why })
  }
  assert.deepEqual([...network.services], [])
  assert.ok(memoryDirectory())
})

test('ping measures round trips without any service', async (t) => {
  const [a, b] = await makePair(t)
  const pinger = await b.network.ping(a.network.id)
  assert.equal(pinger.peer, a.network.id)
  assert.deepEqual(pinger.remote, a.network.address())
  for (let i = 0; i < 5; i++) assert.ok((await pinger.roundTrip()) > 0)
  pinger.close()
  await assert.rejects(pinger.roundTrip())
})

test('one machine takes a bounded part of the places for control streams and pings, however many ids it makes up', async (t) => {
  const a = makeNode(t, { limits: { controlsPerAddress: 2 } })
  await a.network.start()
  const pingFrom = async (host: string): Promise<Pinger> => {
    const { network, directory } = makeNode(t, { host })
    await network.start()
    await directory.put(a.network.self)
    return network.ping(a.network.id)
  }
  const first = await pingFrom('127.0.0.2')
  await pingFrom('127.0.0.2')
  await assert.rejects(pingFrom('127.0.0.2'), { code: 'ERR_NATWORK_BUSY' })
  await pingFrom('127.0.0.3')
  first.close()
  // The place is free when the other side has heard of it.
  for (let again = true; again;) {
    again = await pingFrom('127.0.0.2').then(
      () => false,
      (error: unknown) => (error as { code?: string }).code === 'ERR_NATWORK_BUSY',
    )
  }
})

test('a refused stranger holds a place among the handshakes until it has gone', async (t) => {
  const [a, b] = await makePair(t, { limits: { handshakesPerAddress: 1 }, timeouts: { linger: 60_000 } })
  const { port } = await canary(t)
  a.network.services.set({ name: 'web', host: '127.0.0.1', port, allow: '*' })
  for (let i = 0; i < 3; i++) {
    await assert.rejects(use(b, a, 'missing'), { code: 'ERR_NATWORK_SERVICE_DENIED' })
    let heard: string | undefined
    while (heard === undefined) {
      heard = await use(b, a, 'web').catch((error: unknown) => {
        assert.equal(error instanceof Error && 'code' in error && error.code, 'ERR_NATWORK_NODE_UNREACHABLE')
        return undefined
      })
    }
    assert.equal(heard, 'secret')
  }
})
