import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND, type Carrier, type Path } from '../../../src/core/index.ts'
import type { UtpConnection } from '../../../src/utp/index.ts'
import {
  HEADER_SIZE,
  Packet,
  parsePacket,
  ST_DATA,
  ST_FIN,
  ST_STATE,
  ST_SYN,
} from '../../../src/utp/packet.ts'
import { Pair, pattern, writer, type Side } from './harness.ts'

function parsed(bytes: Uint8Array): Packet {
  const packet = new Packet()
  assert.ok(parsePacket(bytes, packet))
  return packet
}

function typesSent(pair: Pair, from?: 'a' | 'b'): number[] {
  return pair.sent
    .filter((one) => from === undefined || one.from === from)
    .map((one) => parsed(one.bytes).type)
}

/** `bytes` from one connection to the other; runs until they are there. */
function transfer(pair: Pair, from: UtpConnection, side: Side, to: UtpConnection, bytes: Uint8Array): void {
  const before = side.bytesOf(to).length
  const write = writer(from, bytes)
  const earlier = pair.onEvent
  pair.onEvent = (at, event) => {
    earlier(at, event)
    write(pair.now)
  }
  write(pair.now)
  let got = before
  pair.run(() => {
    if (to.stats.bytesReceived - before >= bytes.length) got = side.bytesOf(to).length
    return got - before >= bytes.length
  })
  pair.onEvent = earlier
  assert.equal(Buffer.compare(side.bytesOf(to).subarray(before), bytes), 0)
}

test('the handshake is SYN, STATE, STATE; ids and numbers as libutp has them', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  const [syn, answer, proof] = pair.sent.map((one) => parsed(one.bytes))
  assert.deepEqual(typesSent(pair).slice(0, 3), [ST_SYN, ST_STATE, ST_STATE])
  assert.equal(answer!.connectionId, syn!.connectionId)
  assert.equal(answer!.ack, syn!.sequence)
  assert.equal(proof!.connectionId, (syn!.connectionId + 1) & 0xffff)
  assert.equal(proof!.sequence, (syn!.sequence + 1) & 0xffff)
  // The answer consumes no number: the proof acknowledges what came before it …
  assert.equal(proof!.ack, (answer!.sequence - 1) & 0xffff)
  // … and the acceptor's first data carries it.
  transfer(pair, b, pair.a, a, pattern(10))
  const data = pair.sent.filter((one) => one.from === 'b').map((one) => parsed(one.bytes))
  assert.equal(data.find((one) => one.type === ST_DATA)!.sequence, answer!.sequence)
  assert.equal(a.stats.smoothedRtt > 0, true)
})

test('a server may speak first, even when the last step of the handshake is lost', () => {
  let lost = 0
  const pair = new Pair({
    delay: 10_000,
    fate: (from, bytes) => {
      if (from === 'a' && parsed(bytes).type === ST_STATE && lost < 3) {
        lost++
        return []
      }
      return [10_000]
    },
  })
  pair.onEvent = (_side, event) => {
    if (event.type === 'incoming') event.connection.write(pair.now, Buffer.from('220 hello\r\n'))
  }
  const a = pair.a.machine.connect(pair.now, pair.b.path)
  pair.run(() => pair.a.had('readable'))
  assert.equal(lost, 3)
  assert.equal(Buffer.from(pair.a.bytesOf(a)).toString(), '220 hello\r\n')
})

test('the confirmation of a handshake stops when the peer answers, and is bounded when it does not', () => {
  const pair = new Pair()
  pair.connected()
  pair.pass(15 * SECOND)
  assert.deepEqual(typesSent(pair, 'a'), [ST_SYN, ST_STATE])

  const silent = new Pair({
    delay: 10_000,
    fate: (from, bytes) => (from === 'a' && parsed(bytes).type === ST_STATE ? [] : [10_000]),
  })
  silent.a.machine.connect(silent.now, silent.b.path, { keepAliveInterval: Infinity, idleTimeout: Infinity })
  silent.pass(600 * SECOND)
  assert.equal(typesSent(silent, 'a').filter((type) => type === ST_STATE).length, 6)
})

test('data sent with the handshake arrives although its first packets are lost or late', () => {
  for (const dropped of [[2], [2, 3], [2, 4, 5], [3]]) {
    let n = 0
    const pair = new Pair({
      delay: 10_000,
      fate: (from) => (from === 'a' && dropped.includes(++n) ? [] : [10_000]),
    })
    const a = pair.a.machine.connect(pair.now, pair.b.path)
    const bytes = pattern(8_000)
    a.write(pair.now, bytes)
    pair.run(() => pair.b.had('incoming') && pair.b.last('incoming').connection.stats.bytesReceived === 8_000)
    assert.equal(Buffer.compare(pair.b.bytesOf(pair.b.last('incoming').connection), bytes), 0)
    assert.equal(pair.b.machine.stats.resetsSent, 0)
  }
})

