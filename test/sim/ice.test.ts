// 15 s. What happens to a connection over its life: in virtual time, both ends run ICE.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MILLISECOND, SECOND } from '../../src/core/machine.ts'
import type { KindName } from '../../src/sim/index.ts'
import { Meeting, type MeetingOptions, type Node } from './ice-world.ts'

function meet(a: KindName, b: KindName, options: Partial<MeetingOptions> = {}): Meeting {
  const meeting = new Meeting({ a, b, seed: 1, ...options })
  meeting.connect()
  return meeting
}

/** Both ends use the same path, seen from its two ends. */
function agree({ a, b }: Meeting): boolean {
  const [one, other] = [a.path, b.path]
  if (one === undefined || other === undefined || one.kind !== other.kind) return false
  if (one.kind === 'relayed') return true
  return (
    one.remote.address.port === other.local.address.port &&
    other.remote.address.port === one.local.address.port
  )
}

function settled(meeting: Meeting, within = 10 * SECOND): boolean {
  return meeting.world.run(() => meeting.isDirect && agree(meeting), within)
}

function median(values: readonly number[]): number {
  return [...values].sort((x, y) => x - y)[values.length >> 1] ?? NaN
}

const EASY: readonly KindName[] = [
  'none',
  'full-cone',
  'port-restricted',
  'port-restricted-literal',
  'cgn-cone',
  'dmz',
]

test('easy pairs are direct as soon as the answer, and one round trip on the path, are there', () => {
  for (const a of EASY) {
    for (const b of EASY) {
      const meeting = meet(a, b)
      assert.ok(
        meeting.world.run(() => meeting.isDirect, SECOND),
        `${a} ${b}`,
      )
      // 40 ms of signalling, 40 ms for the first check and its answer, as much until both have agreed.
      assert.ok(meeting.elapsed <= 130, `${a} ${b}: ${meeting.elapsed} ms`)
    }
  }
})

test('the relayed path is announced first, and both ends then move to the direct one', () => {
  const meeting = meet('port-restricted', 'symmetric')
  assert.ok(settled(meeting))
  for (const { paths } of [meeting.a, meeting.b]) {
    assert.equal(paths[0]?.path.kind, 'relayed')
    assert.equal(paths.at(-1)?.path.kind, 'direct')
    assert.ok(paths[0].at - meeting.startedAt <= 150 * MILLISECOND)
  }
})

test('port-restricted × symmetric: 24 of 24 direct, half of them within 0.6 s, 95 % within 2 s', () => {
  const times: number[] = []
  for (let seed = 1; seed <= 12; seed++) {
    for (const [a, b] of [
      ['port-restricted', 'symmetric'],
      ['symmetric', 'port-restricted'],
    ] as const) {
      const meeting = meet(a, b, { seed })
      assert.ok(settled(meeting), `seed ${seed}: ${a} ${b}`)
      times.push(meeting.elapsed)
      // One hit is enough: all other sockets are closed again.
      assert.ok(meeting.a.carriers.size + meeting.b.carriers.size <= 3)
    }
  }
  const sorted = times.sort((x, y) => x - y)
  assert.ok(median(sorted) <= 600, `median ${median(sorted)} ms`)
  assert.ok((sorted[22] ?? NaN) <= 2000, `95 % ${sorted[22] ?? NaN} ms`)
})

test('a relay that comes late moves no port at an unfiltered router: its checks wait until the other side has opened', () => {
  for (const a of ['firewall', 'symmetric', 'symmetric-sequential', 'cgn-symmetric'] as const) {
    for (const relayAfter of [30, 45, 60, 100]) {
      for (const knowsFiltering of [true, false]) {
        const meeting = new Meeting({
          ...{ a, b: 'port-restricted-literal', seed: 1, knowsFiltering },
          relayAfter: relayAfter * MILLISECOND,
        })
        meeting.connect()
        const isDirect = meeting.world.run(() => meeting.isDirect, 3 * SECOND)
        assert.ok(isDirect, `${a}, relay after ${relayAfter} ms, filtering known: ${knowsFiltering}`)
      }
    }
  }
})

