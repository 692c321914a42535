import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import type { SocketAddress } from '../../../src/core/address.ts'
import type { Transmit } from '../../../src/core/machine.ts'
import { bindDgram } from '../../../src/socket/dgram.ts'
import type { Driver } from '../../../src/socket/driver.ts'
import { openNative } from '../../../src/socket/native.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { TestMachine } from './machines.ts'

const options = { recvBufferSize: 4 << 20, reusePort: false }

/** A driver that keeps what it gets. */
class Listener {
  readonly driver: Driver
  readonly got: { from: SocketAddress; bytes: Buffer }[] = []
  readonly sendErrors: { transmit: Transmit; error: Error }[] = []
  #wanted = Infinity
  #resolve: () => void = () => undefined

  constructor(t: TestContext, driver: Driver) {
    this.driver = driver
    t.after(() => driver.close())
    driver.start({
      onDatagram: ({ remote }, bytes) => {
        this.got.push({ from: remote, bytes: Buffer.from(bytes) })
        if (this.got.length === this.#wanted) this.#resolve()
      },
      onBatchEnd: () => undefined,
      onWritable: () => undefined,
      onSendError: (transmit, error) => this.sendErrors.push({ transmit, error }),
      onReceiveError: () => undefined,
    })
  }

  /** What it gets until there are `count` of them. */
  async take(count: number): Promise<{ from: SocketAddress; bytes: Buffer }[]> {
    if (this.got.length < count) {
      this.#wanted = count
      await new Promise<void>((resolve) => (this.#resolve = resolve))
    }
    return this.got.splice(0)
  }
}

const sizes = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(20, 26, 1_200, 1_448) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 1_500 }) },
  { weight: 1, arbitrary: fc.constantFrom(9_000, 32_000, 65_507) },
)
/** Rows of the same size and destination, as bulk traffic has them, and single ones between. */
const rows = fc.array(
  fc.record({
    to: fc.integer({ min: 0, max: 3 }),
    size: sizes,
    last: sizes,
    count: fc.integer({ min: 1, max: 70 }),
    ttl: fc.constantFrom(undefined, undefined, 64, 9),
    flush: fc.boolean(),
  }),
  { minLength: 1, maxLength: 12 },
)

test(
  'whatever is sent in whatever rows arrives as it was, in order, at both drivers',
  { timeout: 60_000 },
  async (t) => {
    const sender = new Listener(t, await openNative({ address: '::', port: 0 }, options))
    const listeners = [
      new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options)),
      new Listener(t, await openNative({ address: '::1', port: 0 }, options)),
      new Listener(t, await bindDgram({ address: '127.0.0.1', port: 0 }, options)),
      new Listener(t, await bindDgram({ address: '::1', port: 0 }, options)),
    ]
    let marker = 0
    await fc.assert(
      fc.asyncProperty(rows, async (plan) => {
        const sent = listeners.map((): Buffer[] => [])
        let total = 0
        for (const { to, size, last, count, ttl, flush } of plan) {
          const path = { remote: listeners[to]!.driver.address }
          for (let i = 0; i < count && total < MAX_TOTAL; i++) {
            const data = Buffer.alloc(i === count - 1 ? last : size, ++marker)
            total += data.length + 1_000
            sent[to]!.push(data)
            sender.driver.send({ path, data, ...(ttl !== undefined && { ttl }) })
          }
          if (flush) sender.driver.flush()
        }
        sender.driver.flush()
        for (const [i, listener] of listeners.entries()) {
          const got = await listener.take(sent[i]!.length)
          assert.deepEqual(
            got.map(({ bytes }) => bytes),
            sent[i],
          )
          assert.ok(got.every(({ from }) => from.port === sender.driver.address.port))
        }
        assert.deepEqual(sender.sendErrors, [])
      }),
      { numRuns: 150 },
    )
  },
)

/** Bytes, with the kernel's own overhead, that the listeners' buffers hold while nobody reads. */
const MAX_TOTAL = 1_500_000

test('what node:dgram sends arrives as it was', async (t) => {
  const sender = new Listener(t, await bindDgram({ address: '::', port: 0 }, options))
  const listener = new Listener(t, await openNative({ address: '::', port: 0 }, options))
  const { port } = listener.driver.address
  const data = Array.from({ length: 200 }, (_, i) => Buffer.alloc(i * 7, i))
  for (const address of ['127.0.0.1', '::1']) {
    const path = { remote: { address, port } }
    for (const one of data) sender.driver.send({ path, data: one })
    sender.driver.flush()
    const got = await listener.take(data.length)
    assert.deepEqual(
      got.map(({ bytes }) => bytes),
      data,
    )
    assert.deepEqual(got[0]!.from, { address, port: sender.driver.address.port })
  }
})

