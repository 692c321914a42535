import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Deadline, Machine, Path, Transmit } from '../../../src/core/machine.ts'
import { MILLISECOND, SECOND } from '../../../src/core/machine.ts'
import { World } from '../../../src/sim/index.ts'
import type { Host, LinkOptions, SimSocket } from '../../../src/sim/index.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (data: Uint8Array): string => new TextDecoder().decode(data)

function pair(options: LinkOptions, seed = 1): { world: World; a: SimSocket; b: SimSocket; hosts: Host[] } {
  const world = new World({ seed, trace: true })
  const hosts = [
    world.host('a', { addresses: ['192.0.2.1', '2001:db8::1'] }),
    world.host('b', { addresses: ['192.0.2.2', '2001:db8::2'] }),
  ]
  world.link(hosts[0]!, hosts[1]!, options)
  return { world, a: hosts[0]!.bind({ port: 1000 }), b: hosts[1]!.bind({ port: 2000 }), hosts }
}

/** Sends `count` numbered datagrams, one per millisecond, and says what arrived, in order. */
function flow(
  options: LinkOptions,
  count: number,
  size = 100,
  seed = 1,
): { got: number[]; at: number[]; world: World } {
  const { world, a, b } = pair(options, seed)
  const got: number[] = []
  const at: number[] = []
  b.onMessage = (data) => {
    got.push(new DataView(data.buffer).getUint32(0))
    at.push(world.now)
  }
  for (let i = 0; i < count; i++) {
    world.at(i * MILLISECOND, () => {
      const data = new Uint8Array(size)
      new DataView(data.buffer).setUint32(0, i)
      a.send(data, { address: '192.0.2.2', port: 2000 })
    })
  }
  world.run()
  return { got, at, world }
}

test('a datagram takes the delay of the link, over IPv4 and IPv6', () => {
  const { world, a, b } = pair({ delay: 20 * MILLISECOND })
  const got: string[] = []
  b.onMessage = (data, from) => got.push(`${world.now} ${text(data)} ${from.address}:${from.port}`)
  a.send(bytes('four'), { address: '192.0.2.2', port: 2000 })
  a.send(bytes('six'), { address: '2001:db8::2', port: 2000 })
  world.run()
  assert.deepEqual(got, ['20000 four 192.0.2.1:1000', '20000 six 2001:db8::1:1000'])
  assert.equal(world.trace.delivered, 2)
})

test('loss, duplication and reordering happen as often as asked, and repeat with the seed', () => {
  const options: LinkOptions = {
    delay: 10 * MILLISECOND,
    loss: 0.1,
    duplicate: 0.05,
    reorder: { probability: 0.1, delay: 3 * MILLISECOND },
  }
  const one = flow(options, 4000)
  const lost = one.world.trace.dropped.get('loss') ?? 0
  assert.ok(lost > 320 && lost < 480, `${lost} of 4000 lost`)
  const twice = one.got.length - new Set(one.got).size
  assert.ok(twice > 120 && twice < 260, `${twice} duplicated`)
  const late = one.got.filter((n, i) => i > 0 && n < one.got[i - 1]!).length
  assert.ok(late > 250 && late < 450, `${late} out of order`)
  assert.deepEqual(flow(options, 4000).got, one.got)
  assert.equal(flow(options, 4000).world.trace.hash, one.world.trace.hash)
  assert.notEqual(flow(options, 4000, 100, 2).world.trace.hash, one.world.trace.hash)
})

test('Gilbert–Elliott loses in bursts of the mean length asked for', () => {
  const { got } = flow({ loss: { goodToBad: 0.01, badToGood: 0.2 } }, 20_000)
  const lostShare = 1 - got.length / 20_000
  assert.ok(lostShare > 0.03 && lostShare < 0.07, `lost ${lostShare}, expected 1/21`)
  const bursts = got.filter((n, i) => i > 0 && n > got[i - 1]! + 1).length
  const mean = (20_000 - got.length) / bursts
  assert.ok(mean > 4 && mean < 6, `mean burst ${mean}, expected 5`)
})

test('jitter delays but keeps the order', () => {
  const { got, at } = flow({ delay: 5 * MILLISECOND, jitter: 8 * MILLISECOND }, 1000)
  assert.deepEqual(
    got,
    Array.from({ length: 1000 }, (_, i) => i),
  )
  const waits = at.map((time, i) => time - got[i]! * MILLISECOND)
  assert.ok(Math.min(...waits) >= 5 * MILLISECOND && Math.max(...waits) <= 13 * MILLISECOND)
  assert.ok(Math.max(...waits) - Math.min(...waits) > 7 * MILLISECOND)
})