test('SYNs are repeated 1, 2, 4, 8 seconds apart, then connecting fails with a clear error', () => {
  const pair = new Pair({ delay: 10_000, fate: () => [] })
  const start = pair.now
  pair.a.machine.connect(pair.now, pair.b.path)
  pair.run(() => pair.a.had('closed'))
  assert.deepEqual(
    pair.sent.map((one) => (one.at - start) / SECOND),
    [0, 1, 3, 7],
  )
  assert.equal((pair.now - start) / SECOND, 15)
  const closed = pair.a.last('closed')
  assert.ok(closed.type === 'closed' && closed.error !== undefined)
  assert.equal(closed.error.code, 'ERR_NATWORK_UTP_CONNECT_TIMEOUT')
  assert.match(closed.error.message, /192\.0\.2\.2:1002/)
  assert.equal(pair.a.machine.stats.connections, 0)
})

test('a listener that takes no connections refuses with a typed error within one round trip', () => {
  for (const b of [{ accept: false }, { maxConnections: 1 }]) {
    const pair = new Pair({ delay: 10_000 }, { b })
    if (b.maxConnections === 1) pair.connected()
    const refused = pair.a.machine.connect(pair.now, pair.b.path)
    const start = pair.now
    pair.run(() => pair.a.had('closed'))
    const closed = pair.a.last('closed')
    assert.equal(closed.connection, refused)
    assert.ok(closed.type === 'closed')
    assert.equal(closed.error?.code, 'ERR_NATWORK_UTP_REFUSED')
    assert.equal(pair.now - start, 20_000)
  }
})

test('each direction ends on its own: whoever ends first, the other goes on as long as it likes', () => {
  for (const firstEnder of ['a', 'b'] as const) {
    for (const before of [0, 50_000]) {
      for (const after of [0, 50_000]) {
        const pair = new Pair()
        const [a, b] = pair.connected()
        const [near, far] = firstEnder === 'a' ? [a, b] : [b, a]
        const [nearSide, farSide] = firstEnder === 'a' ? [pair.a, pair.b] : [pair.b, pair.a]
        if (before > 0) transfer(pair, near, farSide, far, pattern(before, 1))
        near.end(pair.now)
        pair.run(() => farSide.had('ended'))
        pair.pass(5 * SECOND)
        assert.equal(near.state, 'open')
        assert.equal(nearSide.had('ended'), false)
        if (after > 0) transfer(pair, far, nearSide, near, pattern(after, 2))
        far.end(pair.now)
        pair.run(() => nearSide.had('closed') && farSide.had('closed'))
        assert.deepEqual(nearSide.types(near).slice(-2), ['ended', 'closed'])
        pair.pass(30 * SECOND)
        assert.equal(pair.a.machine.stats.connections + pair.b.machine.stats.connections, 0)
        assert.equal(pair.a.machine.stats.resetsSent + pair.b.machine.stats.resetsSent, 0)
      }
    }
  }
})

test('both sides ending at the same moment close in order', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  a.write(pair.now, pattern(5_000))
  b.write(pair.now, pattern(5_000))
  a.end(pair.now)
  b.end(pair.now)
  pair.run(() => pair.a.had('closed') && pair.b.had('closed'))
  assert.deepEqual(pair.a.types(a).slice(-2), ['ended', 'closed'])
  assert.deepEqual(pair.b.types(b).slice(-2), ['ended', 'closed'])
})

test('a lost last acknowledgement is given again by the side that has closed already', () => {
  let muted = false
  const pair = new Pair({ delay: 10_000, fate: (from) => (muted && from === 'a' ? [] : [10_000]) })
  const [a, b] = pair.connected()
  a.end(pair.now)
  pair.run(() => pair.b.had('ended'))
  b.end(pair.now)
  pair.drain()
  muted = true
  pair.run(() => pair.a.had('closed'))
  assert.equal(a.state, 'lingering')
  muted = false
  pair.run(() => pair.b.had('closed'))
  const closed = pair.b.last('closed')
  assert.ok(closed.type === 'closed' && closed.error === undefined)
  assert.equal(pair.a.machine.stats.resetsSent, 0)
})