test('datagrams that the kernel refuses are told one by one; their neighbours arrive', async (t) => {
  const sender = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  const listener = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  const path = { remote: listener.driver.address }
  const send = (text: string, to = path): void => {
    sender.driver.send({ path: to, data: Buffer.from(text) })
  }
  send('first')
  send('x'.repeat(65_508))
  send('no such family', { remote: { address: '::1', port: 9 } })
  send('port 0', { remote: { address: '127.0.0.1', port: 0 } })
  send('x'.repeat(70_000))
  send('last')
  sender.driver.flush()
  const got = await listener.take(2)
  assert.deepEqual(
    got.map(({ bytes }) => bytes.toString()),
    ['first', 'last'],
  )
  assert.deepEqual(
    sender.sendErrors.map(({ transmit, error }) => [transmit.data.length, 'code' in error && error.code]),
    [
      [70_000, 'EMSGSIZE'],
      [65_508, 'EMSGSIZE'],
      [14, 'EAFNOSUPPORT'],
      [6, 'EINVAL'],
    ],
  )
})

test('more remotes than its tables hold: every datagram goes to and comes from the right one', async (t) => {
  const hub = new Listener(t, await openNative({ address: '0.0.0.0', port: 0 }, options))
  const echoes: Listener[] = []
  for (let n = 0; n < 6; n++) {
    echoes.push(new Listener(t, await openNative({ address: '0.0.0.0', port: 0 }, options)))
  }
  // 127.0.0.0/8 is all this machine: 6,000 remotes without 6,000 sockets. The port tells whether the right one was meant.
  const remotes = Array.from({ length: 6_000 }, (_, i) => ({
    address: `127.1.${i >> 8}.${i & 255}`,
    port: echoes[i % echoes.length]!.driver.address.port,
  }))
  for (let round = 0; round < 2; round++) {
    // So many wait at once that some of them want the same place in the table.
    const AT_ONCE = 900
    for (let from = 0; from < remotes.length; from += AT_ONCE) {
      const some = remotes.slice(from, from + AT_ONCE)
      for (const remote of some) hub.driver.send({ path: { remote }, data: Buffer.from(remote.address) })
      hub.driver.flush()
      for (const echo of echoes) {
        const expected = some.filter(({ port }) => port === echo.driver.address.port)
        const got = await echo.take(expected.length)
        assert.deepEqual(
          got.map(({ bytes }) => bytes.toString()),
          expected.map(({ address }) => address),
        )
      }
    }
  }
  assert.deepEqual(hub.sendErrors, [])
  // The other way: each remote is a socket address of its own, bound for one datagram.
  for (let i = 0; i < 200; i++) {
    const address = `127.2.${i % 7}.${i}`
    const one = await openNative({ address, port: 0 }, options)
    one.send({
      path: { remote: { ...hub.driver.address, address: '127.0.0.1' } },
      data: Buffer.from(address),
    })
    one.flush()
    const [got] = await hub.take(1)
    assert.deepEqual(got?.from, one.address)
    assert.equal(got.bytes.toString(), address)
    await one.close()
  }
})

test('an idle port owns no memory for datagrams: a relay has thousands of them', async (t) => {
  // The first makes what the thread's ports share.
  new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  const before = process.memoryUsage()
  const PORTS = 400
  for (let n = 0; n < PORTS; n++)
    new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  const after = process.memoryUsage()
  assert.ok(after.arrayBuffers - before.arrayBuffers < PORTS * 256, 'memory that JavaScript made')
  // What the addon made: a buffer or a table for each would be 20 to 150 KiB each.
  assert.ok(after.rss - before.rss < PORTS * 40 * 1024, `${after.rss - before.rss} bytes for ${PORTS} ports`)
})

test('ports take turns and flush each other; what each sends arrives, in order', async (t) => {
  const listener = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  const path = { remote: listener.driver.address }
  const senders: Listener[] = []
  for (let n = 0; n < 5; n++) {
    senders.push(new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options)))
  }
  const ROUNDS = 300
  for (let round = 0; round < ROUNDS; round++) {
    for (const [n, { driver }] of senders.entries()) {
      driver.send({ path, data: Buffer.from(`${n} ${round} ${'x'.repeat(n * 40)}`) })
    }
  }
  for (const { driver } of senders) driver.flush()
  const got = await listener.take(senders.length * ROUNDS)
  for (const [n, { driver }] of senders.entries()) {
    const own = got.filter(({ from }) => from.port === driver.address.port)
    assert.deepEqual(
      own.map(({ bytes }) => bytes.toString().split(' ', 2).join(' ')),
      Array.from({ length: ROUNDS }, (_, round) => `${n} ${round}`),
    )
  }
})