test('hard NATs without a word about them: the relayed checks show what they are', () => {
  for (const [a, b] of [
    ['port-restricted', 'symmetric'],
    ['symmetric-random', 'port-restricted-literal'],
  ] as const) {
    for (let seed = 1; seed <= 5; seed++)
      assert.ok(settled(meet(a, b, { seed, hints: false })), `${a} ${b} ${seed}`)
  }
})

test('a NAT whose rule nobody knows yet: the ports that follow its last one find it, also from an unfiltered router', () => {
  for (const known of ['port-restricted', 'port-restricted-literal'] as const) {
    for (const hard of ['symmetric-sequential', 'symmetric-block', 'symmetric'] as const) {
      for (const [a, b] of [
        [known, hard],
        [hard, known],
      ] as const) {
        for (let seed = 1; seed <= 5; seed++) {
          const meeting = new Meeting({ a, b, seed })
          // What a node knows of its NAT when it has just started.
          for (const node of [meeting.a, meeting.b]) {
            const { mapping, lastPort } = node.hints
            node.hints = { ...(mapping && { mapping }), ...(lastPort !== undefined && { lastPort }) }
          }
          meeting.connect()
          assert.ok(settled(meeting), `${a} × ${b}, seed ${seed}`)
        }
      }
    }
  }
})

test('10 % loss on every link: easy pairs at the median within 0.65 s', () => {
  const times: number[] = []
  for (let seed = 1; seed <= 40; seed++) {
    const meeting = meet('port-restricted', 'port-restricted', {
      seed,
      link: { delay: 10 * MILLISECOND, hops: 4, loss: 0.1 },
    })
    assert.ok(settled(meeting), `seed ${seed}`)
    times.push(meeting.elapsed)
  }
  assert.ok(median(times) <= 650, `median ${median(times)} ms`)
})

test('200 ms of round trip: direct within 4 of them', () => {
  // Each site is 50 ms from the core; the helper forwards a message in 100 ms.
  const link = { delay: 50 * MILLISECOND, hops: 4 }
  for (const b of ['port-restricted', 'full-cone', 'port-restricted-literal'] as const) {
    const meeting = meet('port-restricted', b, { link, signalling: 100 * MILLISECOND })
    assert.ok(
      meeting.world.run(() => meeting.isDirect, 2 * SECOND),
      b,
    )
    assert.ok(meeting.elapsed <= 800, `${b}: ${meeting.elapsed} ms`)
  }
})

test('both controlling, or both controlled: one gives way, and they agree', () => {
  for (const roles of [
    [true, true],
    [false, false],
  ] as const) {
    for (let seed = 1; seed <= 10; seed++) {
      const meeting = meet('port-restricted', 'full-cone', { roles, seed })
      assert.ok(settled(meeting), `seed ${seed}`)
      assert.notEqual(meeting.a.session.controlling, meeting.b.session.controlling)
    }
  }
})

test('a restart keeps the path until there is a new one, and old credentials are worth nothing after it', () => {
  const meeting = meet('port-restricted', 'symmetric')
  const { world, a, b } = meeting
  assert.ok(settled(meeting))
  const before = a.session.parameters
  const announced = a.paths.length + b.paths.length
  meeting.restart()
  const isGone = (): boolean => a.path === undefined || b.path === undefined
  assert.equal(world.run(isGone, 5 * SECOND), false)
  assert.notEqual(a.session.parameters.ufrag, before.ufrag)
  assert.notEqual(a.session.parameters.pwd, before.pwd)
  assert.ok(a.paths.length + b.paths.length > announced)
  assert.ok(settled(meeting))
  assert.deepEqual(
    a.session.trace.filter(({ what }) => what === 'disconnected'),
    [],
  )
})