test('the rate spaces packets out and the queue drops at its tail', () => {
  const { world, a, b } = pair({ rate: 8_000_000, queue: { packets: 3 } }) // a byte per microsecond
  const at: number[] = []
  b.onMessage = () => at.push(world.now)
  for (let i = 0; i < 5; i++) a.send(new Uint8Array(972), { address: '192.0.2.2', port: 2000 })
  world.run()
  assert.deepEqual(at, [1000, 2000, 3000]) // 972 + 8 + 20 bytes each
  assert.equal(world.trace.dropped.get('queue-full'), 2)
  a.send(new Uint8Array(972), { address: '192.0.2.2', port: 2000 })
  world.run()
  assert.equal(at.length, 4, 'the queue has emptied')
})

test('the queue can be bounded in bytes', () => {
  const { world, a } = pair({ rate: 8_000_000, queue: { bytes: 2500 } })
  for (let i = 0; i < 5; i++) a.send(new Uint8Array(972), { address: '192.0.2.2', port: 2000 })
  world.run()
  assert.equal(world.trace.dropped.get('queue-full'), 3)
})

test('a packet above the MTU is dropped; its sender is told, or not', () => {
  for (const tooBig of ['icmp', 'drop'] as const) {
    const { world, a } = pair({ mtu: 1280, tooBig })
    const told: unknown[] = []
    a.onIcmp = (error, to) => told.push([error, to.port])
    a.send(new Uint8Array(1280 - 28), { address: '192.0.2.2', port: 2000 })
    a.send(new Uint8Array(1280 - 27), { address: '192.0.2.2', port: 2000 })
    a.send(new Uint8Array(1280 - 47), { address: '2001:db8::2', port: 2000 })
    world.run()
    assert.equal(world.trace.dropped.get('mtu'), 2)
    const expected = [[{ type: 'too-big', mtu: 1280 }, 2000]]
    assert.deepEqual(told, tooBig === 'icmp' ? [...expected, ...expected] : [])
  }
})

test('hops take from the TTL, and a low one dies on the way', () => {
  const { world, a, b } = pair({ hops: 4 })
  b.onMessage = () => undefined
  a.send(bytes('dies'), { address: '192.0.2.2', port: 2000 }, 4)
  a.send(bytes('lives'), { address: '192.0.2.2', port: 2000 }, 5)
  world.run()
  assert.equal(world.trace.dropped.get('ttl'), 1)
  assert.equal(world.trace.delivered, 1)
})

test('an unbound port answers with ICMP port unreachable', () => {
  const { world, a } = pair({})
  const told: string[] = []
  a.onIcmp = (error, to) => told.push(`${error.type} ${to.port}`)
  a.send(bytes('hello'), { address: '192.0.2.2', port: 9 })
  world.run()
  assert.deepEqual(told, ['port-unreachable 9'])
})

test('a link that is down loses what is sent, and works again when up', () => {
  const world = new World({ seed: 1 })
  const a = world.host('a', { addresses: ['192.0.2.1'] })
  const b = world.host('b', { addresses: ['192.0.2.2'] })
  const link = world.link(a, b, { delay: 1000 })
  const from = a.bind()
  let got = 0
  b.bind({ port: 7 }).onMessage = () => got++
  const say = (): void => from.send(bytes('x'), { address: '192.0.2.2', port: 7 })
  link.down()
  say()
  world.run()
  assert.equal(got, 0)
  link.up()
  say()
  world.run()
  assert.equal(got, 1)
  assert.equal(world.trace.dropped.get('link-down'), 1)
})

test('hosts on the internet reach each other; a path can be blocked and a host renumbered', () => {
  const world = new World({ seed: 1 })
  const a = world.publicHost('a', { addresses: ['192.0.2.1'], link: { delay: 1000, hops: 2 } })
  const b = world.publicHost('b', { addresses: ['192.0.2.2'] })
  const c = world.publicHost('c', { addresses: ['192.0.2.3'] })
  const got: string[] = []
  for (const host of [b, c]) {
    host.bind({ port: 7 }).onMessage = (_, from) => got.push(`${host.name} ${from.address}`)
  }
  const from = a.bind({ port: 5 })
  const say = (address: string): void => from.send(bytes('x'), { address, port: 7 })
  world.internet.block('192.0.2.1', '192.0.2.2')
  say('192.0.2.2')
  say('192.0.2.3')
  world.run()
  world.internet.unblock('192.0.2.2', '192.0.2.1')
  a.rebind('192.0.2.9')
  b.rebind('192.0.2.8')
  say('192.0.2.2')
  say('192.0.2.8')
  world.run()
  assert.deepEqual(got, ['c 192.0.2.1', 'b 192.0.2.9'])
  assert.equal(world.trace.dropped.get('blocked'), 1)
  assert.equal(world.trace.dropped.get('no-route'), 1)
})

/** Echoes, and after the first datagram beats once a second, five times. */
class Echo implements Machine<string> {
  readonly #out: Transmit[] = []
  readonly #events: string[] = []
  #path: Path | undefined
  #next = Infinity
  #beats = 0

