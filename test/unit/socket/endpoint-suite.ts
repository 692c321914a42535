// What every driver must do. Each driver's own test file sets the default driver and imports this one.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { test } from 'node:test'
import { samePath, type Carrier, type Path } from '../../../src/core/machine.ts'
import { bindError } from '../../../src/socket/errors.ts'
import { defaultDriver } from '../../../src/socket/drivers.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { bound, receives, say } from './endpoints.ts'
import { TestMachine } from './machines.ts'

test('a datagram goes to the first machine that owns it, the rest is counted', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const first = new TestMachine((text) => text.startsWith('1'))
  const second = new TestMachine((text) => text.startsWith('1') || text.startsWith('2'))
  b.attach(first, () => undefined)
  const done = receives(b, second, 2)
  say(a, a.path(b.address), '1', '3', '2', '1', '2')
  await done
  assert.deepEqual(
    first.received.map(({ text }) => text),
    ['1', '1'],
  )
  assert.deepEqual(
    second.received.map(({ text }) => text),
    ['2', '2'],
  )
  assert.equal(b.counters.unmatched, 1)
  assert.equal(b.counters.datagramsReceived, 5)
  assert.equal(a.counters.datagramsSent, 5)
  assert.equal(a.counters.bytesSent, 5)
  // One Path object per remote.
  assert.equal(first.received[0]?.path, second.received[1]?.path)
  assert.deepEqual(first.received[0]?.path.remote, a.address)
})

test('a path with a carrier bypasses the socket, both ways', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const carried: string[] = []
  const carrier: Carrier = {
    kind: 'relay',
    send: (_now, { path, data }) => {
      assert.equal(path.via, carrier)
      carried.push(Buffer.from(data).toString())
      b.deliver({ remote: path.remote, via: carrier }, data)
    },
  }
  const machine = new TestMachine((text) => text === 'carried')
  const done = receives(b, machine, 1)
  const path: Path = { remote: { address: '192.0.2.1', port: 7 }, via: carrier }
  say(a, path, 'carried', 'unknown')
  await done
  assert.deepEqual(carried, ['carried', 'unknown'])
  assert.deepEqual(machine.received, [{ path, text: 'carried' }])
  assert.equal(samePath(machine.received[0]!.path, path), true)
  assert.equal(samePath(machine.received[0]!.path, { remote: path.remote }), false)
  assert.equal(b.counters.unmatched, 1)
  assert.equal(a.counters.datagramsSent, 0)
})

test('a detached machine gets nothing more', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const gone = new TestMachine()
  b.attach(gone, () => undefined).detach()
  const stays = new TestMachine()
  const done = receives(b, stays, 1)
  say(a, a.path(b.address), 'x')
  await done
  assert.equal(gone.received.length, 0)
})

test('IPv6 speaks to IPv6', async (t) => {
  const a = await bound(t, '::1')
  const b = await bound(t, '::1')
  const machine = new TestMachine()
  const done = receives(b, machine, 1)
  say(a, a.path(b.address), 'six')
  await done
  assert.deepEqual(machine.received[0]?.path.remote, { address: '::1', port: a.address.port })
})

test(':: speaks both families, and an IPv4 peer is a dotted quad there', async (t) => {
  const both = await bound(t, '::')
  const four = await bound(t, '127.0.0.1')
  const six = await bound(t, '::1')
  const echoed = new TestMachine()
  const arrived = receives(both, echoed, 2)
  say(four, four.path({ address: '127.0.0.1', port: both.address.port }), 'from four')
  say(six, six.path({ address: '::1', port: both.address.port }), 'from six')
  await arrived
  const remotes = new Map(echoed.received.map(({ text, path }) => [text, path.remote]))
  assert.deepEqual(remotes.get('from four'), four.address)
  assert.deepEqual(remotes.get('from six'), six.address)

  const back = new TestMachine()
  const answered = receives(four, back, 1)
  say(both, both.path({ address: '::ffff:127.0.0.1', port: four.address.port }), 'back')
  await answered
  assert.equal(back.received[0]?.path.remote.port, both.address.port)
})

test('a family that the port does not speak is a counted send error', async (t) => {
  const four = await bound(t)
  say(four, four.path({ address: '::1', port: 9 }), 'x')
  await new Promise(setImmediate)
  assert.equal(four.counters.sendErrors, 1)
})

test('a datagram too long for UDP is a counted send error', async (t) => {
  const a = await bound(t)
  const errors = await new Promise<number>((resolve) => {
    say(a, a.path({ address: '127.0.0.1', port: 9 }), 'x'.repeat(70_000))
    setImmediate(() => setImmediate(() => resolve(a.counters.sendErrors)))
  })
  assert.equal(errors, 1)
})