test('the direct path is blocked: both fall back to the relay, and come back when it opens', () => {
  for (const b of ['full-cone', 'port-restricted'] as const) {
    const meeting = meet('port-restricted', b)
    const { world, a, b: other } = meeting
    assert.ok(settled(meeting))
    world.runFor(5 * SECOND)
    const [ip, ip2] = [a.site.publicAddresses[0]!, other.site.publicAddresses[0]!]
    world.internet.block(ip, ip2)
    const isRelayed = (): boolean => a.path?.kind === 'relayed' && other.path?.kind === 'relayed'
    assert.ok(world.run(isRelayed, 3 * SECOND), b)
    world.runFor(60 * SECOND)
    world.internet.unblock(ip, ip2)
    assert.ok(settled(meeting, 20 * SECOND), b)
    assert.deepEqual(
      [a, other].flatMap(({ events }) => events.filter(({ type }) => type === 'disconnected')),
      [],
    )
  }
})

test('a router reboots, and the port comes back or not: a working path is used again within 2 s', () => {
  for (const [a, b] of [
    ['port-restricted', 'port-restricted'],
    ['symmetric', 'full-cone'],
    ['full-cone', 'symmetric'],
    ['symmetric-random', 'none'],
    ['symmetric', 'port-restricted'],
  ] as const) {
    for (const who of ['a', 'b'] as const) {
      const meeting = meet(a, b)
      const { world } = meeting
      assert.ok(settled(meeting), `${a} ${b}`)
      world.runFor(7 * SECOND)
      meeting[who].site.reboot()
      world.runFor(2 * SECOND)
      assert.ok(works(meeting), `${a} ${b}, ${who} reboots`)
      world.runFor(10 * SECOND)
      assert.ok(works(meeting), `${a} ${b}, ${who} reboots: later`)
    }
  }
})

/** Does what each end calls its path carry a datagram to the other now? */
function works({ world, a, b }: Meeting): boolean {
  const arrives = (from: Node, to: Node): boolean => {
    const path = from.path?.path
    if (path === undefined) return false
    const mark = Uint8Array.of(0xff, world.now & 255)
    let arrived = false
    const attachment = to.socket.attach({
      handleDatagram: (_now, _path, bytes) => (arrived ||= bytes[0] === 0xff && bytes[1] === mark[1]),
      handleTimeout: () => undefined,
      pollTransmit: () => undefined,
      pollEvent: () => undefined,
      pollTimeout: () => undefined,
    })
    if (path.via === undefined) from.socket.send(mark, path.remote)
    else path.via.send(from.now(), { path, data: mark })
    world.run(() => arrived, 200 * MILLISECOND)
    attachment.detach()
    return arrived
  }
  return arrives(a, b) && arrives(b, a)
}

test('a NAT that forgets after 10 s is kept alive', () => {
  const meeting = meet('short-lifetime', 'short-lifetime')
  assert.ok(settled(meeting))
  meeting.world.runFor(120 * SECOND)
  assert.ok(meeting.isDirect)
  assert.ok(works(meeting))
  assert.equal(meeting.a.paths.filter(({ path }) => path.kind === 'direct').length, 1)
})

test('the network of one end changes its address: the other follows where its NAT lets it', () => {
  const meeting = meet('none', 'full-cone')
  const { world, a } = meeting
  assert.ok(settled(meeting))
  world.runFor(3 * SECOND)
  a.site.client.rebind('198.51.100.77')
  const address = { address: '198.51.100.77', port: a.socket.port }
  a.session.networkChanged(a.now(), [{ type: 'host', address }])
  a.wake()
  assert.deepEqual(
    a.session.localCandidates.map((one) => one.address),
    ['192.0.2.9', '198.51.100.77'],
  )
  world.runFor(2 * SECOND)
  assert.ok(works(meeting))
  assert.equal(meeting.b.path?.remote.address.address, '198.51.100.77')
})

test('one end doubts a path that the other end’s NAT let in again: in use a second later', () => {
  const meeting = meet('none', 'port-restricted')
  const { world, a, b } = meeting
  assert.ok(settled(meeting))
  world.runFor(3 * SECOND)
  a.site.client.rebind('198.51.100.77')
  assert.ok(world.run(() => a.path?.kind === 'relayed' && b.path?.kind === 'relayed', 3 * SECOND))
  a.session.networkChanged(a.now(), [
    { type: 'host', address: { address: '198.51.100.77', port: a.socket.port } },
  ])
  a.wake()
  assert.ok(settled(meeting, SECOND))
})

