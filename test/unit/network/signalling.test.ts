// 2 s. Seals, replays, rates and the exchange of a helper, over streams in memory.
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import {
  ControlChannel,
  type ControlAnswer,
  type ControlHandler,
  type ControlQuestion,
} from '../../../src/network/control.ts'
import type { ControlPool } from '../../../src/network/control-pool.ts'
import { createIdentity, generatePrivateKey, type Identity } from '../../../src/network/identity.ts'
import { signNodeInfo } from '../../../src/network/node-info.ts'
import { RefusedError } from '../../../src/network/refusal.ts'
import { Exchange, type ExchangeOptions } from '../../../src/network/signalling/exchange.ts'
import { RateLimiter } from '../../../src/network/signalling/rate-limiter.ts'
import { clockTolerance, ReplayWindow } from '../../../src/network/signalling/replay-window.ts'
import { openSignal, sealSignal } from '../../../src/network/signalling/seal.ts'
import { Signaller, type Signal } from '../../../src/network/signalling/signaller.ts'
import { duplexPair } from './duplex-pair.ts'

const make = (): Promise<Identity> => createIdentity(generatePrivateKey())
const [alice, bob, carol, helen, hugo] = (await Promise.all(Array.from({ length: 5 }, make))) as [
  Identity,
  Identity,
  Identity,
  Identity,
  Identity,
]
const targetOf = (identity: Identity) => ({ id: identity.id, sealKey: identity.sealKey.publicKey })
const recordOf = (identity: Identity) =>
  signNodeInfo(identity, { addresses: [], sequence: 1, expires: 2_000_000_000 })
const messageSchema = z.string().max(20_000)

test('a sealed signal opens for its receiver alone, and says who sealed it and when', () => {
  const sealed = sealSignal(alice, targetOf(bob), 'where are you?', 1_700_000_000_123)
  const opened = openSignal(bob, sealed)
  assert.equal(opened?.text, 'where are you?')
  assert.equal(opened.from, alice.id)
  assert.equal(opened.sentAt, 1_700_000_000_123)
  assert.equal(openSignal(carol, sealed), undefined)
  assert.equal(openSignal(alice, sealed), undefined)
  assert.ok(!sealed.includes('where are you?'))
  assert.ok(!sealed.includes(alice.publicKey.subarray(12)), 'the sender is visible from outside')
  const again = openSignal(bob, sealSignal(alice, targetOf(bob), 'where are you?', 1_700_000_000_123))
  assert.notEqual(opened.nonce, again?.nonce)
})

test('a sealed signal with any byte changed, cut or added does not open, nor do random bytes', () => {
  const sealed = sealSignal(alice, targetOf(bob), 'text', 1)
  fc.assert(
    fc.property(fc.nat(sealed.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const altered = Buffer.from(sealed)
      altered[at]! ^= flip
      // X25519 ignores the top bit of a key (RFC 7748 §5): it is bound by the key derivation all the same.
      assert.equal(openSignal(bob, altered), undefined)
      assert.equal(openSignal(bob, sealed.subarray(0, at)), undefined)
    }),
    { numRuns: 300 },
  )
  assert.equal(openSignal(bob, Buffer.concat([sealed, Buffer.of(0)])), undefined)
  // Keys of small order: the shared secret would be known to all (RFC 7748 §6.1).
  assert.equal(openSignal(bob, Buffer.concat([Buffer.alloc(32), sealed.subarray(32)])), undefined)
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => openSignal(bob, bytes) === undefined))
})

test('a receiver cannot pass a signal on as if it were meant for somebody else', () => {
  // Bob knows what Alice signed; sealed anew for Carol the signature does not fit.
  const opened = openSignal(bob, sealSignal(alice, targetOf(bob), 'to bob', 1))!
  const resealed = sealSignal(bob, targetOf(carol), opened.text, 1)
  assert.equal(openSignal(carol, resealed)?.from, bob.id)
})

test('the replay window lets each nonce in once, in any order, while it is fresh', () => {
  const window = new ReplayWindow()
  const now = 1_000_000_000
  assert.equal(window.admit('a', now, now), 'fresh')
  assert.equal(window.admit('b', now - 60_000, now), 'fresh')
  assert.equal(window.admit('a', now, now), 'replayed')
  assert.equal(window.admit('b', now - 60_000, now + 1), 'replayed')
  assert.equal(window.admit('c', now - clockTolerance - 1, now), 'clock')
  assert.equal(window.admit('c', now + clockTolerance + 1, now), 'clock')
  assert.equal(window.admit('a', now, now + clockTolerance + 1), 'clock')
})

