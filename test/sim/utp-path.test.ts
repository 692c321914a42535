// A connection that is moved between paths, as the network does when it finds a better one or loses one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND, type Micros, type Path } from '../../src/core/index.ts'
import { Pair, pattern, writer } from '../unit/utp/harness.ts'

/** One way between the two sides: what each calls it, how long it takes, and the largest datagram that passes. */
interface Way {
  readonly a: Path
  readonly b: Path
  readonly delay: Micros
  readonly mtu: number
  alive: boolean
}

function way(n: number, delay: Micros, mtu: number): Way {
  return {
    a: { remote: { address: `192.0.2.${10 * n}`, port: 1000 + n } },
    b: { remote: { address: `198.51.100.${10 * n}`, port: 2000 + n } },
    ...{ delay, mtu, alive: true },
  }
}

test('relay, direct path, relay again, each old path dying silently: no byte is lost, and each path is measured anew', () => {
  const relay = way(1, 60_000, 1_230)
  const direct = way(2, 5_000, 1_472)
  const other = way(3, 40_000, 1_230)
  const ways = [relay, direct, other]
  let current = relay
  const pair = new Pair({
    delay: 0,
    fate: (_from, bytes) => (bytes.length > current.mtu ? [] : [current.delay]),
  })
  pair.keepSent = false
  pair.route = (from, path) => {
    // `a` sends to what it calls the other end, and is seen there as the way's own address.
    const found = ways.find((one) => path === (from.name === 'a' ? one.b : one.a))
    if (found?.alive !== true) return undefined
    current = found
    return from.name === 'a' ? found.a : found.b
  }
  const ours = pair.a.machine.connect(pair.now, relay.b)
  pair.run(() => pair.b.had('incoming'))
  const theirs = pair.b.last('incoming').connection
  const forth = pattern(16_000_000, 1)
  const back = pattern(3_000_000, 2)
  const write = writer(ours, forth)
  const answer = writer(theirs, back)
  pair.onEvent = () => {
    if (write(pair.now)) ours.end(pair.now)
    if (answer(pair.now)) theirs.end(pair.now)
  }
  pair.onEvent(pair.a, pair.a.last('connected'))
  pair.pass(SECOND)
  assert.ok(ours.stats.minRtt >= 120_000)
  assert.ok(ours.stats.datagramSize <= relay.mtu)

  relay.alive = false
  const before = theirs.stats.bytesReceived
  ours.setPath(pair.now, direct.b)
  theirs.setPath(pair.now, direct.a)
  assert.equal(ours.stats.smoothedRtt, 0)
  pair.pass(35_000)
  assert.ok(theirs.stats.bytesReceived > before + 50_000, 'it goes on at once')
  assert.ok(ours.stats.minRtt < 20_000, `${ours.stats.minRtt}`)
  assert.equal(ours.stats.datagramSize, 1_472)

  // The direct path dies; both learn of it after a while, one later than the other.
  direct.alive = false
  pair.pass(2 * SECOND)
  const stalled = theirs.stats.bytesReceived
  assert.ok(stalled < forth.length, 'there is something left to lose')
  assert.ok(ours.stats.inFlight + ours.queued > 0)
  ours.setPath(pair.now, other.b)
  pair.pass(SECOND / 5)
  theirs.setPath(pair.now, other.a)
  pair.run(() => pair.a.had('closed') && pair.b.had('closed'), 60 * SECOND)
  assert.equal(Buffer.compare(pair.b.bytesOf(theirs), forth), 0)
  assert.equal(Buffer.compare(pair.a.bytesOf(ours), back), 0)
  assert.equal('error' in pair.a.last('closed') || 'error' in pair.b.last('closed'), false)
})

test('a path that becomes narrower loses no byte either', () => {
  let mtu = 1_472
  const pair = new Pair({ delay: 10_000, fate: (_from, bytes) => (bytes.length > mtu ? [] : [10_000]) })
  pair.keepSent = false
  const [a, b] = pair.connected()
  const bytes = pattern(8_000_000)
  const write = writer(a, bytes)
  pair.onEvent = () => {
    if (write(pair.now)) a.end(pair.now)
  }
  pair.onEvent(pair.a, pair.a.last('connected'))
  pair.pass(SECOND / 8)
  assert.deepEqual([a.stats.datagramSize], [1_472])
  assert.ok(b.stats.bytesReceived < bytes.length)
  mtu = 1_300
  pair.run(() => pair.b.had('ended'), 60 * SECOND)
  assert.equal(Buffer.compare(pair.b.bytesOf(b), bytes), 0)
  assert.ok(a.stats.datagramSize <= 1_300)
})

test('a path that changes before the SYN is answered: there is one connection, on the last path', () => {
  // Which of the initiator's datagrams by the first path are lost, by their number.
  for (const lost of [[], [0], [0, 1]]) {
    for (const moveAt of [0, 5_000, 12_000, 15_999, 16_000, 19_000]) {
      const first = way(1, 10_000, 1_472)
      const second = way(2, 15_000, 1_472)
      const third = way(3, 8_000, 1_472)
      const pair = new Pair({ delay: 0 })
      let count = 0
      let current = first
      pair.wire.fate = () => [current.delay]
      pair.route = (from, path) => {
        const found = [first, second, third].find((one) => path === (from.name === 'a' ? one.b : one.a))
        if (found === undefined) return undefined
        if (from.name === 'a' && found === first && lost.includes(count++)) return undefined
        current = found
        return from.name === 'a' ? found.a : found.b
      }
      const ours = pair.a.machine.connect(pair.now, first.b)
      pair.pass(moveAt)
      ours.setPath(pair.now, second.b)
      pair.pass(4_000)
      ours.setPath(pair.now, third.b)
      pair.run(() => pair.b.had('incoming'), 10 * SECOND)
      const theirs = pair.b.last('incoming').connection
      ours.write(pair.now, pattern(50_000))
      pair.run(() => theirs.stats.bytesReceived === 50_000, 10 * SECOND)
      const told = `lost ${lost.join()}, moved after ${moveAt} µs`
      assert.ok(!pair.a.had('closed'), told)
      assert.equal(pair.b.types().filter((type) => type === 'incoming').length, 1, told)
      assert.deepEqual(pair.b.bytesOf(theirs), Buffer.from(pattern(50_000)), told)
    }
  }
})
