// Against libutp's own C code, by the utp-native package, which speaks IPv4 only.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { test, type TestContext } from 'node:test'
import utp, { type Utp } from 'utp-native'
import { bytes, hashOf, serve, sha256, until } from '../unit/utp-driver/pair.ts'
import { LossyForwarder } from './lossy-forwarder.ts'

const patience = { timeout: 120_000 }

interface Setting {
  /** Who connects. */
  readonly connects: 'natwork' | 'libutp'
  /** libutp's own buffers are tiny; `large` gives it 4 MiB. */
  readonly buffers: 'default' | 'large'
  readonly loss: number
}

/**
 * A connection between natwork and libutp, maybe through a forwarder that loses datagrams. Each end acts as soon as it
 * exists: libutp's initiator is known to the acceptor only when it has said something.
 */
async function between<A, B>(
  t: TestContext,
  setting: Setting,
  onOurs: (ours: Duplex) => Promise<A>,
  onTheirs: (theirs: Duplex) => Promise<B>,
): Promise<[ours: A, theirs: B]> {
  const theirSide = utp({ allowHalfOpen: true })
  t.after(() => {
    theirSide.close()
  })
  const address = { host: '127.0.0.1', port: 0 }
  if (setting.connects === 'libutp') {
    const incoming = deferred<Duplex>()
    const server = await serve(t, { onConnection: incoming.resolve })
    theirSide.bind(address.port, address.host)
    await once(theirSide, 'listening')
    tune(theirSide, setting)
    const port = await behind(t, server.address.port, setting)
    const theirs = theirSide.connect(port, address.host)
    await once(theirs, 'connect')
    return Promise.all([incoming.promise.then(onOurs), onTheirs(theirs)])
  }
  const incoming = deferred<Duplex>()
  theirSide.on('connection', incoming.resolve)
  theirSide.listen(address.port, address.host)
  await once(theirSide, 'listening')
  tune(theirSide, setting)
  const client = await serve(t)
  const port = await behind(t, theirSide.address().port, setting)
  const ours = await client.connect({ address: address.host, port })
  return Promise.all([onOurs(ours), incoming.promise.then(onTheirs)])
}

function tune(socket: Utp, { buffers }: Setting): void {
  if (buffers === 'default') return
  socket.setRecvBufferSize(4 << 20)
  socket.setSendBufferSize(4 << 20)
}

async function behind(t: TestContext, port: number, { loss }: Setting): Promise<number> {
  if (loss === 0) return port
  const forwarder = await LossyForwarder.open(port, loss, 20_261_122)
  t.after(() => {
    forwarder.close()
    assert.ok(forwarder.lost > 0)
  })
  return forwarder.port
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined
  const promise = new Promise<T>((accept) => {
    resolve = accept
  })
  return { promise, resolve: (value) => resolve(value) }
}

// How much libutp gets through at such loss in reasonable time: its sender falls to about 0.1 MB/s at 5 %.
const amounts = new Map([
  [0, { there: 5_000_000, back: 4_000_000 }],
  [0.01, { there: 3_000_000, back: 1_000_000 }],
  [0.05, { there: 1_500_000, back: 200_000 }],
])

for (const connects of ['natwork', 'libutp'] as const) {
  for (const buffers of ['default', 'large'] as const) {
    for (const [loss, { there, back }] of amounts) {
      const name = `${connects} connects, ${buffers} buffers, ${loss * 100} % loss`
      test(`${name}: bytes are exact both ways, both ends come`, patience, async (t) => {
        const [sent, answer] = [bytes(there), bytes(back).reverse()]
        const setting = { connects, buffers, loss }
        const say = (data: Uint8Array) => (stream: Duplex) => {
          stream.end(data)
          return sha256(stream)
        }
        const [atOurs, atTheirs] = await between(t, setting, say(sent), say(answer))
        assert.deepEqual(atTheirs, hashOf(sent))
        assert.deepEqual(atOurs, hashOf(answer))
      })
    }
  }

  const plain = { connects, buffers: 'large', loss: 0 } as const
  const data = bytes(1_000_000)

  /** Says its first byte, hears the other out, and only then says the rest and ends. */
  const listener = async (stream: Duplex): Promise<{ hash: string; length: number }> => {
    stream.write(data.subarray(0, 1))
    const heard = await sha256(stream)
    stream.end(data.subarray(1))
    return heard
  }
  /** Says its word and ends, then hears the other out. */
  const speaker = (stream: Duplex): Promise<{ hash: string; length: number }> => {
    stream.end('question')
    return sha256(stream)
  }

  test(`${connects} connects: libutp ends first, natwork goes on`, patience, async (t) => {
    const [ours, theirs] = await between(t, plain, listener, speaker)
    assert.deepEqual([ours, theirs], [hashOf(Buffer.from('question')), hashOf(data)])
  })

  test(`${connects} connects: natwork ends first, libutp goes on`, patience, async (t) => {
    const [ours, theirs] = await between(t, plain, speaker, listener)
    assert.deepEqual([ours, theirs], [hashOf(data), hashOf(Buffer.from('question'))])
  })

  test(`${connects} connects: natwork's destroy is an error at libutp`, patience, async (t) => {
    const destroyer = async (ours: Duplex): Promise<void> => {
      ours.write('hello')
      await once(ours, 'data')
      ours.destroy()
    }
    const victim = async (theirs: Duplex): Promise<string> => {
      theirs.write('hello')
      theirs.resume()
      const [error] = (await once(theirs, 'error')) as [{ code: string }]
      return error.code
    }
    const [, code] = await between(t, plain, destroyer, victim)
    assert.equal(code, 'UTP_ECONNRESET')
  })
}

test('200 connections of libutp at once', patience, async (t) => {
  const server = await serve(t, { onConnection: (stream) => void stream.pipe(stream) })
  const theirSide = utp({ allowHalfOpen: true })
  theirSide.bind(0, '127.0.0.1')
  await once(theirSide, 'listening')
  tune(theirSide, { connects: 'libutp', buffers: 'large', loss: 0 })
  t.after(() => {
    theirSide.close()
  })
  const data = bytes(20_000)
  const echoes = Array.from({ length: 200 }, async () => {
    const theirs = theirSide.connect(server.address.port, '127.0.0.1')
    theirs.end(data)
    return sha256(theirs)
  })
  for (const echo of await Promise.all(echoes)) assert.deepEqual(echo, hashOf(data))
  await until(() => server.connections.size === 0)
})

test('a server without a handler refuses libutp', patience, async (t) => {
  const server = await serve(t)
  const theirSide = utp()
  theirSide.bind(0, '127.0.0.1')
  await once(theirSide, 'listening')
  t.after(() => {
    theirSide.close()
  })
  const theirs = theirSide.connect(server.address.port, '127.0.0.1')
  const [error] = (await once(theirs, 'error')) as [{ code: string }]
  // libutp looks at its state only after it has changed it: it has no other word for a refusal.
  assert.equal(error.code, 'UTP_ECONNRESET')
})