test('data with numbers beyond the FIN is not part of the stream', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  a.end(pair.now)
  pair.drain()
  const fin = pair.sent.find((one) => parsed(one.bytes).type === ST_FIN)!.bytes
  pair.run(() => pair.b.had('ended'))
  const beyond = Buffer.concat([fin, Buffer.from('more')])
  beyond[0] = (ST_DATA << 4) | 1
  for (const step of [0, 1, 2, 100]) {
    beyond.writeUInt16BE((Buffer.from(fin).readUInt16BE(16) + step) & 0xffff, 16)
    pair.inject(pair.b, pair.a.path, beyond)
  }
  pair.pass(SECOND)
  assert.equal(pair.b.bytesOf(b).length, 0)
  assert.equal(b.read(pair.now), undefined)
})

test('a reader that stops stops the writer, memory stays within the window, and no byte is lost when it goes on', () => {
  const connection = { receiveBuffer: 100_000, sendBuffer: 50_000 }
  const pair = new Pair({ delay: 10_000 }, { a: { connection }, b: { connection } })
  pair.b.reading = false
  const [a, b] = pair.connected()
  const bytes = pattern(600_000)
  const write = writer(a, bytes)
  pair.onEvent = () => {
    if (write(pair.now)) a.end(pair.now)
  }
  write(pair.now)
  pair.pass(60 * SECOND)
  // One datagram may overshoot.
  assert.ok(b.readable >= 95_000 && b.readable <= 101_500, `${b.readable}`)
  assert.ok(pair.b.machine.stats.receiveBytes <= 101_500)
  assert.ok(a.writable < 25_000)
  const before = pair.sent.length
  pair.pass(300 * SECOND)
  // Nothing but probes 3 s apart, their answers and keep-alives.
  assert.ok(pair.sent.length - before < 240, `${pair.sent.length - before}`)
  assert.equal(a.state, 'open')
  pair.b.reading = true
  const resumed = pair.now
  pair.b.read(pair.now, b)
  pair.run(() => pair.b.had('ended'))
  assert.equal(Buffer.compare(pair.b.bytesOf(b), bytes), 0)
  // The update opens the window at once; nobody waits for the next probe.
  assert.ok(pair.now - resumed < SECOND, `${pair.now - resumed}`)
})

test('a lost window update does not stop a connection for ever', () => {
  const connection = { receiveBuffer: 20_000 }
  let muted = false
  const pair = new Pair(
    { delay: 10_000, fate: (from) => (muted && from === 'b' ? [] : [10_000]) },
    { b: { connection } },
  )
  pair.b.reading = false
  const [a, b] = pair.connected()
  const bytes = pattern(60_000)
  a.write(pair.now, bytes)
  a.end(pair.now)
  pair.pass(5 * SECOND)
  muted = true
  pair.b.reading = true
  pair.b.read(pair.now, b)
  pair.drain()
  pair.pass(SECOND)
  muted = false
  pair.run(() => pair.b.had('ended'))
  assert.equal(Buffer.compare(pair.b.bytesOf(b), bytes), 0)
})

test('readers that hold the whole budget of a machine do not stop the others', () => {
  const pair = new Pair({ delay: 10_000 }, { b: { receiveBudget: 100_000 } })
  pair.b.reading = false
  const hogs = [pair.a.machine.connect(pair.now, pair.b.path), pair.a.machine.connect(pair.now, pair.b.path)]
  for (const hog of hogs) hog.write(pair.now, pattern(200_000))
  pair.pass(10 * SECOND)
  assert.ok(pair.b.machine.stats.receiveBytes < 140_000, `${pair.b.machine.stats.receiveBytes}`)
  pair.b.reading = true
  const small = pair.a.machine.connect(pair.now, pair.b.path)
  const bytes = pattern(40_000)
  small.write(pair.now, bytes)
  small.end(pair.now)
  pair.run(() => pair.b.had('ended'))
  assert.equal(Buffer.compare(pair.b.bytesOf(pair.b.last('ended').connection), bytes), 0)
})

test('writing takes what the send buffer holds and says when there is room again', () => {
  const pair = new Pair()
  const [a] = pair.connected({ sendBuffer: 10_000 })
  assert.equal(a.write(pair.now, new Uint8Array(25_000)), 10_000)
  assert.equal(a.write(pair.now, new Uint8Array(1)), 0)
  pair.run(() => pair.a.had('writable'))
  assert.ok(a.writable >= 2_500)
  a.end(pair.now)
  assert.throws(() => a.write(pair.now, new Uint8Array(1)), {
    name: 'UsageError',
    code: 'ERR_NATWORK_UTP_WRITE_AFTER_END',
  })
})

