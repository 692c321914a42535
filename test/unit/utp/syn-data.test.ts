// The SYN takes the first bytes along: a round trip less where the path is verified, and the ordinary way everywhere else.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Carrier, Path } from '../../../src/core/index.ts'
import type { UtpConnection } from '../../../src/utp/index.ts'
import { ST_STATE, ST_SYN } from '../../../src/utp/packet.ts'
import { Pair, pattern, seededRng, writer } from './harness.ts'

const DELAY = 10_000
const SECOND = 1_000_000
const verified = { b: { isVerified: () => true } }

function typeOf(bytes: Uint8Array): number {
  return bytes[0]! >> 4
}

/** a asks, b answers as soon as it has so much of the question, and both have all of it in the end. */
function converse(
  pair: Pair,
  question: Uint8Array,
  answer: Uint8Array,
  enough = 1,
): { a: UtpConnection; took: number } {
  const begun = pair.now
  const a = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
  const ask = writer(a, question)
  ask(pair.now)
  let answered = 0
  const reply = new Map<UtpConnection, (now: number) => void>()
  pair.onEvent = (side, { type, connection }) => {
    if (side === pair.a) ask(pair.now)
    if (side === pair.a && type === 'readable') answered ||= pair.now
    const hasHeard = side === pair.b && pair.b.bytesOf(connection).length >= enough
    if (hasHeard && !reply.has(connection)) {
      reply.set(connection, writer(connection, answer))
    }
    if (side === pair.b) reply.get(connection)?.(pair.now)
  }
  const all = (): boolean => {
    const b = pair.b.events.find(({ type }) => type === 'incoming')?.connection
    return (
      pair.a.bytesOf(a).length >= answer.length &&
      b !== undefined &&
      pair.b.bytesOf(b).length >= question.length
    )
  }
  pair.run(all)
  pair.pass(10_000_000)
  assert.equal(pair.b.types().filter((type) => type === 'incoming').length, 1)
  const b = pair.b.last('incoming').connection
  assert.equal(Buffer.compare(pair.b.bytesOf(b), question), 0)
  assert.equal(Buffer.compare(pair.a.bytesOf(a), answer), 0)
  assert.equal(pair.b.machine.stats.halfOpen, 0)
  return { a, took: answered - begun }
}

test('on a verified path the answer is there after one round trip, otherwise after two', () => {
  for (const size of [1, 400, 1_170, 1_171, 50_000]) {
    const question = pattern(size)
    const answer = pattern(900, 3)
    assert.equal(
      converse(new Pair({ delay: DELAY }, verified), question, answer).took,
      2 * DELAY,
      `${size} bytes`,
    )
    assert.equal(
      converse(new Pair({ delay: DELAY }), question, answer).took,
      4 * DELAY,
      `${size} bytes, not verified`,
    )
  }
})

test('what does not fit in the SYN goes right behind it, once: twice as much is there after one round trip', () => {
  for (const [size, trips] of [
    [1_170, 1],
    [1_171, 1],
    [1_467, 1],
    [2_340, 1],
    [2_341, 2],
  ] as const) {
    const pair = new Pair({ delay: DELAY }, verified)
    const { a, took } = converse(pair, pattern(size), pattern(900, 3), size)
    assert.equal(took, trips * 2 * DELAY, `${size} bytes`)
    assert.equal(a.stats.retransmissions, 0)
    const { a: other, took: later } = converse(
      new Pair({ delay: DELAY }),
      pattern(size),
      pattern(900, 3),
      size,
    )
    assert.equal(later, 4 * DELAY, `${size} bytes, not verified`)
    assert.equal(other.stats.retransmissions, 0)
  }
})

test('of the two datagrams one is lost, or they change places: what is missing comes again', () => {
  for (const [first, second, soon] of [
    [[DELAY], [], true],
    [[], [DELAY], false],
    [[2 * DELAY], [DELAY], true],
    [[DELAY], [DELAY, DELAY, 8 * DELAY], true],
  ] as const) {
    const pair = new Pair({ delay: DELAY }, verified)
    let sent = 0
    pair.wire.fate = (side) => [...(side === 'a' ? ([first, second][sent++] ?? [DELAY]) : [DELAY])]
    const { took } = converse(pair, pattern(1_467), pattern(900, 3), 1_467)
    // A tail probe, or the SYN's own repetition.
    assert.ok(took < (soon ? SECOND / 4 : SECOND + 4 * DELAY), `${took} µs`)
  }
})

test('a second datagram without the connection that began with the first is nothing', () => {
  const pair = new Pair({ delay: DELAY }, verified)
  let sent = 0
  pair.wire.fate = (side) => (side === 'a' && sent++ === 0 ? [] : [DELAY])
  const a = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
  a.write(pair.now, pattern(1_467))
  pair.pass(SECOND / 2)
  assert.equal(sent, 2)
  const { connections, halfOpen } = pair.b.machine.stats
  assert.deepEqual([connections, halfOpen], [0, 0])
  assert.deepEqual(
    pair.sent.filter(({ from }) => from === 'b'),
    [],
  )
})

