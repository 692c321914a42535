import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { splice } from '../../../src/network/splice.ts'
import { duplexPair, readAll } from './duplex-pair.ts'
import { listen } from './nodes.ts'

const MiB = 1_048_576

/** Reads in jerks: a turn of the loop after each chunk. */
async function hashSlowly(stream: Duplex): Promise<string> {
  const hash = createHash('sha256')
  stream.on('data', (chunk: Buffer) => {
    hash.update(chunk)
    stream.pause()
    setImmediate(() => stream.resume())
  })
  await once(stream, 'end')
  return hash.digest('hex')
}

/** A program on TCP, spliced to a stream of which `far` is the other end. */
async function joined(
  t: TestContext,
): Promise<{ program: Socket; far: Duplex; over: Promise<Error | undefined> }> {
  const [near, far] = duplexPair()
  const { port, server } = await listen(t, () => undefined)
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const program = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const [local] = await accepted
  return { program, far, over: splice(local, near) }
}

test('bytes arrive as they were, both ways, also when both readers are slow', async (t) => {
  const { program, far, over } = await joined(t)
  const [up, down] = [randomBytes(5 * MiB + 17), randomBytes(3 * MiB + 5)]
  const heard = Promise.all([hashSlowly(far), hashSlowly(program)])
  program.end(up)
  far.end(down)
  assert.deepEqual(
    await heard,
    [up, down].map((bytes) => createHash('sha256').update(bytes).digest('hex')),
  )
  assert.equal(await over, undefined)
})

test('a program that had ended before it was spliced ends at the other side, too', async () => {
  const [program, local] = duplexPair()
  program.end()
  await once(local.resume(), 'end')
  const [near, far] = duplexPair()
  const over = splice(local, near)
  assert.equal((await readAll(far)).toString(), '')
  far.end('answer')
  assert.equal((await readAll(program)).toString(), 'answer')
  assert.equal(await over, undefined)
})

test('a program that does not read stops the stream after a bounded number of bytes', async (t) => {
  const { program, far, over } = await joined(t)
  program.pause()
  const chunk = randomBytes(65_536)
  let taken = 0
  // Until the kernel's buffers and ours are full: no callback comes any more.
  for (let quiet = 0; quiet < 50;) {
    const before = taken
    if (!far.writableNeedDrain) far.write(chunk, () => (taken += chunk.length))
    await new Promise((resolve) => setImmediate(resolve))
    quiet = taken === before ? quiet + 1 : 0
  }
  assert.ok(taken < 32 * MiB, `${taken} bytes were taken`)
  far.end()
  program.end()
  far.resume()
  const got = await readAll(program)
  assert.ok(got.length >= taken)
  assert.equal(await over, undefined)
})

test('buffers of a local stream that is no socket stay untouched', async () => {
  const [near, far] = duplexPair()
  const [local, program] = duplexPair()
  const over = splice(local, near)
  const seen: Buffer[] = []
  near.on('data', (chunk: Buffer) => seen.push(chunk))
  local.on('data', (chunk: Buffer) => seen.push(chunk))
  program.end(randomBytes(100_000))
  far.end(randomBytes(100_000))
  await Promise.all([readAll(far), readAll(program)])
  assert.equal(await over, undefined)
  assert.equal(
    seen.reduce((sum, { length }) => sum + length, 0),
    200_000,
  )
})