test('what is written is copied, and what is read is the reader’s own', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  const bytes = Buffer.from('first')
  a.write(pair.now, bytes)
  bytes.write('XXXXX')
  pair.run(() => b.stats.bytesReceived === 5)
  const [first] = pair.b.received.get(b)!
  a.write(pair.now, Buffer.from('second'))
  pair.run(() => b.stats.bytesReceived === 11)
  assert.equal(Buffer.from(first!).toString(), 'first')
  assert.equal(Buffer.from(pair.b.bytesOf(b)).toString(), 'firstsecond')
})

test('a silent peer is given up after the idle timeout; keep-alives hold an idle connection open', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  pair.pass(1_000 * SECOND)
  assert.equal(a.state, 'open')
  assert.equal(b.state, 'open')
  const gaps = pair.sent
    .filter((one) => one.from === 'a')
    .map((one, i, all) => one.at - (all[i - 1]?.at ?? one.at))
    .slice(2)
  assert.ok(gaps.length >= 45)
  for (const gap of gaps) assert.ok(gap <= 20 * SECOND, `${gap}`)
  pair.wire.fate = () => []
  const start = pair.now
  pair.run(() => pair.a.had('closed'))
  const closed = pair.a.last('closed')
  assert.ok(closed.type === 'closed')
  assert.equal(closed.error?.code, 'ERR_NATWORK_UTP_TIMEOUT')
  assert.ok(pair.now - start <= 45 * SECOND + 10_000)
  // Shortly before it was asked whether it is there.
  assert.ok(pair.sent.filter((one) => one.at > start && parsed(one.bytes).type === ST_DATA).length >= 6)
})

test('a peer that never speaks by itself is asked, answers, and stays', () => {
  const pair = new Pair({ delay: 10_000 }, { b: { connection: { keepAliveInterval: Infinity } } })
  const [a, b] = pair.connected({ keepAliveInterval: Infinity })
  pair.pass(600 * SECOND)
  assert.equal(a.state, 'open')
  assert.equal(b.state, 'open')
  const questions = typesSent(pair, 'a').filter((type) => type === ST_DATA).length
  // One about every 30 s, and no byte in any of them.
  assert.ok(questions >= 5 && questions <= 40, `${questions}`)
  assert.equal(b.stats.bytesReceived, 0)
  transfer(pair, a, pair.b, b, pattern(1_000))
})

test('a peer that vanishes with data outstanding is given up sooner', () => {
  const pair = new Pair()
  const [a] = pair.connected()
  pair.wire.fate = () => []
  const start = pair.now
  a.write(pair.now, pattern(5_000))
  pair.run(() => pair.a.had('closed'))
  const closed = pair.a.last('closed')
  assert.ok(closed.type === 'closed')
  assert.equal(closed.error?.code, 'ERR_NATWORK_UTP_TIMEOUT')
  const waited = (pair.now - start) / SECOND
  assert.ok(waited >= 15 && waited < 20, `${waited}`)
})

test('acknowledgements: every second packet, in bulk every eighth, one alone within 10 ms, at once when something is missing', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  pair.pass(SECOND)
  pair.sent = []
  a.write(pair.now, pattern(100))
  const start = pair.now
  pair.pass(SECOND)
  const [ack] = pair.sent.filter((one) => one.from === 'b')
  assert.equal(ack!.at - start, 20_000)
  transfer(pair, a, pair.b, b, pattern(300_000))
  const packets = pair.sent.filter((one) => one.from === 'a').length
  const acks = pair.sent.filter((one) => one.from === 'b').length
  const least = 64 + (packets - 128) / 8 - 2
  assert.ok(packets > 200 && acks >= least && acks <= least + 15, `${acks} acks for ${packets} packets`)
  pair.pass(SECOND)
  let n = 0
  pair.wire.fate = (from) => (from === 'a' && ++n === 1 ? [] : [10_000])
  pair.sent = []
  const gapAt = pair.now
  a.write(pair.now, pattern(3_000))
  pair.pass(15_000)
  const gap = pair.sent.filter((one) => one.from === 'b')
  assert.equal(gap[0]!.at - gapAt, 10_000)
  assert.equal(parsed(gap[0]!.bytes).sackLength, 4)
})

test('a lost tail shows within a few round trips, not after the retransmission timeout', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  transfer(pair, a, pair.b, b, pattern(100_000))
  pair.pass(SECOND)
  let n = 0
  pair.wire.fate = (from, bytes) =>
    from === 'a' && bytes.length > HEADER_SIZE && ++n >= 3 && n <= 5 ? [] : [10_000]
  const start = pair.now
  transfer(pair, a, pair.b, b, pattern(5 * 1_452))
  assert.ok(pair.now - start < 200_000, `${pair.now - start}`)
  assert.equal(a.stats.timeouts, 0)
})