test('a full replay window forgets nothing that it would let in again', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          nonce: fc.nat(60),
          step: fc.nat(20_000),
          skew: fc.integer({ min: -400_000, max: 400_000 }),
        }),
        {
          maxLength: 200,
        },
      ),
      (signals) => {
        const window = new ReplayWindow(8)
        const seen = new Map<number, number>()
        let now = 1_000_000_000
        for (const { nonce, step, skew } of signals) {
          now += step
          const sentAt = seen.get(nonce) ?? now + skew
          if (window.admit(String(nonce), sentAt, now) !== 'fresh') continue
          assert.ok(!seen.has(nonce), 'one signal was let in twice')
          seen.set(nonce, sentAt)
        }
      },
    ),
  )
})

test('the rate limiter bounds each key and all together, and its memory', () => {
  const limiter = new RateLimiter({ rate: 1, burst: 3 }, { rate: 100, burst: 50 }, 10)
  let taken = 0
  for (let i = 0; i < 10; i++) if (limiter.take('one', 0)) taken++
  assert.equal(taken, 3)
  assert.equal(limiter.take('one', 1_000), true)
  assert.equal(limiter.take('one', 1_000), false)
  taken = 0
  for (let i = 0; i < 1_000; i++) if (limiter.take(`key ${i}`, 1_000)) taken++
  assert.ok(taken <= 100, `${taken} keys got through a total of 50`)
})

test('a helper hands signals to the node that hangs on it, and has a typed no for others', async (t) => {
  const { exchange, join } = helperOf(t)
  const got = join(bob)
  const a = join(alice)
  await got.channel.ask({ type: 'attach', info: recordOf(bob) })
  assert.equal(exchange.size, 1)
  await a.channel.ask({ type: 'signal', to: bob.id, body: 'AAAA' })
  assert.deepEqual(await got.next(), { type: 'deliver', body: 'AAAA' })
  await assert.rejects(
    a.channel.ask({ type: 'signal', to: carol.id, body: 'AAAA' }),
    (error: RefusedError) => error instanceof RefusedError && error.code === 'ERR_NATWORK_NOT_ATTACHED',
  )
  got.channel.close()
  await got.channel.closed
  while (exchange.find(bob.id) !== undefined) await new Promise(setImmediate)
  await assert.rejects(a.channel.ask({ type: 'signal', to: bob.id, body: 'AAAA' }), {
    code: 'ERR_NATWORK_NOT_ATTACHED',
  })
})

test('nobody attaches as another node', async (t) => {
  const { exchange, join } = helperOf(t)
  const mallory = join(carol)
  await assert.rejects(mallory.channel.ask({ type: 'attach', info: recordOf(bob) }))
  assert.equal(exchange.size, 0)
  assert.equal(mallory.channel.alive, false)
})

test('helpers forward through one more helper, no further, and the answer finds its way back', async (t) => {
  const near = helperOf(t, helen)
  const far = helperOf(t, hugo)
  const [nearEnd, farEnd] = duplexPair()
  const toFar = new ControlChannel(nearEnd, hugo.id, { handler: near.handler, idle: 60_000 })
  const toNear = new ControlChannel(farEnd, helen.id, { handler: far.handler, idle: 60_000 })
  t.after(() => {
    toFar.close()
    toNear.close()
  })
  near.neighbours.push(toFar)
  const a = near.join(alice)
  const b = far.join(bob)
  await a.channel.ask({ type: 'attach', info: recordOf(alice) })
  await b.channel.ask({ type: 'attach', info: recordOf(bob) })
  await a.channel.ask({ type: 'signal', to: bob.id, body: 'AAAA' })
  assert.deepEqual(await b.next(), { type: 'deliver', body: 'AAAA' })
  // `far` knows no helper by itself: it has learned where Alice is.
  await b.channel.ask({ type: 'signal', to: alice.id, body: 'BBBB' })
  assert.deepEqual(await a.next(), { type: 'deliver', body: 'BBBB' })
  // In circles it does not go.
  far.neighbours.push(toNear)
  await assert.rejects(a.channel.ask({ type: 'signal', to: carol.id, body: 'AAAA' }), {
    code: 'ERR_NATWORK_NOT_ATTACHED',
  })
})

