import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND, type Carrier, type Path } from '../../../src/core/index.ts'
import { UtpMachine } from '../../../src/utp/index.ts'
import {
  HEADER_SIZE,
  Packet,
  parsePacket,
  ST_DATA,
  ST_FIN,
  ST_RESET,
  ST_STATE,
  ST_SYN,
  stamp,
  writeHeader,
} from '../../../src/utp/packet.ts'
import { Pair, pattern, seededRng, writer } from './harness.ts'

function parsed(bytes: Uint8Array): Packet {
  const packet = new Packet()
  assert.ok(parsePacket(bytes, packet))
  return packet
}

function datagram(
  type: number,
  connectionId: number,
  sequence: number,
  ack: number,
  payload = 0,
): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + payload)
  writeHeader(bytes, type, 0, connectionId, sequence)
  stamp(bytes, 12_345, 0, 100_000, ack)
  return bytes
}

const stranger = (n: number): Path => ({
  remote: { address: `198.51.${(n >> 8) & 255}.${n & 255}`, port: 1 + (n % 65_535) },
})

test('a flood of SYNs from invented addresses holds a fixed amount, and established connections do not notice', () => {
  const pair = new Pair({ delay: 10_000 }, { b: { maxHalfOpen: 100 } })
  const [a, b] = pair.connected()
  const bytes = pattern(500_000)
  const write = writer(a, bytes)
  pair.onEvent = () => write(pair.now)
  write(pair.now)
  for (let n = 0; n < 20_000; n++) {
    pair.b.machine.handleDatagram(pair.now, stranger(n), datagram(ST_SYN, n & 0xffff, n & 0xffff, 0))
    if (n % 100 === 99) {
      // The answers go nowhere: keep them off the wire to a.
      while (pair.b.machine.pollTransmit(pair.now) !== undefined);
    }
    if (n % 1_000 === 999) pair.pass(1_000)
    assert.ok(pair.b.machine.stats.halfOpen <= 100)
  }
  assert.equal(pair.b.machine.stats.connections, 1)
  assert.equal(pair.b.types().filter((type) => type === 'incoming').length, 1)
  pair.run(() => b.stats.bytesReceived === bytes.length)
  assert.equal(Buffer.compare(pair.b.bytesOf(b), bytes), 0)
  // And a newcomer gets in.
  pair.a.machine.connect(pair.now, pair.b.path)
  pair.run(() => pair.b.types().filter((type) => type === 'incoming').length === 2)
})

test('only the one who receives our answer makes a connection of a SYN', () => {
  const machine = new UtpMachine({ rng: seededRng(9) })
  const from = stranger(1)
  machine.handleDatagram(0, from, datagram(ST_SYN, 500, 1_000, 0))
  const answer = parsed(machine.pollTransmit(0)!.data)
  const proof = (answer.sequence - 1) & 0xffff
  for (const [why, bytes, path] of [
    ['a wrong ack', datagram(ST_DATA, 501, 1_001, (proof + 1) & 0xffff, 4), from],
    ['a wrong ack from another address', datagram(ST_DATA, 501, 1_001, (proof + 1) & 0xffff, 4), stranger(2)],
    ['another id', datagram(ST_DATA, 502, 1_001, proof, 4), from],
    ['a number far away', datagram(ST_DATA, 501, 9_000, proof, 4), from],
    ['a number before the SYN', datagram(ST_DATA, 501, 999, proof, 4), from],
  ] as const) {
    machine.handleDatagram(0, path, bytes)
    assert.equal(machine.stats.connections, 0, why)
    assert.equal(machine.pollEvent(), undefined, why)
  }
  machine.handleDatagram(0, from, datagram(ST_DATA, 501, 1_001, proof, 4))
  assert.equal(machine.pollEvent()?.type, 'incoming')
  assert.equal(machine.pollEvent()?.type, 'readable')
  assert.equal(machine.stats.halfOpen, 0)
})

