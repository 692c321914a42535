// A connection begins while the links at both ends still look for the best path: the SYN, its answer and what follows go by
// different ones, some of which open late, lose, or are verified late. When the paths rest, it is there, once.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Carrier, Path } from '../../../src/core/index.ts'
import type { UtpConnection } from '../../../src/utp/index.ts'
import { Pair, pattern, seededRng, writer, type Side } from './harness.ts'

const MILLISECOND = 1_000
const START = 1_000 * MILLISECOND

/** One path, as each side names it. */
interface Way {
  readonly a: Path
  readonly b: Path
  readonly delay: number
  /** When what `a`, and what `b` sends begins to get through. */
  readonly opens: Readonly<Record<'a' | 'b', number>>
  /** When b knows that a is at its end. */
  readonly verified: number
}

interface World {
  readonly ways: readonly Way[]
  /** Percent, until the paths rest. */
  readonly loss: number
  /** The connection that comes in follows b's moves. */
  readonly isFollowed: boolean
  readonly moves: readonly { readonly at: number; readonly side: 'a' | 'b'; readonly way: Way }[]
}

const RESTS = START + 850 * MILLISECOND

function drawWorld(random: (below: number) => number): World {
  const carrier = (isOne: boolean): { via?: Carrier } =>
    isOne ? { via: { kind: 'relay', send: () => undefined } } : {}
  const later = (): number => (random(3) === 0 ? START + random(600 * MILLISECOND) : 0)
  const ways = Array.from({ length: 2 + random(2) }, (_, n): Way => ({
    a: { remote: { address: `198.51.100.${n}`, port: 1_000 + n }, ...carrier(random(2) === 0) },
    b: { remote: { address: `203.0.113.${n}`, port: 2_000 + n }, ...carrier(random(4) === 0) },
    delay: (5 + random(120)) * MILLISECOND,
    opens: { a: later(), b: later() },
    verified: random(3) === 0 ? 0 : START + random(700 * MILLISECOND),
  }))
  const anyWay = (): Way => ways[random(ways.length)]!
  const moves = (['a', 'b'] as const).flatMap((side) =>
    Array.from({ length: random(4) }, () => ({
      at: START + random(700 * MILLISECOND),
      side,
      way: anyWay(),
    })),
  )
  const last = anyWay()
  for (const side of ['a', 'b'] as const) {
    moves.push({ at: RESTS - random(100 * MILLISECOND), side, way: last })
  }
  return {
    ways,
    loss: 15 * random(3),
    isFollowed: random(5) > 0,
    moves: moves.sort((one, other) => one.at - other.at),
  }
}

/** @returns what b made of it, once a has its answer. */
function play(seed: number): { incoming: UtpConnection[]; hasAnswer: boolean } {
  const rng = seededRng(seed)
  const random = (below: number): number => rng.uint32() % below
  const { ways, loss, isFollowed, moves } = drawWorld(random)
  // How long before a path is verified somebody vouches for it, a few times.
  const lead = [0, 40, 400][seed % 3]! * MILLISECOND
  let believed = 0
  const pair: Pair = new Pair(undefined, {
    seed,
    b: {
      isVerified: (path) => ways.some(({ b, verified }) => b === path && verified <= pair.now),
      isBelieved: (path) =>
        believed++ < 4 && ways.some(({ b, verified }) => b === path && verified - lead <= pair.now),
    },
  })
  let taken = ways[0]!
  pair.route = (side, path) => {
    const way = ways.find((one) => one[side.name] === path)
    if (way !== undefined) taken = way
    return way?.[side === pair.a ? 'b' : 'a']
  }
  pair.wire.fate = (side, _bytes, now) => {
    const { delay, opens } = taken
    if (now >= RESTS) return [delay]
    return now < opens[side] || random(100) < loss ? [] : [delay + random(delay)]
  }
  const a = pair.a.machine.connect(pair.now, ways[0]!.a, undefined, { withData: true })
  // What one datagram has room for, and what takes two.
  const question = pattern(seed % 2 === 0 ? 260 : 1_500)
  const ask = writer(a, question)
  ask(pair.now)
  const incoming: UtpConnection[] = []
  const replies = new Map<UtpConnection, (now: number) => boolean>()
  let here: Path | undefined
  pair.onEvent = (side: Side, { type, connection }) => {
    if (side === pair.a) {
      ask(pair.now)
      return
    }
    if (type === 'incoming') {
      incoming.push(connection)
      if (isFollowed && here !== undefined) connection.setPath(pair.now, here)
    }
    const isHeard = type === 'readable' && pair.b.bytesOf(connection).length === question.length
    if (isHeard && !replies.has(connection)) {
      replies.set(connection, writer(connection, pattern(900, 3)))
    }
    replies.get(connection)?.(pair.now)
  }
  for (const { at, side, way } of moves) {
    pair.pass(at - pair.now)
    if (side === 'a') a.setPath(pair.now, way.a)
    else {
      here = way.b
      if (isFollowed) for (const one of incoming) one.setPath(pair.now, way.b)
    }
  }
  const hasAnswer = (): boolean => pair.a.bytesOf(a).length === 900
  while (!hasAnswer() && pair.now < RESTS + 9_000 * MILLISECOND) pair.pass(100 * MILLISECOND)
  return { incoming, hasAnswer: hasAnswer() }
}

test('whichever paths the first packets take, the connection is there, once, when the paths rest', () => {
  const failed: number[] = []
  for (let seed = 1; seed <= 4_000; seed++) {
    const { incoming, hasAnswer } = play(seed)
    if (!hasAnswer || incoming.length !== 1) failed.push(seed)
  }
  assert.deepEqual(failed, [])
})

test('a connection that nobody leads goes with its initiator to a verified path, and only there', () => {
  const first: Path = { remote: { address: '192.0.2.1', port: 1001 } }
  const verified: Path = { remote: { address: '192.0.2.33', port: 1003 } }
  const stranger: Path = { remote: { address: '192.0.2.44', port: 1004 } }
  const pair = new Pair(undefined, { b: { isVerified: ({ remote }) => remote !== stranger.remote } })
  const [a, b] = pair.connected()
  pair.pass(100 * MILLISECOND)
  // From now on the wire leads nowhere: what arrives at b is put there by hand.
  pair.route = () => undefined
  pair.sent = []
  a.write(pair.now, pattern(100))
  pair.drain()
  const { bytes } = pair.sent.find(({ from }) => from === 'a')!
  /** The packet with its sequence number and ack moved so far. */
  const moved = (sequence: number, ack: number): Uint8Array => {
    const copy = Buffer.from(bytes)
    copy.writeUInt16BE((copy.readUInt16BE(16) + sequence) & 0xffff, 16)
    copy.writeUInt16BE((copy.readUInt16BE(18) + ack) & 0xffff, 18)
    return copy
  }
  pair.inject(pair.b, stranger, bytes)
  pair.inject(pair.b, verified, moved(2_000, 0))
  pair.inject(pair.b, verified, moved(0, 1))
  pair.inject(pair.b, verified, moved(0, -2_000))
  assert.deepEqual([b.path, pair.b.bytesOf(b).length], [first, 0])

  pair.inject(pair.b, verified, bytes)
  assert.deepEqual([b.path, pair.b.bytesOf(b).length], [verified, 100])
  // Now somebody leads it.
  b.setPath(pair.now, first)
  const other: Path = { remote: { address: '192.0.2.55', port: 1005 } }
  pair.inject(pair.b, other, bytes)
  assert.deepEqual(b.path, first)
})