  handleDatagram(now: number, path: Path, data: Uint8Array): boolean {
    if (text(data) === 'not mine') return false
    this.#out.push({ path, data: data.slice() })
    this.#events.push(`${now} ${text(data)}`)
    this.#path = path
    this.#next = Math.min(this.#next, now + SECOND)
    return true
  }
  handleTimeout(now: number): void {
    if (now < this.#next || !this.#path) return
    this.#out.push({ path: this.#path, data: bytes('beat') })
    this.#next = ++this.#beats < 5 ? now + SECOND : Infinity
  }
  pollTransmit(): Transmit | undefined {
    return this.#out.shift()
  }
  pollEvent(): string | undefined {
    return this.#events.shift()
  }
  pollTimeout(): Deadline | undefined {
    return this.#next === Infinity ? undefined : { at: this.#next, reason: 'beat' }
  }
}

test('a machine is drained for datagrams, events and deadlines, on its host’s own clock', () => {
  const world = new World({ seed: 1 })
  const a = world.host('a', { addresses: ['192.0.2.1'] })
  const b = world.host('b', { addresses: ['192.0.2.2'], clock: { offset: 5 * SECOND, ppm: 100 } })
  world.link(a, b, { delay: 10 * MILLISECOND })
  const events: string[] = []
  b.bind({ port: 7 }).attach(new Echo(), (event) => events.push(event))
  const got: string[] = []
  const from = a.bind()
  from.onMessage = (data) => got.push(`${world.now} ${text(data)}`)
  from.send(bytes('not mine'), { address: '192.0.2.2', port: 7 })
  from.send(bytes('hello'), { address: '192.0.2.2', port: 7 })
  world.run()
  assert.equal(world.trace.dropped.get('unclaimed'), 1)
  assert.deepEqual(events, ['5010001 hello'])
  assert.equal(got[0], '20000 hello')
  assert.equal(got.length, 6)
  // A second of a clock that is 100 ppm fast is 999,900 µs of the world's.
  assert.ok(Math.abs(Number(got[1]!.split(' ')[0]) - (20_000 + 999_900)) <= 2, got[1])
})

test('a machine whose deadline stays in the past is named, not run for ever', () => {
  const world = new World({ seed: 1 })
  const host = world.host('stuck', { addresses: ['192.0.2.1'] })
  const machine: Machine = {
    handleDatagram: () => false,
    handleTimeout: () => undefined,
    pollTransmit: () => undefined,
    pollEvent: () => undefined,
    pollTimeout: () => ({ at: 0, reason: 'never moved' }),
  }
  host.bind({ port: 7 }).attach(machine)
  assert.throws(() => world.run(SECOND), { code: 'ERR_NATWORK_SIM_STUCK', message: /never moved/ })
})

test('another host does not shift the draws of the others', () => {
  const lossOf = (withMore: boolean): number[] => {
    const world = new World({ seed: 7 })
    if (withMore) world.publicHost('first', { addresses: ['192.0.2.99'], link: { loss: 0.5 } }).bind()
    const a = world.host('a', { addresses: ['192.0.2.1'] })
    const b = world.host('b', { addresses: ['192.0.2.2'] })
    world.link(a, b, { loss: 0.5 })
    const got: number[] = []
    b.bind({ port: 7 }).onMessage = (data) => got.push(data[0]!)
    const from = a.bind({ port: 8 })
    for (let i = 0; i < 100; i++) from.send(Uint8Array.of(i), { address: '192.0.2.2', port: 7 })
    world.run()
    return got
  }
  assert.deepEqual(lossOf(true), lossOf(false))
})

test('misuse is told in one line', () => {
  const world = new World()
  const host = world.host('a', { addresses: ['192.0.2.1'] })
  assert.throws(() => world.host('a', { addresses: [] }), { code: 'ERR_NATWORK_SIM_NAME' })
  assert.throws(() => world.host('b', { addresses: ['example.com'] }), { code: 'ERR_NATWORK_SIM_ADDRESS' })
  assert.throws(() => world.link(host, world.internet, { loss: 2 }), { code: 'ERR_NATWORK_SIM_LINK' })
  host.bind({ port: 7 })
  assert.throws(() => host.bind({ port: 7 }), { code: 'ERR_NATWORK_SIM_BIND' })
  assert.throws(() => host.bind({ address: '192.0.2.7' }), { code: 'ERR_NATWORK_SIM_BIND' })
})

test('run stops at a condition, at a time, and refuses to go on for ever', () => {
  const world = new World({ seed: 1 })
  let ticks = 0
  const tick = (): void => {
    ticks++
    world.at(world.now + SECOND, tick)
  }
  tick()
  assert.equal(
    world.run(() => ticks === 5),
    true,
  )
  assert.equal(world.now, 4 * SECOND)
  assert.equal(
    world.run(() => ticks === 1000, 10 * SECOND),
    false,
  )
  assert.equal(world.now, 14 * SECOND)
  world.run(20 * SECOND)
  assert.equal(ticks, 21)
  assert.throws(() => world.run(), { code: 'ERR_NATWORK_SIM_ENDLESS' })
})