test('the SYN waits for the first bytes, and is no larger than what every path takes', () => {
  const pair = new Pair({ delay: DELAY }, verified)
  const a = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
  pair.pass(5 * DELAY)
  assert.equal(pair.sent.length, 0)
  a.write(pair.now, pattern(5_000))
  pair.run(() => pair.a.had('connected'))
  assert.equal(typeOf(pair.sent[0]!.bytes), ST_SYN)
  assert.equal(pair.sent[0]!.bytes.length, 1_200)
  assert.equal(typeOf(pair.sent[1]!.bytes), ST_SYN)
  assert.equal(pair.sent[1]!.bytes.length, 1_200)
  assert.equal(pair.now, 1_000_000 + 7 * DELAY)
})

test('lost, doubled and late packets of the handshake: everything arrives once and in order', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const rng = seededRng(seed)
    const isLossy = (): boolean => rng.uint32() % 10 < 3
    const late = (): number => DELAY + (rng.uint32() % (3 * DELAY))
    const pair = new Pair(
      {
        delay: DELAY,
        fate: (_from, _bytes, now) =>
          now > 9_000_000 ? [DELAY] : isLossy() ? (isLossy() ? [] : [late(), late()]) : [late()],
      },
      { ...(seed % 3 > 0 && verified), seed },
    )
    converse(pair, pattern(1 + (rng.uint32() % 4_000)), pattern(1 + (rng.uint32() % 4_000), 5))
  }
})

test('the answer to the SYN is lost and what the acceptor says comes first: nothing of it is taken for the beginning', () => {
  let lost = 0
  const pair = new Pair(
    {
      delay: DELAY,
      fate: (from, bytes) => (from === 'b' && typeOf(bytes) === ST_STATE && lost++ === 0 ? [] : [DELAY]),
    },
    verified,
  )
  converse(pair, pattern(300), pattern(3_000, 3))
  assert.ok(lost > 1)
})

test('what the acceptor says overtakes its answer to the SYN, or that comes by a path of its own: nothing is said twice', () => {
  for (const isElsewhere of [false, true]) {
    const pair = new Pair({ delay: DELAY }, verified)
    const other: Path = { remote: { address: '192.0.2.33', port: 1003 } }
    let answers = 0
    pair.wire.fate = (side, bytes) => [
      side === 'b' && typeOf(bytes) === ST_STATE && answers++ === 0 && !isElsewhere ? 2 * DELAY : DELAY,
    ]
    // b speaks by another path than a's from the beginning.
    pair.route = (side) => (side === pair.b && isElsewhere ? other : side.path)
    const a = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
    a.write(pair.now, pattern(200))
    pair.onEvent = (side, { type, connection }) => {
      if (side === pair.b && type === 'incoming') connection.write(pair.now, pattern(900, 3))
    }
    pair.run(() => pair.a.had('connected'), 4 * DELAY)
    if (isElsewhere) continue
    pair.pass(0)
    assert.equal(Buffer.compare(pair.a.bytesOf(a), pattern(900, 3)), 0)
    assert.equal(pair.now, 1_000_000 + 3 * DELAY)
  }
})

test('a path that is not verified is asked for once a SYN: believed, the data is taken; not, the handshake is the ordinary one', () => {
  for (const isBelieved of [true, false]) {
    let asked = 0
    const pair = new Pair(
      { delay: DELAY },
      { b: { isVerified: () => false, isBelieved: () => (asked++, isBelieved) } },
    )
    const { took } = converse(pair, pattern(1_500), pattern(900, 3), 1_500)
    assert.equal(took, (isBelieved ? 2 : 4) * DELAY)
    assert.equal(asked, 1)
  }
  // The one does not make the other cost more: a verified path is not asked for.
  const pair = new Pair({ delay: DELAY }, { b: { isVerified: () => true, isBelieved: () => assert.fail() } })
  assert.equal(converse(pair, pattern(1_500), pattern(900, 3), 1_500).took, 2 * DELAY)
})