test('the proof may come by a better path than the SYN, also when few handshakes have its id', () => {
  const machine = new UtpMachine({ rng: seededRng(9) })
  machine.handleDatagram(0, stranger(1), datagram(ST_SYN, 500, 1_000, 0))
  const proof = (parsed(machine.pollTransmit(0)!.data).sequence - 1) & 0xffff
  machine.handleDatagram(0, stranger(2), datagram(ST_DATA, 501, 1_001, proof, 4))
  const incoming = machine.pollEvent()
  assert.ok(incoming?.type === 'incoming')
  assert.deepEqual(incoming.connection.path, stranger(2))
  assert.equal(machine.stats.halfOpen, 0)

  // With many of one id, a number guessed once would have as many chances.
  for (let n = 3; n <= 7; n++) machine.handleDatagram(0, stranger(n), datagram(ST_SYN, 700, 1_000, 0))
  const answers = Array.from({ length: 16 }, () => machine.pollTransmit(0)).flatMap((one) => one ?? [])
  const proofs = answers
    .map(({ data }) => parsed(data))
    .filter(({ connectionId }) => connectionId === 700)
    .map(({ sequence }) => datagram(ST_DATA, 701, 1_001, (sequence - 1) & 0xffff, 4))
  assert.equal(proofs.length, 5)
  const [oldest, second] = proofs
  machine.handleDatagram(0, stranger(8), oldest!)
  assert.equal(machine.stats.connections, 1)
  machine.handleDatagram(0, stranger(3), oldest!)
  assert.equal(machine.stats.connections, 2)
  machine.handleDatagram(0, stranger(9), second!)
  assert.equal(machine.stats.connections, 3)
})

test('a connection that moves when it is connected, before its proof is out, comes about by the new path', () => {
  const [here, there] = [new UtpMachine({ rng: seededRng(1) }), new UtpMachine({ rng: seededRng(2) })]
  const a = here.connect(0, stranger(1))
  there.handleDatagram(0, stranger(2), here.pollTransmit(0)!.data.slice())
  here.handleDatagram(0, stranger(1), there.pollTransmit(0)!.data.slice())
  a.setPath(0, stranger(11))
  a.write(0, pattern(100))
  for (let out = here.pollTransmit(0); out !== undefined; out = here.pollTransmit(0)) {
    assert.deepEqual(out.path, stranger(11))
    there.handleDatagram(0, stranger(12), out.data.slice())
  }
  const events = [there.pollEvent(), there.pollEvent()]
  assert.deepEqual(
    events.map((event) => event?.type),
    ['incoming', 'readable'],
  )
})

test('a repeated SYN gets the same answer, never a larger one than itself', () => {
  const machine = new UtpMachine({ rng: seededRng(9) })
  const syn = datagram(ST_SYN, 500, 1_000, 0)
  const answers = [0, SECOND, 3 * SECOND].map((now) => {
    machine.handleDatagram(now, stranger(1), syn)
    const { data } = machine.pollTransmit(now)!
    assert.equal(data.length, syn.length)
    return parsed(data).sequence
  })
  assert.equal(new Set(answers).size, 1)
  assert.equal(machine.stats.halfOpen, 1)
})

test('strangers get one RESET each time, not often, and never for a RESET', () => {
  const machine = new UtpMachine({ rng: seededRng(9), maxResetsPerSecond: 10 })
  machine.handleDatagram(0, stranger(1), datagram(ST_DATA, 7, 77, 1, 10))
  const reset = parsed(machine.pollTransmit(0)!.data)
  assert.deepEqual([reset.type, reset.connectionId, reset.ack], [ST_RESET, 7, 77])
  assert.equal(machine.handleDatagram(0, stranger(1), datagram(ST_RESET, 7, 77, 1)), false)
  assert.equal(machine.pollTransmit(0), undefined)
  let sent = 0
  for (let n = 0; n < 10_000; n++) {
    const now = n * 1_000
    machine.handleDatagram(
      now,
      stranger(n),
      datagram([ST_DATA, ST_STATE, ST_FIN][n % 3]!, n & 0xffff, n & 0xffff, 1),
    )
    while (machine.pollTransmit(now) !== undefined) sent++
  }
  assert.ok(sent > 90 && sent <= 111, `${sent}`)
  assert.equal(machine.stats.resetsSent, sent + 1)
  assert.equal(machine.pollTimeout(), undefined)
})

test('a RESET is believed in each of the forms libutp knows, and only when it answers a packet of ours', () => {
  for (const role of ['initiator', 'acceptor'] as const) {
    for (const form of ['receive', 'send'] as const) {
      for (const [offset, believed] of [
        [0, true],
        [-1, true],
        [1, true],
        [5_000, false],
        [-5_000, false],
      ] as const) {
        const pair = new Pair()
        const [a, b] = pair.connected()
        const [own, side, peer] = role === 'initiator' ? [a, pair.a, pair.b] : [b, pair.b, pair.a]
        own.write(pair.now, pattern(10))
        pair.drain()
        const data = pair.sent.findLast((one) => one.from === side.name)!
        const { connectionId, sequence } = parsed(data.bytes)
        const receiveId = role === 'initiator' ? connectionId - 1 : connectionId + 1
        const id = (form === 'send' ? connectionId : receiveId) & 0xffff
        pair.inject(side, peer.path, datagram(ST_RESET, id, 1, (sequence + offset) & 0xffff))
        assert.equal(own.state, believed ? 'closed' : 'open', `${role} ${form} ${offset}`)
        if (!believed) continue
        const closed = side.last('closed')
        assert.ok(closed.type === 'closed')
        assert.equal(closed.error?.code, 'ERR_NATWORK_UTP_RESET')
      }
    }
  }
})