test('datagrams of no byte and of as many as UDP allows arrive whole', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const machine = new TestMachine()
  const done = receives(b, machine, 4)
  const longest = 'x'.repeat(65_507)
  say(a, a.path(b.address), '', longest, 'one', '')
  await done
  assert.deepEqual(
    machine.received.map(({ text }) => text.length),
    [0, 65_507, 3, 0],
  )
})

test('10,000 small datagrams between ten ports arrive, each once and in order', async (t) => {
  const ports = await Promise.all(Array.from({ length: 10 }, () => bound(t)))
  const hub = await bound(t)
  const machine = new TestMachine()
  const done = receives(hub, machine, 10_000)
  const speakers = ports.map((port) => {
    const speaker = new TestMachine()
    const path = port.path(hub.address)
    for (let i = 0; i < 1_000; i++) speaker.outgoing.push({ path, data: Buffer.from(String(i)) })
    return () => port.attach(speaker, () => undefined)
  })
  for (const start of speakers) {
    start()
    // The kernel's buffer holds what two of them say.
    await new Promise(setImmediate)
  }
  await done
  const texts = new Map<number, string[]>()
  for (const { path, text } of machine.received) {
    const { port } = path.remote
    texts.set(port, [...(texts.get(port) ?? []), text])
  }
  const expected = Array.from({ length: 1_000 }, (_, i) => String(i))
  assert.deepEqual(
    new Map([...texts].toSorted(([x], [y]) => x - y)),
    new Map(ports.map(({ address }) => [address.port, expected] as const).toSorted(([x], [y]) => x - y)),
  )
})

test('a port that is closed by what it received hands over nothing more', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  let handled = 0
  const closed = new Promise<void>((resolve) => {
    const machine = new TestMachine(() => {
      handled++
      if (handled === 3) void b.close().then(resolve)
      return true
    })
    b.attach(machine, () => undefined)
  })
  say(a, a.path(b.address), ...Array.from({ length: 100 }, String))
  await closed
  await new Promise(setImmediate)
  assert.equal(handled, 3)
})

test('in bulk one drain answers many datagrams', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const machine = new TestMachine()
  const done = receives(b, machine, 200)
  const before = machine.timeoutPolls
  say(a, a.path(b.address), ...Array.from({ length: 200 }, String))
  await done
  assert.ok(machine.timeoutPolls - before < 100, `${machine.timeoutPolls - before} drains`)
})

test('a deadline is met once, not before its time, without a busy loop', async (t) => {
  const a = await bound(t)
  const machine = new TestMachine()
  const at = a.now() + 5_200
  machine.deadline = at
  a.attach(machine, () => undefined)
  while (machine.timeouts.length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  assert.equal(machine.timeouts.length, 1)
  assert.ok(machine.timeouts[0]! >= at)
  assert.ok(machine.timeoutPolls < 5, `${machine.timeoutPolls} drains`)
})

test('an earlier deadline replaces a later one', async (t) => {
  const a = await bound(t)
  const late = new TestMachine()
  late.deadline = a.now() + 3_600_000_000
  a.attach(late, () => undefined)
  const soon = new TestMachine()
  const attached = a.attach(soon, () => undefined)
  await new Promise(setImmediate)
  soon.deadline = a.now() + 500
  attached.wake()
  while (soon.timeouts.length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  assert.equal(late.timeouts.length, 0)
})

test('what a datagram makes due at once is done before the loop turns on', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const order: string[] = []
  const machine = new TestMachine(() => {
    machine.deadline = b.now()
    setImmediate(() => order.push('the loop turned'))
    return true
  })
  const done = new Promise<void>((resolve) => {
    machine.handleTimeout = () => {
      machine.deadline = undefined
      order.push('due')
      resolve()
    }
  })
  b.attach(machine, () => undefined)
  say(a, a.path(b.address), 'now')
  await done
  await new Promise(setImmediate)
  assert.deepEqual(order, ['due', 'the loop turned'])
})

test('after the process was held up, all that waits in the socket comes before what is due', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const machine = new TestMachine()
  const timeout = new Promise<number>((resolve) => {
    machine.handleTimeout = () => {
      machine.deadline = undefined
      resolve(machine.received.length)
    }
  })
  machine.deadline = b.now() + 20_000
  const done = receives(b, machine, 8)
  await new Promise(setImmediate)
  say(a, a.path(b.address), ...Array.from({ length: 8 }, String))
  // Sent by now, and not received: the loop has not turned.
  process.nextTick(() => {
    const until = b.now() + 60_000
    while (b.now() < until);
  })
  await done
  assert.equal(await timeout, 8)
})