test('another path before the answer is there: the connection that began goes along, and is the only one', () => {
  const second: Path = { remote: { address: '192.0.2.22', port: 1002 } }
  const from: Path = { remote: { address: '192.0.2.11', port: 1001 } }
  for (const isVerified of [
    (): boolean => true,
    ({ remote }: Path): boolean => remote.address !== from.remote.address,
    ({ remote }: Path): boolean => remote.address === from.remote.address,
  ]) {
    for (const late of [0, 3 * DELAY]) {
      const pair = new Pair({ delay: DELAY }, { b: { isVerified } })
      // What b says on the first path reaches nobody, and what a says there may come after what it says on the second.
      pair.wire.fate = (side, bytes) => [side === 'a' && bytes === pair.sent[0]?.bytes ? DELAY + late : DELAY]
      pair.route = (side, path) => {
        if (side === pair.a) return path === second ? from : pair.a.path
        return path.remote.address === from.remote.address ? second : undefined
      }
      const a = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
      a.write(pair.now, pattern(200))
      pair.pass(DELAY)
      a.setPath(pair.now, second)
      pair.run(() => pair.a.had('connected'))
      // b follows a by itself, too, when it learns of the path.
      pair.b.events.find(({ type }) => type === 'incoming')?.connection.setPath(pair.now, from)
      a.write(pair.now, pattern(2_000, 9))
      pair.pass(5_000_000)
      const incoming = pair.b.events.filter(({ type }) => type === 'incoming')
      assert.equal(incoming.length, 1)
      const { connection } = incoming[0]!
      assert.equal(
        Buffer.compare(pair.b.bytesOf(connection), Buffer.concat([pattern(200), pattern(2_000, 9)])),
        0,
      )
      assert.deepEqual(connection.path, from)
      // A SYN that was taken for another handshake waits for a proof that nobody gives, as any would.
      const { connections, halfOpen } = pair.b.machine.stats
      assert.equal(connections, 1)
      assert.equal(halfOpen < 2, true)
    }
  }
})

test('the other path differs only in what carries it at the acceptor', () => {
  for (const isVerified of [(): boolean => true, (): boolean => false]) {
    const pair = new Pair({ delay: DELAY }, { b: { isVerified } })
    const [one, other] = [1, 2].map((): Carrier => ({ kind: 'relay', send: () => undefined }))
    const second: Path = { remote: { address: '192.0.2.22', port: 1002 } }
    const { remote } = pair.a.path
    pair.route = (side, path) => {
      if (side === pair.a) return { remote, via: path === second ? other : one } as Path
      return path.via === other ? second : undefined
    }
    const a = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
    a.write(pair.now, pattern(200))
    pair.pass(DELAY)
    a.setPath(pair.now, second)
    pair.run(() => pair.b.had('readable'), 5_000_000)
    pair.pass(4 * DELAY)
    assert.equal(a.state, 'open')
    const { connection } = pair.b.last('incoming')
    assert.equal(Buffer.compare(pair.b.bytesOf(connection), pattern(200)), 0)
    assert.equal(pair.b.types().filter((type) => type === 'incoming').length, 1)
    assert.equal(connection.path.via, other)
  }
})

test('a flood of SYNs with data: so many a second are taken at once, and none but from verified paths', () => {
  const pair = new Pair({ delay: DELAY }, verified)
  for (let n = 0; n < 1_000; n++) {
    const one = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
    one.write(pair.now, pattern(100))
  }
  pair.pass(DELAY)
  assert.equal(pair.b.machine.stats.connections, 128)
  pair.pass(3 * DELAY)
  assert.equal(pair.b.machine.stats.connections, 1_000)
  assert.equal(pair.b.machine.stats.halfOpen, 0)
  // Who has been heard makes room for others, up to so many a second.
  pair.pass(SECOND)
  for (let n = 0; n < 1_000; n++) {
    if (n % 100 === 0) pair.pass(3 * DELAY)
    const one = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
    one.write(pair.now, pattern(100))
  }
  pair.pass(DELAY)
  assert.equal(pair.b.machine.stats.connections, 1_900)
})

test('of SYNs with data in the name of a verified peer, which does not know of them, few are taken at a time', () => {
  const pair = new Pair({ delay: DELAY }, verified)
  // Whoever invents the address does not hear the answers.
  pair.wire.fate = (side) => (side === 'b' ? [] : [DELAY])
  for (let n = 0; n < 500; n++) {
    const one = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
    one.write(pair.now, pattern(100))
    pair.pass(DELAY)
  }
  assert.equal(pair.b.machine.stats.connections, 128)
})

test('a connection that is reset before its initiator was heard leaves nothing behind', () => {
  const pair = new Pair({ delay: DELAY }, verified)
  const a = pair.a.machine.connect(pair.now, pair.b.path, undefined, { withData: true })
  a.write(pair.now, pattern(100))
  pair.run(() => pair.b.had('incoming'))
  pair.b.last('incoming').connection.reset(pair.now)
  pair.run(() => pair.a.had('closed'))
  const { connections, halfOpen } = pair.b.machine.stats
  assert.deepEqual([connections, halfOpen], [0, 0])

  // The same where the answer to the SYN was lost: the RESET alone says it.
  const other = new Pair({ delay: DELAY }, verified)
  other.wire.fate = (side, bytes) => (side === 'b' && typeOf(bytes) === ST_STATE ? [] : [DELAY])
  other.a.machine
    .connect(other.now, other.b.path, undefined, { withData: true })
    .write(other.now, pattern(100))
  other.run(() => other.b.had('incoming'))
  other.b.last('incoming').connection.reset(other.now)
  other.run(() => other.a.had('closed'), 3 * DELAY)
})