test('a port that is closed while others of its turn are told hears nothing more; the others do', async (t) => {
  const sender = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  // More than are told of at once.
  const COUNT = 200
  const heard = new Map<Driver, number>()
  const closed = new Set<Driver>()
  const ports: Driver[] = []
  let resolve: () => void = () => undefined
  const all = new Promise<void>((done) => (resolve = done))
  for (let n = 0; n < COUNT; n++) {
    const port = await openNative({ address: '127.0.0.1', port: 0 }, options)
    ports.push(port)
    t.after(() => port.close())
    port.start({
      onDatagram: () => {
        assert.ok(!closed.has(port), 'told after its end')
        heard.set(port, (heard.get(port) ?? 0) + 1)
        // Itself now and then, and one that may be next in line.
        for (const victim of n % 5 === 0 ? [port, ports[(n + 1) % COUNT]!] : []) {
          closed.add(victim)
          void victim.close()
        }
        if (ports.every((one) => heard.has(one) || closed.has(one))) resolve()
      },
      onBatchEnd: () => undefined,
      onWritable: () => undefined,
      onSendError: () => undefined,
      onReceiveError: () => undefined,
    })
  }
  for (const { address } of ports) sender.driver.send({ path: { remote: address }, data: Buffer.from('x') })
  sender.driver.flush()
  await all
  assert.ok([...heard.values()].every((count) => count === 1))
  assert.ok(heard.size >= COUNT * 0.8)
})

test('whoever is told of a failure may send at once, whatever the memory holds', async (t) => {
  const listener = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  const path = { remote: listener.driver.address }
  const other = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
  const failing = await openNative({ address: '127.0.0.1', port: 0 }, options)
  t.after(() => failing.close())
  let failures = 0
  failing.start({
    onDatagram: () => undefined,
    onBatchEnd: () => undefined,
    onWritable: () => undefined,
    onReceiveError: () => undefined,
    onSendError: () => {
      other.driver.send({ path, data: Buffer.from(String(failures++)) })
    },
  })
  const COUNT = 1_500
  const nowhere = { remote: { address: '::1', port: 9 } }
  for (let n = 0; n < COUNT; n++) failing.send({ path: nowhere, data: Buffer.from('x') })
  failing.flush()
  other.driver.flush()
  const got = await listener.take(COUNT)
  assert.deepEqual(
    got.map(({ bytes }) => bytes.toString()),
    Array.from({ length: COUNT }, (_, n) => String(n)),
  )
})

test('endpoints that share a port: each remote has one of them, always the same', async (t) => {
  const share = { host: '127.0.0.1', driver: 'native', reusePort: true } as const
  const one = await UdpEndpoint.bind({ ...share, port: 0 })
  const two = await UdpEndpoint.bind({ ...share, port: one.address.port })
  t.after(() => Promise.all([one.close(), two.close()]))
  const got = new Map<number, Set<UdpEndpoint>>()
  let seen = 0
  const all = new Promise<void>((resolve) => {
    for (const endpoint of [one, two]) {
      endpoint.attach(new TestMachine(), ({ path }) => {
        const { port } = path.remote
        got.set(port, (got.get(port) ?? new Set()).add(endpoint))
        if (++seen === 160) resolve()
      })
    }
  })
  for (let i = 0; i < 16; i++) {
    const client = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
    for (let n = 0; n < 10; n++) client.driver.send({ path: { remote: one.address }, data: Buffer.from('x') })
    client.driver.flush()
  }
  await all
  assert.equal(got.size, 16)
  assert.ok([...got.values()].every((endpoints) => endpoints.size === 1))
})

test(
  'threads that end with open ports leave the process and the ports whole',
  { timeout: 60_000 },
  async (t) => {
    const listener = new Listener(t, await openNative({ address: '127.0.0.1', port: 0 }, options))
    const workers = Array.from(
      { length: 4 },
      () =>
        new Worker(new URL('fixtures/thread.mjs', import.meta.url), {
          workerData: listener.driver.address,
          execArgv: [], // What `npm test -- --dgram` loads before is in TypeScript.
        }),
    )
    const ports = await Promise.all(
      workers.map(async (worker) => (await once(worker, 'message'))[0] as number),
    )
    assert.deepEqual(new Set((await listener.take(4)).map(({ from }) => from.port)), new Set(ports))
    await Promise.all(workers.map((worker) => worker.terminate()))
    for (const port of ports) {
      const again = await openNative({ address: '127.0.0.1', port }, options)
      await again.close()
    }
  },
)
