// Much at once. `NATWORK_TEST_FULL=1 npm test -- test/e2e/bulk.test.ts` runs what the README promises (1 GiB; 200 pipes of
// 10 MiB each way); without it a part of that, so that the whole suite stays short.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { test } from 'node:test'
import { Home, runJson, startForward, startNode } from './natwork.ts'
import { listen } from './servers.ts'

const MiB = 1_048_576
const full = process.env['NATWORK_TEST_FULL'] === '1'
const pipes = { count: 200, bytes: (full ? 10 : 1 / 8) * MiB }
const file = { bytes: (full ? 1_024 : 64) * MiB }

/** Bytes that compress and repeat nowhere, without the cost of making each. */
const noise = randomBytes(MiB)
function* chunks(total: number, seed: number) {
  for (let left = total, n = seed; left > 0; left -= MiB, n++) {
    const chunk = Buffer.from(noise.subarray(0, Math.min(left, MiB)))
    chunk.writeUInt32BE(n, 0)
    yield chunk
  }
}

async function send(to: Writable, total: number, seed: number): Promise<string> {
  const hash = createHash('sha256')
  const counted = function* () {
    for (const chunk of chunks(total, seed)) {
      hash.update(chunk)
      yield chunk
    }
  }
  await pipeline(Readable.from(counted()), to)
  return hash.digest('hex')
}

async function hashOf(socket: Socket): Promise<string> {
  const hash = createHash('sha256')
  // A socket that was read to its end by the plain iterator is destroyed: its other half is still wanted.
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

test(`a file of ${file.bytes / MiB} MiB arrives as it was, through a forward`, async (t) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    hashOf(socket).then(
      (digest) => socket.end(digest),
      () => undefined,
    )
  })
  const node = await startNode(t, new Home(t), ['--expose', `sink=127.0.0.1:${await listen(t, server)}`])
  const forward = await startForward(t, new Home(t), node.ticket)
  const client = connect({ port: forward.port, host: '127.0.0.1', allowHalfOpen: true })
  const answer = hashAnswer(client)
  const started = performance.now()
  const sent = await send(client, file.bytes, 0)
  assert.equal(await answer, sent)
  t.diagnostic(`${(file.bytes / MiB / ((performance.now() - started) / 1_000)).toFixed(0)} MiB/s`)
})

test(`${pipes.count} pipes at once, ${pipes.bytes / 1_024} KiB each way in every one`, async (t) => {
  const echo = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined).pipe(socket)
  })
  const home = new Home(t)
  const node = await startNode(t, home, ['--expose', `echo=127.0.0.1:${await listen(t, echo)}`])
  const forward = await startForward(t, new Home(t), node.ticket)
  const started = performance.now()
  const clients = await Promise.all(
    Array.from({ length: pipes.count }, async () => {
      const client = connect({ port: forward.port, host: '127.0.0.1', allowHalfOpen: true })
      await once(client, 'connect')
      // The echo of one byte: now the whole pipe is open.
      client.write('!')
      await once(client, 'readable')
      assert.equal((client.read(1) as Buffer).toString(), '!')
      return client
    }),
  )
  const { pipes: open } = await runJson<{ pipes: unknown[] }>(t, home, ['status'])
  assert.equal(open.length, pipes.count)
  await Promise.all(
    clients.map(async (client, n) => {
      const [back, sent] = await Promise.all([hashOf(client), send(client, pipes.bytes, n * 1_000)])
      assert.equal(back, sent)
    }),
  )
  const seconds = (performance.now() - started) / 1_000
  t.diagnostic(
    `${((2 * pipes.count * pipes.bytes) / MiB / seconds).toFixed(0)} MiB/s in ${seconds.toFixed(1)} s`,
  )
  assert.equal(await node.stop(), 0)
})

async function hashAnswer(socket: Socket): Promise<string> {
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}