test('a machine that throws loses the datagram and rests; the others go on', async (t) => {
  const a = await bound(t)
  const errors: string[] = []
  const b = await UdpEndpoint.bind({
    host: '127.0.0.1',
    port: 0,
    logger: { debug() {}, info() {}, warn() {}, error: (text) => errors.push(text) },
  })
  t.after(() => b.close())
  const broken = new TestMachine((text) => {
    if (text === 'bad') throw new TypeError('defect')
    return false
  })
  b.attach(broken, () => undefined)
  const healthy = new TestMachine()
  const done = receives(b, healthy, 2)
  say(a, a.path(b.address), 'good', 'bad', 'good')
  await done
  assert.equal(b.counters.faults, 1)
  assert.equal(errors.length, 1)
})

test('closing twice, attaching after it, sending after it', async (t) => {
  const a = await bound(t)
  const machine = new TestMachine()
  const attached = a.attach(machine, () => undefined)
  const [first, second] = [a.close(), a.close()]
  attached.wake()
  await Promise.all([first, second])
  assert.equal(a.closed, true)
  assert.throws(() => a.attach(machine, () => undefined), { code: 'ERR_NATWORK_SOCKET_CLOSED' })
  const again = await bound(t, '127.0.0.1', a.address.port)
  assert.equal(again.address.port, a.address.port)
})

test('bind says what is wrong and what to do', async (t) => {
  const a = await bound(t)
  const bind = (host: string, port: number) => UdpEndpoint.bind({ host, port })
  await assert.rejects(bind('127.0.0.1', a.address.port), {
    code: 'ERR_NATWORK_SOCKET_IN_USE',
    name: 'SystemError',
    message: new RegExp(`${a.address.port}.*in use.*another port`),
  })
  await assert.rejects(bind('192.0.2.1', 0), { code: 'ERR_NATWORK_SOCKET_NOT_AVAILABLE' })
  await assert.rejects(bind('localhost', 0), { code: 'ERR_NATWORK_SOCKET_ADDRESS', name: 'UsageError' })
  await assert.rejects(bind('127.0.0.1', 65536), { code: 'ERR_NATWORK_SOCKET_ADDRESS' })
  const denied = bindError(
    { address: '0.0.0.0', port: 53 },
    Object.assign(new Error('x'), { code: 'EACCES' }),
  )
  assert.equal(denied.code, 'ERR_NATWORK_SOCKET_PERMISSION')
})

test('the second socket of :: failing leaves nothing open', async (t) => {
  const four = await bound(t, '0.0.0.0')
  await assert.rejects(UdpEndpoint.bind({ host: '::', port: four.address.port }), {
    code: 'ERR_NATWORK_SOCKET_IN_USE',
  })
  const six = await bound(t, '::1', four.address.port)
  assert.equal(six.address.port, four.address.port)
})

test('an aborted bind throws the reason and frees the port', async (t) => {
  const reason = new Error('changed my mind')
  await assert.rejects(
    UdpEndpoint.bind({ host: '127.0.0.1', port: 0, signal: AbortSignal.abort(reason) }),
    reason,
  )
  const controller = new AbortController()
  const free = await bound(t)
  const { port } = free.address
  await free.close()
  const binding = UdpEndpoint.bind({ host: '127.0.0.1', port, signal: controller.signal })
  controller.abort(reason)
  await assert.rejects(binding, reason)
  await bound(t, '127.0.0.1', port)
})

test('a machine may build each datagram in the memory of the one before', async (t) => {
  const a = await bound(t)
  const b = await bound(t)
  const path = a.path(b.address)
  const memory = Buffer.alloc(5)
  let built = 0
  const builder = new TestMachine()
  builder.pollTransmit = () => {
    if (built === 300) return undefined
    memory.write(String(10_000 + built++))
    return { path, data: memory }
  }
  const machine = new TestMachine()
  const done = receives(b, machine, 300)
  a.attach(builder, () => undefined)
  await done
  assert.deepEqual(
    machine.received.map(({ text }) => text),
    Array.from({ length: 300 }, (_, i) => String(10_000 + i)),
  )
})

test('the receive buffer granted can be read', async (t) => {
  const a = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0, recvBufferSize: 65_536 })
  t.after(() => a.close())
  assert.equal(a.recvBufferSize, 65_536)
})

const run = promisify(execFile)
const fixture = (name: string): string[] => [
  '--import',
  'tsx',
  fileURLToPath(new URL(`fixtures/${name}`, import.meta.url)),
  defaultDriver,
]

test('a process that binds, exchanges and closes exits by itself', async () => {
  const { stdout } = await run(process.execPath, fixture('bind-and-close.ts'), { timeout: 60_000 })
  assert.equal(stdout, 'closed\n')
})

test('what a handler throws is an uncaught exception, and the drain goes on', async () => {
  const { stdout } = await run(process.execPath, fixture('throwing-handler.ts'), { timeout: 60_000 })
  assert.deepEqual(stdout.trim().split('\n'), [
    'handler got one',
    'uncaught: from the handler',
    'handler got two',
    'uncaught: from the handler',
  ])
})
