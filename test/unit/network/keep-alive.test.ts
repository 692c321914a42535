// 4 s. For how long a control stream may be silent, found out beside what the NAT in between remembers.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControlChannel } from '../../../src/network/control.ts'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import { KeepAlive, LEAST_SILENCE } from '../../../src/network/keep-alive.ts'
import { duplexPair } from './duplex-pair.ts'

/** The silences of so many rounds beside a NAT that remembers a flow for `lifetime` ms. */
function play(keepAlive: KeepAlive, lifetime: number, rounds: number): number[] {
  return Array.from({ length: rounds }, () => {
    const { silence } = keepAlive
    if (silence < lifetime) keepAlive.passed()
    else keepAlive.missed()
    return silence
  })
}

test('where the NAT remembers for long, five answers are enough', () => {
  const silences = play(new KeepAlive(15_000), 30_000, 7)
  assert.deepEqual(silences, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000])
})

test('where it forgets sooner, the silence stays below, and longer ones are tried ever more rarely', () => {
  for (const lifetime of [600, 1_500, 5_000, 10_000]) {
    const silences = play(new KeepAlive(15_000), lifetime, 5_000)
    const misses = silences.flatMap((silence, at) => (silence >= lifetime ? [at] : []))
    assert.ok(misses.length >= 5 && misses.length <= 16, `${lifetime}: ${misses.length} misses`)
    const apart = misses.slice(1).map((at, i) => at - (misses[i] ?? 0))
    assert.deepEqual(
      apart,
      apart.toSorted((a, b) => a - b),
    )
    assert.ok(silences.every((silence) => silence < 2 * lifetime))
  }
})

test('a burst of loss is made good, and nothing makes it ask more often than it may', () => {
  const keepAlive = new KeepAlive(15_000)
  for (let i = 0; i < 100; i++) keepAlive.missed()
  assert.equal(keepAlive.silence, LEAST_SILENCE)
  const rounds = play(keepAlive, Infinity, 1_000).findIndex((silence) => silence === 15_000)
  assert.ok(rounds > 0, 'it never came back')
  assert.equal(new KeepAlive(100).silence, 100)
})

test('a node behind a NAT that forgets soon asks its helper sooner, and stays', async (t) => {
  const [mine, theirs] = duplexPair()
  const asked: (number | undefined)[] = []
  let enough = (): void => undefined
  const rounds = new Promise<void>((resolve) => (enough = resolve))
  // The NAT: it forgets within 700 ms, and what comes then waits, as uTP's retransmissions would, for the node to speak again.
  let open = true
  const held: Buffer[] = []
  const push = mine.push.bind(mine)
  mine.push = (chunk: Buffer | null) => {
    if (open || chunk === null) return push(chunk)
    held.push(chunk)
    return true
  }
  const write = mine._write.bind(mine)
  mine._write = (chunk: Buffer, encoding, done) => {
    const { question } = JSON.parse(chunk.subarray(2).toString()) as { question: { after?: number } }
    asked.push(question.after)
    open = true
    for (const one of held.splice(0)) push(one)
    open = question.after === undefined || question.after < 700
    if (asked.length === 5) enough()
    write(chunk, encoding, done)
  }
  const node = await createIdentity(generatePrivateKey())
  const helper = await createIdentity(generatePrivateKey())
  const handler = (): Promise<object> => Promise.resolve({})
  const atHelper = new ControlChannel(theirs, node.id, { handler, idle: 60_000 })
  const channel = new ControlChannel(mine, helper.id, { handler, idle: 60_000, keepAlive: 15_000 })
  t.after(() => {
    channel.close(new Error('the test is over'))
    atHelper.close(new Error('the test is over'))
  })
  await Promise.race([rounds, channel.closed])
  assert.deepEqual(asked, [500, 1_000, undefined, 500, 500])
  assert.ok(channel.alive)
})

test('a helper that answers at once what it should put off is not asked more often', async (t) => {
  const [mine, theirs] = duplexPair()
  theirs.on('error', () => undefined)
  let frames = 0
  theirs.on('data', (chunk: Buffer) => {
    frames++
    const { ask } = JSON.parse(chunk.subarray(2).toString()) as { ask: number }
    const answer = Buffer.from(JSON.stringify({ answer: ask }))
    theirs.write(Buffer.concat([Buffer.from([0, answer.length]), answer]))
  })
  const handler = (): Promise<object> => Promise.resolve({})
  const channel = new ControlChannel(mine, (await createIdentity(generatePrivateKey())).id, {
    handler,
    idle: 60_000,
    keepAlive: 15_000,
  })
  t.after(() => channel.close(new Error('the test is over')))
  // As many questions as fit between: the answers come within microseconds.
  for (let i = 0; i < 1_000; i++) await channel.ask({ type: 'ping' })
  assert.ok(frames - 1_000 <= 3, `${frames - 1_000} questions of its own beside 1,000 of ours`)
})