test('a RESET from an address that is not the peer’s is nobody’s', () => {
  const pair = new Pair()
  const [a] = pair.connected()
  a.write(pair.now, pattern(10))
  pair.drain()
  const { connectionId, sequence } = parsed(pair.sent.at(-1)!.bytes)
  pair.inject(pair.a, stranger(5), datagram(ST_RESET, connectionId, 1, sequence))
  assert.equal(a.state, 'open')
})

test('reset tells the peer at once; both ends are gone and the peer knows why', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  b.write(pair.now, pattern(100_000))
  pair.pass(15_000)
  a.reset(pair.now)
  pair.drain()
  assert.deepEqual(pair.a.types(a).at(-1), 'closed')
  pair.run(() => pair.b.had('closed'))
  const closed = pair.b.last('closed')
  assert.ok(closed.type === 'closed')
  assert.equal(closed.error?.code, 'ERR_NATWORK_UTP_RESET')
  assert.equal(a.write(pair.now, pattern(1)), 0)
  assert.equal(a.read(pair.now), undefined)
  assert.equal(b.read(pair.now), undefined)
  pair.pass(60 * SECOND)
  assert.equal(pair.a.machine.stats.connections + pair.b.machine.stats.connections, 0)
  assert.equal(pair.a.machine.stats.receiveBytes + pair.b.machine.stats.receiveBytes, 0)
})

test('a peer that closed and forgot answers our FIN with RESET: that is no error when everything has arrived', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  b.write(pair.now, pattern(1_000))
  b.end(pair.now)
  pair.run(() => pair.a.had('ended'))
  a.end(pair.now)
  pair.drain()
  const fin = parsed(pair.sent.findLast((one) => one.from === 'a')!.bytes)
  assert.equal(fin.type, ST_FIN)
  pair.inject(pair.a, pair.b.path, datagram(ST_RESET, fin.connectionId, 1, fin.sequence))
  const closed = pair.a.last('closed')
  assert.ok(closed.type === 'closed' && closed.error === undefined)
})

test('forged data that guesses the id but not the numbers changes nothing', () => {
  const pair = new Pair()
  const [, b] = pair.connected()
  const receiveId = (parsed(pair.sent[0]!.bytes).connectionId + 1) & 0xffff
  const real = parsed(pair.sent.findLast((one) => one.from === 'a')!.bytes)
  for (const [sequence, ack] of [
    [real.sequence, real.ack + 1_000],
    [real.sequence, real.ack - 20_000],
    [real.sequence + 20_000, real.ack],
  ]) {
    pair.inject(pair.b, pair.a.path, datagram(ST_DATA, receiveId, sequence! & 0xffff, ack! & 0xffff, 10))
  }
  assert.equal(b.stats.bytesReceived, 0)
  assert.equal(b.readable, 0)
})

test('a connection moves to another path in full flight and loses no byte', () => {
  for (const oldPath of ['dead', 'alive'] as const) {
    for (const order of ['together', 'a first', 'b first'] as const) {
      const pair = new Pair({ delay: 30_000 })
      const [a, b] = pair.connected()
      const forth = pattern(1_500_000, 1)
      const back = pattern(700_000, 2)
      const writeForth = writer(a, forth)
      const writeBack = writer(b, back)
      pair.onEvent = () => {
        if (writeForth(pair.now)) a.end(pair.now)
        if (writeBack(pair.now)) b.end(pair.now)
      }
      pair.onEvent(pair.a, pair.a.last('connected'))
      pair.pass(100_000)
      // Both sides have a second address; b's packets come from where a sends to.
      const newA: Path = { remote: { address: '203.0.113.1', port: 2001 } }
      const newB: Path = { remote: { address: '203.0.113.2', port: 2002 } }
      pair.route = (from, to) => {
        const isNew = to === newA || to === newB
        if (!isNew) return oldPath === 'dead' ? undefined : from.path
        return from === pair.a ? newA : newB
      }
      const move = { a: () => a.setPath(pair.now, newB), b: () => b.setPath(pair.now, newA) }
      if (order !== 'b first') move.a()
      if (order !== 'a first') move.b()
      pair.pass(200_000)
      if (order === 'b first') move.a()
      if (order === 'a first') move.b()
      pair.run(() => pair.a.had('closed') && pair.b.had('closed'))
      assert.equal(Buffer.compare(pair.b.bytesOf(b), forth), 0, `${oldPath}, ${order}`)
      assert.equal(Buffer.compare(pair.a.bytesOf(a), back), 0, `${oldPath}, ${order}`)
      assert.ok(pair.now < 30 * SECOND, `${oldPath}, ${order}: ${pair.now}`)
    }
  }
})