test('a flood of offers: sender and target are held to their rates, with a typed no', async (t) => {
  const clock = { now: 0 }
  const { join, exchange } = helperOf(t, helen, {
    now: () => clock.now,
    limits: { perSender: { rate: 20, burst: 40 }, perTarget: { rate: 20, burst: 60 } },
  })
  const b = join(bob)
  await b.channel.ask({ type: 'attach', info: recordOf(bob) })
  const channels = [join(alice), join(carol), join(hugo)].map(({ atHelper }) => atHelper)
  let passed = 0
  let refused = 0
  for (let i = 0; i < 200_000; i++) {
    // As the helper does for each question, without the streams that would only slow it down.
    const channel = channels[i % 3]!
    try {
      exchange.admit(channel.peer, bob.id)
      passed++
    } catch (error) {
      assert.equal((error as RefusedError).code, 'ERR_NATWORK_BUSY')
      refused++
    }
  }
  assert.equal(passed, 60)
  assert.equal(passed + refused, 200_000)
  clock.now = 1_000
  exchange.admit(alice.id, bob.id)
})

test('a signaller takes each signal once, whoever repeats, reorders or forges it', () => {
  const got: Signal<string>[] = []
  const dropped: string[] = []
  const clock = { now: 1_700_000_000_000 }
  const signaller = new Signaller({
    identity: bob,
    pool: noPool,
    helpers: () => [],
    schema: messageSchema,
    onSignal: (signal) => got.push(signal),
    onDropped: (why) => dropped.push(why),
    now: () => clock.now,
  })
  const [end, other] = duplexPair()
  other.on('error', () => undefined)
  const channel = new ControlChannel(end, helen.id, {
    handler: () => Promise.resolve({}),
    idle: 60_000,
  })
  const take = (bytes: Buffer): void => signaller.receive(bytes.toString('base64'), channel)
  const seal = (text: string, at = clock.now): Buffer =>
    sealSignal(alice, targetOf(bob), JSON.stringify(text), at)
  const [one, two] = [seal('one'), seal('two')]
  take(two)
  take(one)
  take(two)
  take(one)
  assert.deepEqual(
    got.map(({ message, from }) => [message, from]),
    [
      ['two', alice.id],
      ['one', alice.id],
    ],
  )
  assert.equal(dropped.filter((why) => why.startsWith('replayed')).length, 2)
  take(seal('old', clock.now - clockTolerance - 1))
  assert.match(dropped.at(-1)!, /clock/)
  take(Buffer.from('not sealed at all'))
  take(sealSignal(alice, targetOf(carol), '"for another"', clock.now))
  assert.match(dropped.at(-1)!, /not sealed for this node/)
  take(sealSignal(alice, targetOf(bob), '{"not":"a string"}', clock.now))
  assert.match(dropped.at(-1)!, /not understood/)
  take(sealSignal(alice, targetOf(bob), 'no json', clock.now))
  clock.now += 60_000
  assert.equal(got.length, 2)
  // A flood by one sender leaves room for the next one.
  for (let i = 0; i < 150; i++) take(seal(`flood ${i}`))
  const flooded = got.filter(({ message }) => message.startsWith('flood'))
  assert.ok(flooded.length < 100, `${flooded.length} of a flood were let in`)
  take(sealSignal(carol, targetOf(bob), '"me too"', clock.now))
  assert.equal(got.at(-1)?.message, 'me too')
  channel.close()
})

