// 3 s. An allocation and its paths stay, through loss, wrong clocks, idle NATs and restarts of the relay.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND, type Micros, type Path } from '../../src/core/machine.ts'
import { World, type Host, type SimSocket } from '../../src/sim/index.ts'
import { LongTermAuth } from '../../src/stun/index.ts'
import { CallbackUsers, TurnClient, type AllocationRequest, type TurnEvent } from '../../src/turn/index.ts'
import { credentials, RELAY_PORT, startRelay } from './turn-relay.ts'

const RELAY = '192.0.2.1'
const PEER = '192.0.2.2'

/** A client with an allocation, and what it heard. */
function startClient(host: Host, request: AllocationRequest = {}, auth = credentials()) {
  const socket = host.bind({ port: 1315 })
  const events: TurnEvent[] = []
  const heard: { path: Path; text: string }[] = []
  const server = { remote: { address: RELAY, port: RELAY_PORT } }
  const client = new TurnClient({
    rng: host.rng,
    server,
    auth,
    request,
    output: (_now, data) => {
      socket.send(data, server.remote)
      return true
    },
    input: (path, bytes) => heard.push({ path, text: Buffer.from(bytes).toString() }),
  })
  const attachment = socket.attach(client, (event) => events.push(event))
  const send = (to: SimSocket, text: string): void => {
    const path = client.path(to.address)
    path.via?.send(socket.now(), { path, data: Buffer.from(text) })
    attachment.wake()
  }
  client.allocate(socket.now())
  attachment.wake()
  const types = (): string[] => events.map(({ type }) => type)
  return { client, socket, attachment, events, heard, send, types }
}

/** A peer that says back what it is told. */
function startPeer(world: World): { socket: SimSocket; told: string[] } {
  const socket = world.publicHost('peer', { addresses: [PEER] }).bind({ port: 4000 })
  const told: string[] = []
  socket.onMessage = (data, from) => {
    told.push(Buffer.from(data).toString())
    socket.send(data, from)
  }
  return { socket, told }
}

function startWorld(seed: number): { world: World; relay: Host } {
  const world = new World({ seed })
  return { world, relay: world.publicHost('relay', { addresses: [RELAY] }) }
}

test('behind a symmetric NAT, idle for an hour: the allocation stands, and a permitted peer gets in', () => {
  const { world, relay } = startWorld(1)
  startRelay(relay)
  const { client, socket, attachment, heard, types } = startClient(
    world.site('home', { kind: 'symmetric' }).client,
  )
  const peer = startPeer(world)
  world.runFor(SECOND)
  client.permit(socket.now(), PEER)
  attachment.wake()
  world.runFor(3_600 * SECOND)
  const [relayed] = client.allocation?.relayed ?? []
  assert.ok(relayed)
  peer.socket.send(Buffer.from('hello'), relayed)
  world.runFor(SECOND)
  assert.deepEqual(
    heard.map(({ text }) => text),
    ['hello'],
  )
  assert.deepEqual(heard[0]?.path.remote, peer.socket.address)
  assert.deepEqual(types(), ['allocated'])
})

for (const ppm of [-100_000, 0, 100_000]) {
  test(`a clock that is ${ppm / 10_000} % off: nothing expires in two hours, used every four minutes or all the time`, () => {
    const { world, relay } = startWorld(2)
    startRelay(relay)
    const host = world.publicHost('client', { addresses: ['192.0.2.3'], clock: { ppm } })
    const { heard, send, types } = startClient(host)
    const peer = startPeer(world)
    for (let n = 0; n < 20; n++) send(peer.socket, `start ${n}`)
    world.runFor(SECOND)
    let sent = 0
    for (const gap of [240, 1]) {
      for (let elapsed = 0; elapsed < 3_600; elapsed += gap) {
        send(peer.socket, `${sent++}`)
        world.runFor(gap * SECOND)
      }
    }
    const back = heard.map(({ text }) => text).filter((text) => !text.startsWith('start'))
    assert.equal(back.length, sent)
    assert.deepEqual(types(), ['allocated'])
  })
}