test('a connection takes datagrams from its path and the three before it, not from more', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  const paths = Array.from({ length: 6 }, (_, n) => stranger(n))
  for (const path of paths) b.setPath(pair.now, path)
  while (pair.b.machine.pollTransmit(pair.now) !== undefined);
  const { stats } = pair.b.machine
  a.write(pair.now, Buffer.from('x'))
  const data = pair.a.machine.pollTransmit(pair.now)!.data
  const accepted = paths.map((path) => {
    const before = b.stats.packetsReceived
    pair.b.machine.handleDatagram(pair.now, path, data)
    return b.stats.packetsReceived > before
  })
  assert.deepEqual(accepted, [false, false, true, true, true, true])
  assert.equal(pair.b.machine.stats.unknown, stats.unknown + 2)
  b.reset(pair.now)
  for (const path of paths) assert.equal(pair.b.machine.handleDatagram(pair.now, path, data), true)
  assert.equal(pair.b.machine.stats.unknown, stats.unknown + 8)
})

test('two moves in a row: a RESET from where nothing was heard yet ends nothing, whichever move it belongs to', () => {
  const pair = new Pair()
  const [, b] = pair.connected()
  const [first, second] = [stranger(1), stranger(2)]
  b.setPath(pair.now, first)
  b.setPath(pair.now, second)
  const packet = parsed(pair.b.machine.pollTransmit(pair.now)!.data)
  const reset = datagram(ST_RESET, packet.connectionId, 1, packet.sequence)
  for (const path of [first, second]) {
    pair.b.machine.handleDatagram(pair.now, path, reset)
    assert.equal(b.state, 'open')
  }
  // The path that carried the connection until now is known to lead to the peer.
  pair.b.machine.handleDatagram(pair.now, pair.a.path, reset)
  assert.equal(b.state, 'closed')
})

test('what an acceptor says by another path before the answer to the SYN is there is not answered with a RESET', () => {
  const machine = new UtpMachine({ rng: seededRng(9) })
  machine.connect(0, stranger(1))
  const { connectionId } = parsed(machine.pollTransmit(0)!.data)
  machine.handleDatagram(0, stranger(2), datagram(ST_DATA, connectionId, 4_000, 1, 9))
  assert.equal(machine.pollTransmit(0), undefined)
  machine.handleDatagram(0, stranger(2), datagram(ST_DATA, connectionId ^ 1, 4_000, 1, 9))
  assert.equal(machine.stats.resetsSent, 1)
})

test('a packet of a connection is never answered with a RESET, whichever carrier of ours it came by', () => {
  const pair = new Pair()
  const [a] = pair.connected()
  a.write(pair.now, Buffer.from('x'))
  const data = pair.a.machine.pollTransmit(pair.now)!.data
  const carrier: Carrier = { kind: 'socket', send: () => undefined }
  const before = pair.b.machine.stats.resetsSent
  pair.b.machine.handleDatagram(pair.now, { remote: pair.a.path.remote, via: carrier }, data)
  pair.b.machine.handleDatagram(pair.now + 2 * SECOND, { remote: pair.a.path.remote, via: carrier }, data)
  assert.equal(pair.b.machine.stats.resetsSent, before)
})

test('path MTU: probes find what the path takes, lost ones cost no data and no window', () => {
  for (const [limit, least] of [
    [1_500, 1_472],
    [1_464, 1_440],
    [1_400, 1_375],
    [1_280, 1_255],
    [1_210, 1_200],
  ]) {
    const pair = new Pair({ delay: 10_000, fate: (_from, bytes) => (bytes.length > limit! ? [] : [10_000]) })
    const [a, b] = pair.connected()
    const bytes = pattern(8_000_000)
    const write = writer(a, bytes)
    pair.onEvent = () => write(pair.now)
    write(pair.now)
    pair.run(() => b.stats.bytesReceived === bytes.length)
    assert.equal(Buffer.compare(pair.b.bytesOf(b), bytes), 0)
    assert.ok(
      a.stats.datagramSize >= least! && a.stats.datagramSize <= limit!,
      `${limit}: ${a.stats.datagramSize}`,
    )
    assert.equal(a.stats.timeouts, 0, `${limit}`)
    assert.ok(a.stats.lostPackets === 0, `${limit}: ${a.stats.lostPackets}`)
  }
})