test('a helper that takes signals and drops them is not relied on', async (t) => {
  const liar = helperOf(t, helen)
  const honest = helperOf(t, hugo)
  // The liar says yes to everything.
  const [end, liarEnd] = duplexPair()
  const yes: ControlHandler = () => Promise.resolve({})
  const toLiar = new ControlChannel(end, helen.id, { handler: yes, idle: 60_000 })
  const atLiar = new ControlChannel(liarEnd, alice.id, { handler: yes, idle: 60_000 })
  const toHonest = honest.join(alice).channel
  t.after(() => {
    toLiar.close(new Error('the test is over'))
    atLiar.close(new Error('the test is over'))
  })
  const b = honest.join(bob)
  await b.channel.ask({ type: 'attach', info: recordOf(bob) })
  const open = new Map([
    [helen.id, toLiar],
    [hugo.id, toHonest],
  ])
  const signaller = new Signaller({
    identity: alice,
    pool: { get: (id: typeof helen.id) => ({ channel: open.get(id) }) } as unknown as ControlPool,
    helpers: () => [toLiar, toHonest],
    schema: messageSchema,
    onSignal: () => undefined,
  })
  const at = { address: '192.0.2.1', port: 1315 }
  const target = {
    ...targetOf(bob),
    helpers: [
      { id: helen.id, address: at },
      { id: hugo.id, address: at },
    ],
  }
  const first = await signaller.send(target, 'hello')
  assert.equal(first, toLiar)
  assert.equal(liar.exchange.size, 0)
  // Nothing came back: the next one goes another way.
  const second = await signaller.send(target, 'hello', { avoid: new Set([first]) })
  assert.equal(second, toHonest)
  const delivered = await b.next()
  assert.equal(delivered.type, 'deliver')
  assert.ok('body' in delivered)
  assert.equal(openSignal(bob, Buffer.from(delivered.body, 'base64'))?.text, '"hello"')
})

test('a control stream that does not answer is closed; questions beyond its bound are refused', async (t) => {
  const [mine, theirs] = duplexPair()
  theirs.on('error', () => undefined) // It reads nothing.
  const channel = new ControlChannel(mine, bob.id, { handler: () => Promise.resolve({}), idle: 60_000 })
  t.after(() => channel.close())
  const waiting = Array.from({ length: 256 }, () => channel.ask({ type: 'ping' }, { timeout: 60_000 }))
  const failures = waiting.map((one) => assert.rejects(one))
  await assert.rejects(channel.ask({ type: 'ping' }), { code: 'ERR_NATWORK_BUSY' })
  channel.close(new Error('enough'))
  await Promise.all(failures)
  assert.equal((await channel.closed)?.message, 'enough')
})

const noPool = { get: () => undefined } as unknown as ControlPool

interface Joined {
  readonly channel: ControlChannel
  readonly atHelper: ControlChannel
  /** What the helper asks the node. */
  next(): Promise<ControlQuestion>
}

function helperOf(t: TestContext, helper = helen, options: Partial<ExchangeOptions> = {}) {
  const neighbours: ControlChannel[] = []
  const exchange = new Exchange({ neighbours: () => neighbours, ...options })
  const handler: ControlHandler = async (question, channel): Promise<ControlAnswer> => {
    if (question.type === 'attach') exchange.attach(channel, question.info as ReturnType<typeof recordOf>)
    if (question.type === 'signal') {
      await exchange.forward(channel, question.to, question.body, question.for)
    }
    return {}
  }
  const join = (node: Identity): Joined => {
    const [end, helperEnd] = duplexPair()
    const heard: ControlQuestion[] = []
    let wake = (): void => undefined
    const atHelper = new ControlChannel(helperEnd, node.id, { handler, idle: 60_000 })
    const channel = new ControlChannel(end, helper.id, {
      idle: 60_000,
      handler: (question) => {
        heard.push(question)
        wake()
        return Promise.resolve({})
      },
    })
    t.after(() => {
      channel.close(new Error('the test is over'))
      atHelper.close(new Error('the test is over'))
    })
    return {
      channel,
      atHelper,
      async next() {
        while (heard.length === 0) await new Promise<void>((resolve) => (wake = resolve))
        return heard.shift()!
      },
    }
  }
  return { exchange, handler, neighbours, join }
}

test('a signal counts as taken when the node has it: a stream that is dead is closed, and the sender hears of it', async () => {
  const sender = (await createIdentity(generatePrivateKey())).id
  const target = await createIdentity(generatePrivateKey())
  const record = signNodeInfo(target, { addresses: [], sequence: 1, expires: 0 })
  const exchange = new Exchange({ neighbours: () => [] })
  let closed = 0
  const dead = {
    peer: target.id,
    closed: new Promise(() => undefined),
    ask: () => Promise.reject(new Error('no answer')),
    close: () => closed++,
  } as unknown as ControlChannel
  exchange.attach(dead, record)
  await assert.rejects(exchange.forward({ peer: sender } as unknown as ControlChannel, target.id, 'AAAA'), {
    code: 'ERR_NATWORK_NOT_ATTACHED',
  })
  assert.equal(closed, 1)
})