test('a third of all packets lost, each way: the allocation stands for two hours', () => {
  for (let seed = 1; seed <= 5; seed++) {
    const { world, relay } = startWorld(seed)
    startRelay(relay)
    const host = world.publicHost('client', {
      addresses: ['192.0.2.3'],
      link: { loss: 0.33, duplicate: 0.1, back: { loss: 0.33, duplicate: 0.1 } },
    })
    const { send, types, heard } = startClient(host)
    const peer = startPeer(world)
    world.runFor(60 * SECOND)
    for (let n = 0; n < 720; n++) {
      send(peer.socket, `${n}`)
      world.runFor(10 * SECOND)
    }
    // Five requests in a row may get lost: that is said, and passes.
    assert.deepEqual(
      types().filter((type) => type !== 'silent'),
      ['allocated'],
      `seed ${seed}`,
    )
    // 0.67 × 0.67 = 45 % come back, some twice.
    assert.ok(heard.length > 250, `seed ${seed}: ${heard.length} answers`)
  }
})

test('the relay restarts: noticed within seconds of traffic, and everything is there again at another address', () => {
  const { world, relay } = startWorld(4)
  const stop = startRelay(relay)
  const { client, socket, attachment, heard, send, types } = startClient(
    world.site('home', { kind: 'symmetric' }).client,
  )
  const peer = startPeer(world)
  world.runFor(SECOND)
  client.permit(socket.now(), PEER)
  attachment.wake()
  world.runFor(SECOND)
  for (let n = 0; n < 20; n++) send(peer.socket, `before ${n}`)
  world.runFor(SECOND)
  assert.equal(heard.length, 20)
  const before = client.path(peer.socket.address)

  stop()
  world.runFor(3 * SECOND)
  startRelay(relay)
  send(peer.socket, 'is anybody there?')
  world.runFor(6 * SECOND)
  assert.deepEqual(types(), ['allocated', 'lost', 'renewed'])

  // The old path is dead, the new one works, in both directions.
  const after = client.path(peer.socket.address)
  assert.notEqual(after.via, before.via)
  before.via?.send(socket.now(), { path: before, data: Buffer.from('lost') })
  attachment.wake()
  send(peer.socket, 'after')
  const [relayed] = client.allocation?.relayed ?? []
  assert.ok(relayed)
  peer.socket.send(Buffer.from('unasked'), relayed)
  world.runFor(SECOND)
  assert.deepEqual(
    heard
      .slice(20)
      .map(({ text }) => text)
      .sort(),
    ['after', 'unasked'],
  )
  assert.ok(!peer.told.includes('lost'))
})

test('the relay is gone for an hour: asked for ever more slowly, and there again within half a minute', () => {
  const { world, relay } = startWorld(5)
  const stop = startRelay(relay)
  const { types } = startClient(world.publicHost('client', { addresses: ['192.0.2.3'] }))
  let asked = 0
  world.runFor(SECOND)
  stop()
  const silent = relay.bind({ port: RELAY_PORT })
  silent.onMessage = () => {
    asked++
  }
  world.runFor(3_600 * SECOND)
  assert.deepEqual(types(), ['allocated', 'silent', 'lost'])
  assert.ok(asked < 600, `${asked} requests in an hour`)
  silent.close()
  startRelay(relay)
  world.runFor(70 * SECOND)
  assert.deepEqual(types(), ['allocated', 'silent', 'lost', 'renewed'])
})

test('a NAT that forgets us: another allocation, or with mobility the same one', () => {
  for (const mobility of [false, true]) {
    const { world, relay } = startWorld(6)
    startRelay(relay)
    const site = world.site('home', { kind: 'symmetric' })
    const { client, send, heard, types } = startClient(site.client, { mobility })
    const peer = startPeer(world)
    world.runFor(SECOND)
    const before = client.allocation?.relayed
    assert.equal(client.allocation?.mobility, mobility)
    site.reboot()
    send(peer.socket, 'lost')
    world.runFor(8 * SECOND)
    assert.deepEqual(types(), mobility ? ['allocated'] : ['allocated', 'lost', 'renewed'])
    if (mobility) assert.deepEqual(client.allocation.relayed, before)
    send(peer.socket, 'there')
    world.runFor(SECOND)
    assert.equal(heard.at(-1)?.text, 'there')
  }
})