test('the relay dies under a relayed connection: disconnected, with a reason; a new relay helps', () => {
  const meeting = meet('symmetric', 'symmetric')
  const { world, a, b } = meeting
  assert.ok(world.run(() => meeting.isConnected, SECOND))
  world.runFor(5 * SECOND)
  a.relay!.isDown = true
  b.relay!.isDown = true
  const isOver = (): boolean =>
    [a, b].every(({ events }) => events.some(({ type }) => type === 'disconnected'))
  assert.ok(world.run(isOver, 10 * SECOND))
  a.relay!.isDown = false
  b.relay!.isDown = false
  assert.ok(world.run(() => meeting.isConnected, 20 * SECOND))
})

test('every path dies at once: the doubt about the one in use is one about those in reserve, too', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const meeting = meet('port-restricted', 'port-restricted', { seed })
    const { world, a, b } = meeting
    assert.ok(settled(meeting))
    world.runFor(5 * SECOND + seed * 100 * MILLISECOND)
    world.internet.block(a.site.publicAddresses[0]!, b.site.publicAddresses[0]!)
    a.relay!.isDown = true
    b.relay!.isDown = true
    const isDoubted = (): boolean =>
      [a, b].every(({ events }) => events.some(({ type }) => type === 'doubted'))
    // A consent interval until a check is missing, its tries, and those of the reserve.
    assert.ok(world.run(isDoubted, 2.6 * SECOND), `seed ${seed}`)
  }
})

test('nothing works: the session fails once, and says why', () => {
  const meeting = meet('symmetric', 'symmetric', { relay: false })
  const { world, a, b } = meeting
  world.runFor(30 * SECOND)
  for (const { events } of [a, b]) {
    const failures = events.filter(({ type }) => type === 'failed')
    assert.equal(failures.length, 1)
    assert.ok(failures[0]?.type === 'failed')
    assert.equal(failures[0].reason, 'no-answer')
  }
})

test('a full cone and a symmetric NAT are direct with the first check, also where nobody knows of the filtering', () => {
  for (const [a, b] of [
    ['full-cone', 'symmetric'],
    ['symmetric', 'full-cone'],
  ] as const) {
    const meeting = new Meeting({ a, b, seed: 1 })
    for (const node of [meeting.a, meeting.b]) {
      const { mapping, ports } = node.hints
      node.hints = { ...(mapping && { mapping }), ...(ports && { ports }) }
    }
    meeting.connect()
    assert.ok(meeting.world.run(() => meeting.isDirect, 10 * SECOND))
    // Offer and answer, and a check there and back: 40 ms each.
    assert.ok(meeting.elapsed <= 150, `${a} × ${b}: ${meeting.elapsed} ms`)
  }
})

test('two symmetric NATs with random ports stay relayed, unless an exhaustive search is asked for', () => {
  assert.equal(settled(meet('symmetric', 'symmetric'), 10 * SECOND), false)
  const exhaustive = { packets: 130_000, perSecond: 2500 }
  // This seed's luck is that it takes four seconds, and more packets than anybody may send without; others take up to a minute.
  const meeting = meet('symmetric-random', 'symmetric-random', { exhaustive, seed: 33 })
  assert.ok(settled(meeting, 60 * SECOND))
})

test('dual stack: IPv6 carries, and a broken family does not stop the other', () => {
  const meeting = meet('symmetric', 'symmetric', { dualStack: true })
  assert.ok(settled(meeting))
  assert.match(meeting.a.path!.remote.address.address, /:/)
})

test('the same seed gives the same run, packet by packet', () => {
  const run = (): string => {
    const meeting = meet('port-restricted', 'symmetric', { seed: 5 })
    meeting.world.runFor(3 * SECOND)
    return meeting.world.trace.hash
  }
  assert.equal(run(), run())
})
