// 2 s. A router restarts in the middle of a transfer and gives the flow another port: the connection goes on with it,
// whichever way the bytes go, and a stranger cannot make it go anywhere. In virtual time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND, type Path } from '../../src/core/index.ts'
import { World, type KindName } from '../../src/sim/index.ts'
import type { UtpEvent } from '../../src/utp/index.ts'
import { Sink, Source, UtpHost } from './utp-model.ts'

const SIZE = 4_000_000

interface Run {
  readonly world: World
  readonly reboot: () => void
  readonly inside: UtpHost
  readonly outside: UtpHost
  readonly source: Source
  readonly sink: Sink
  /** What the public side was told, with the port that its peer had then. */
  readonly events: { readonly type: string; readonly port: number }[]
}

/** A node behind the router connects to a public one; the bytes go up or down. */
function start(kind: KindName, way: 'up' | 'down', seed = 1): Run {
  const world = new World({ seed })
  const site = world.site('home', { kind })
  const outside = new UtpHost(world.publicHost('server', { addresses: ['192.0.2.1'] }))
  const inside = new UtpHost(site.client)
  const [source, sink] = [new Source(SIZE), new Sink()]
  const [from, to] = way === 'up' ? [inside, outside] : [outside, inside]
  const events: Run['events'] = []
  const handle = (host: UtpHost, event: UtpEvent): void => {
    if (host === outside) events.push({ type: event.type, port: event.connection.path.remote.port })
    if (host === to) sink.handle(host, event)
    if (host !== from) return
    if (['connected', 'incoming', 'writable'].includes(event.type)) source.pump(host, event.connection)
  }
  for (const host of [inside, outside]) host.onEvent = (event) => handle(host, event)
  inside.machine.connect(inside.host.now(), outside.path)
  inside.wake()
  return { world, reboot: () => site.reboot(), inside, outside, source, sink, events }
}

for (const kind of ['symmetric', 'symmetric-random', 'cgn-symmetric'] as const) {
  for (const way of ['up', 'down'] as const) {
    test(`${kind}, bytes going ${way}: not one is lost when the router restarts`, () => {
      const { world, reboot, source, sink, events } = start(kind, way)
      assert.ok(world.run(() => sink.bytes > SIZE / 2, 60 * SECOND))
      reboot()
      const rebootedAt = world.now
      const before = sink.bytes
      assert.ok(world.run(() => sink.bytes > before + SIZE / 8, 60 * SECOND))
      // A receiver has nothing to say until its keep-alive is due, 20 s after its last word.
      assert.ok(world.now - rebootedAt < 25 * SECOND, `${(world.now - rebootedAt) / SECOND} s`)
      assert.ok(world.run(() => sink.ended, 300 * SECOND))
      assert.deepEqual([sink.bytes, sink.hash], [SIZE, source.hash])
      assert.equal(events.filter(({ type }) => type === 'moved').length, 1)
      const ports = new Set(events.map(({ port }) => port))
      assert.equal(ports.size, 2)
    })
  }
}

test('who only listens is heard at its new address as soon as it announces itself', () => {
  const { world, reboot, inside, sink } = start('symmetric', 'down')
  assert.ok(world.run(() => sink.bytes > SIZE / 2, 60 * SECOND))
  reboot()
  // As when a STUN server has just told the new address.
  world.runFor(2 * SECOND)
  const before = sink.bytes
  inside.machine.announce(inside.host.now())
  inside.wake()
  world.runFor(5 * SECOND)
  assert.ok(sink.bytes > before, 'bytes again')
})

test('the side that waits for answers says so within seconds', () => {
  const { world, reboot, sink, events } = start('symmetric', 'down')
  assert.ok(world.run(() => sink.bytes > SIZE / 2, 60 * SECOND))
  reboot()
  assert.ok(
    world.run(() => events.some(({ type }) => type === 'stalled'), 5 * SECOND),
    'stalled',
  )
})

/** The last datagram that the public side got, and a way to hand it others. */
function tap({ outside }: Run): { last: () => Buffer; hand: (bytes: Uint8Array, after?: number) => void } {
  let last: Uint8Array = new Uint8Array(0)
  const listen = outside.machine.handleDatagram.bind(outside.machine)
  outside.machine.handleDatagram = (now, path, bytes) => {
    last = Uint8Array.from(bytes)
    return listen(now, path, bytes)
  }
  const stranger: Path = { remote: { address: '198.51.100.99', port: 4_000 } }
  return {
    last: () => Buffer.from(last),
    hand: (bytes, after = 0) => void listen(outside.host.now() + after, stranger, bytes),
  }
}

test('a stranger who knows every number moves nothing while the peer is heard, and gets no RESET', () => {
  const run = start('symmetric', 'up')
  const { last, hand } = tap(run)
  assert.ok(run.world.run(() => run.sink.bytes > SIZE / 2, 60 * SECOND))
  const { resetsSent, unknown } = run.outside.machine.stats
  hand(last())
  const after = run.outside.machine.stats
  assert.deepEqual([after.resetsSent, after.unknown], [resetsSent, unknown + 1])
  assert.ok(run.world.run(() => run.sink.ended, 300 * SECOND))
  assert.ok(!run.events.some(({ type }) => type === 'moved'))
})

test('numbers that do not fit are refused as from any stranger, however long the silence', () => {
  for (const [field, isFitting] of [
    ['sequence number', false],
    ['ack', false],
    ['nothing', true],
  ] as const) {
    const run = start('symmetric', 'up')
    const { last, hand } = tap(run)
    assert.ok(run.world.run(() => run.sink.bytes > SIZE / 2, 60 * SECOND))
    const forged = last()
    const at = { 'sequence number': 16, ack: 18, nothing: undefined }[field]
    if (at !== undefined) forged.writeUInt16BE((forged.readUInt16BE(at) + 30_000) & 0xffff, at)
    const resets = run.outside.machine.stats.resetsSent
    hand(forged, 10 * SECOND)
    run.world.runFor(1_000)
    assert.equal(
      run.events.some(({ type }) => type === 'moved'),
      isFitting,
      field,
    )
    assert.equal(run.outside.machine.stats.resetsSent > resets, !isFitting, field)
  }
})