test('path MTU: the cap is obeyed, and a path that grows is found out', () => {
  let limit = 1_300
  const pair = new Pair({ delay: 1_000, fate: (_from, bytes) => (bytes.length > limit ? [] : [1_000]) })
  const [a, b] = pair.connected({ maxDatagramSize: 8_000 })
  let wanted = 0
  const push = (size: number): void => {
    wanted += size
    const write = writer(a, pattern(size))
    pair.onEvent = () => write(pair.now)
    write(pair.now)
    pair.run(() => b.stats.bytesReceived === wanted)
  }
  for (let n = 0; n < 40; n++) push(100_000)
  assert.ok(a.stats.datagramSize >= 1_270 && a.stats.datagramSize <= 1_300, `${a.stats.datagramSize}`)
  limit = 60_000
  pair.pass(700 * SECOND)
  push(2_000_000)
  assert.equal(a.stats.datagramSize, 8_000)
  assert.ok(pair.sent.every((one) => one.bytes.length <= 8_000))
})

test('path MTU: new packets are small again when large ones meet a black hole', () => {
  let limit = 9_000
  const pair: Pair = new Pair({
    delay: 1_000,
    // What is already sent keeps its size (BEP 29): it passes only where the network fragments it, here at a price.
    fate: (_from, bytes) => (bytes.length > limit ? (pair.now > 60 * SECOND ? [50_000] : []) : [1_000]),
  })
  const [a, b] = pair.connected({ maxDatagramSize: 4_000 })
  a.write(pair.now, pattern(500_000))
  pair.run(() => b.stats.bytesReceived === 500_000)
  assert.equal(a.stats.datagramSize, 4_000)
  limit = 1_400
  a.write(pair.now, pattern(20_000))
  pair.pass(5 * SECOND)
  assert.equal(a.stats.datagramSize, 1_200)
})

test('ten thousand idle connections: one deadline each, found without a search', () => {
  const pair = new Pair({ delay: 10_000 })
  pair.keepSent = false
  for (let batch = 0; batch < 100; batch++) {
    for (let n = 0; n < 100; n++) pair.a.machine.connect(pair.now, pair.b.path)
    pair.pass(50_000)
  }
  pair.pass(2 * SECOND)
  assert.equal(pair.b.machine.stats.connections, 10_000)
  let woken = 0
  for (let now = pair.now; now < pair.now + 10 * SECOND; now += 100_000) {
    if (pair.a.machine.pollTimeout()!.at > now) continue
    pair.a.machine.handleTimeout(now)
    woken++
  }
  assert.ok(woken <= 2, `${woken}`)
  assert.equal(pair.a.machine.pollTimeout()!.reason, 'keep-alive')
})

test('limits out of their range are told by name', () => {
  for (const options of [
    { connection: { sendBuffer: 1 } },
    { connection: { idleTimeout: 0 } },
    { connection: { maxDatagramSize: 70_000 } },
    { connection: { receiveBuffer: Number.NaN } },
    { connection: { congestion: 'reno' as 'cubic' } },
    { maxHalfOpen: 0 },
    { socketBuffer: 100 },
  ]) {
    const [name] = Object.keys('connection' in options ? options.connection : options)
    assert.throws(() => new UtpMachine({ rng: seededRng(1), ...options }), {
      name: 'UsageError',
      code: 'ERR_NATWORK_UTP_LIMIT',
      message: new RegExp(name!),
    })
  }
})

test('each connection sends by the congestion control it was given, and the peer by its own', () => {
  const pair = new Pair({ delay: 10_000 }, { b: { connection: { congestion: 'ledbat' } } })
  for (const congestion of ['bbr', 'cubic', 'ledbat'] as const) {
    const [ours] = pair.connected({ congestion })
    assert.equal(ours.stats.congestion, congestion)
    assert.equal(pair.b.last('incoming').connection.stats.congestion, 'ledbat')
  }
  assert.equal(pair.connected()[0].stats.congestion, 'bbr')
})