test('a packet that is merely late is not taken for lost twice', () => {
  const pair = new Pair()
  const [a, b] = pair.connected()
  let n = 0
  // Every tenth data packet comes 4 ms late: less than a quarter of the round trip.
  pair.wire.fate = (from, bytes) => [from === 'a' && bytes.length > 1_000 && ++n % 10 === 0 ? 14_000 : 10_000]
  transfer(pair, a, pair.b, b, pattern(1_000_000))
  assert.ok(a.stats.retransmissions <= 3, `${a.stats.retransmissions}`)
})

test('the round trip and its timeout follow RFC 6298, doubled with every timeout in a row', () => {
  const pair = new Pair({ delay: 200_000 })
  const [a, b] = pair.connected()
  assert.equal(a.stats.smoothedRtt, 400_000)
  assert.equal(a.stats.retransmissionTimeout, 400_000 + 4 * 200_000)
  transfer(pair, a, pair.b, b, pattern(200_000))
  pair.pass(SECOND)
  const quiet = a.stats.retransmissionTimeout
  assert.ok(quiet >= 500_000)
  pair.wire.fate = () => []
  a.write(pair.now, pattern(10))
  pair.run(() => a.stats.timeouts === 1)
  assert.equal(a.stats.retransmissionTimeout, 2 * quiet)
  pair.run(() => a.stats.timeouts === 3)
  // Bounded at 3 s.
  assert.equal(a.stats.retransmissionTimeout, 3 * SECOND)
})

test('connections take turns: many with data each send four datagrams in a round', () => {
  const pair = new Pair()
  const connections = Array.from({ length: 10 }, () => pair.connected()[0])
  pair.pass(SECOND)
  pair.sent = []
  for (const connection of connections) connection.write(pair.now, pattern(8_000))
  pair.drain()
  const ids = pair.sent.map((one) => parsed(one.bytes).connectionId)
  const turns = Array.from({ length: 10 }, (_, i) => new Set(ids.slice(i * 4, i * 4 + 4)))
  assert.ok(turns.every((turn) => turn.size === 1))
  assert.equal(new Set(turns.flatMap((turn) => [...turn])).size, 10)
})

test('no datagram along a relay is larger than what an Ethernet has room for behind it, loopback or not', () => {
  const relay: Carrier = { kind: 'relay', send: () => undefined }
  const remote = { address: '127.0.0.1', port: 1002 }
  const sizes = (path: Path, known: Path): number[] => {
    const pair = new Pair()
    pair.route = (from) => (from === pair.a ? pair.a.path : known)
    const a = pair.a.machine.connect(pair.now, known)
    pair.run(() => pair.b.had('incoming'))
    // What a connection that came in is told once it is known where it came from.
    a.setPath(pair.now, path)
    const bytes = pattern(400_000)
    const write = writer(a, bytes)
    pair.onEvent = () => {
      if (write(pair.now)) a.end(pair.now)
    }
    write(pair.now)
    pair.run(() => pair.b.had('ended'))
    return pair.sent.filter(({ from }) => from === 'a').map(({ bytes: { length } }) => length)
  }
  const direct = { remote }
  assert.equal(Math.max(...sizes(direct, direct)), 8_192)
  const ours = { remote, via: relay }
  assert.equal(Math.max(...sizes(ours, ours)), 1_424)
  const theirs = { remote, isRelayed: true }
  assert.equal(Math.max(...sizes(theirs, theirs)), 1_424)
  assert.equal(Math.max(...sizes(theirs, direct)), 1_424)
})

test('a connection that said little so far is not held to that pace', () => {
  const pair = new Pair()
  const [a, b] = pair.connected({ congestion: 'bbr' })
  for (let i = 0; i < 3; i++) {
    a.write(pair.now, pattern(100))
    pair.pass(100_000)
  }
  pair.sent = []
  const { now } = pair
  a.write(now, pattern(6_000))
  pair.pass(200_000)
  const left = pair.sent.filter((one) => one.from === 'a' && parsed(one.bytes).type === ST_DATA)
  assert.equal(b.stats.bytesReceived, 6_300)
  // A first window may leave per round trip, which is 20 ms here.
  assert.ok(left.at(-1)!.at - now <= 5_000, `the last of it left after ${left.at(-1)!.at - now} µs`)
})