test('what comes from elsewhere is not the client’s, whatever it looks like', () => {
  const { world, relay } = startWorld(7)
  startRelay(relay)
  const { client, socket, heard, send, events } = startClient(
    world.publicHost('client', { addresses: ['192.0.2.3'] }),
  )
  const peer = startPeer(world)
  const captured: Buffer[] = []
  world.runFor(SECOND)
  // What the relay really sends, taken down on the way.
  const handle = client.handleDatagram.bind(client)
  client.handleDatagram = (now: Micros, path: Path, bytes: Uint8Array) => {
    captured.push(Buffer.from(bytes))
    return handle(now, path, bytes)
  }
  for (let n = 0; n < 20; n++) {
    send(peer.socket, `${n}`)
    world.runFor(SECOND)
  }
  assert.equal(heard.length, 20)
  assert.ok(captured.some((bytes) => bytes[0] === 0x40) && captured.some((bytes) => bytes[0] === 0))
  const random = world.rng('forger')
  const before = { heard: heard.length, events: events.length }
  const places = [
    { address: RELAY, port: RELAY_PORT + 1 },
    { address: '203.0.113.9', port: RELAY_PORT },
    peer.socket.address,
  ]
  for (let n = 0; n < 20_000; n++) {
    const bytes = Buffer.from(captured[random.uint32() % captured.length]!)
    if (n % 2 === 0) bytes[random.uint32() % bytes.length] = random.uint32()
    const remote = places[random.uint32() % places.length]!
    assert.equal(handle(socket.now(), { remote }, bytes), false)
    // Nor what comes by another way from the same address.
    const via = { kind: 'socket', send: () => undefined } as const
    assert.equal(handle(socket.now(), { remote: { address: RELAY, port: RELAY_PORT }, via }, bytes), false)
  }
  assert.deepEqual({ heard: heard.length, events: events.length }, before)
})

/** A relay whose credentials say when they end, as a helper's do, and a client that gets some for six hours. */
function startTimeLimited(world: World, relay: Host) {
  const now = (): number => world.now / SECOND
  const passwordOf = (username: string): string | undefined =>
    Number(username.split(':')[0]) > now() ? 'secret' : undefined
  startRelay(relay, new CallbackUsers('relay.test', passwordOf, (username) => username.split(':')[1]!))
  const credentialsUntil = (until: number): LongTermAuth => new LongTermAuth(`${until}:node`, 'secret')
  const started = startClient(
    world.publicHost('client', { addresses: ['192.0.2.3'] }),
    {},
    credentialsUntil(6 * 3_600),
  )
  return { ...started, credentialsUntil }
}

test('credentials that end take the allocation with them', () => {
  const { world, relay } = startWorld(3)
  const { types } = startTimeLimited(world, relay)
  world.runFor(7 * 3_600 * SECOND)
  assert.deepEqual(types(), ['allocated', 'lost'])
})

test('with new credentials of the same user it stands, and its paths work', () => {
  const { world, relay } = startWorld(3)
  const { client, send, heard, types, credentialsUntil } = startTimeLimited(world, relay)
  const peer = startPeer(world)
  for (let hours = 6; hours <= 60; hours += 6) {
    world.runFor((6 * 3_600 - 600) * SECOND)
    client.setCredentials(credentialsUntil(2 * hours * 3_600))
  }
  send(peer.socket, 'still here')
  world.runFor(SECOND)
  assert.deepEqual(types(), ['allocated'])
  assert.equal(heard.at(-1)?.text, 'still here')
})

test('credentials of another user are refused for it: its path is not theirs', () => {
  const { world, relay } = startWorld(3)
  const { client, socket, attachment, types } = startTimeLimited(world, relay)
  world.runFor(SECOND)
  client.setCredentials(new LongTermAuth(`${12 * 3_600}:somebody else`, 'secret'))
  client.recheck(socket.now())
  attachment.wake()
  world.runFor(3_600 * SECOND)
  assert.equal(types()[1], 'lost')
})
