import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { resetSocket } from '../../../src/network/reset.ts'
import { listen } from './nodes.ts'

/** A connection; how its far end is told that it is over. */
async function connection(t: TestContext): Promise<{ socket: Socket; over: Promise<string> }> {
  let told: (how: string) => void
  const over = new Promise<string>((resolve) => (told = resolve))
  const { port } = await listen(t, (far) => {
    let bytes = 0
    far.on('data', (chunk) => (bytes += chunk.length))
    far.on('end', () => told(`end after ${bytes}`)).on('error', ({ message }) => told(message))
  })
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  await once(socket, 'connect')
  return { socket, over }
}

test('a reset is told as one, and the socket closes', async (t) => {
  const { socket, over } = await connection(t)
  resetSocket(socket)
  await once(socket, 'close')
  assert.equal(await over, 'read ECONNRESET')
})

test('a reset while the end is being sent closes the socket', async (t) => {
  const { socket, over } = await connection(t)
  socket.end('bye')
  await Promise.resolve()
  assert.deepEqual([socket.writableLength, socket.writableFinished], [0, false])
  const closed = once(socket, 'close')
  resetSocket(socket)
  await closed
  assert.equal(await over, 'end after 3')
})

test('a reset before everything is written closes the socket at once', async (t) => {
  const { socket, over } = await connection(t)
  socket.end(Buffer.alloc(64 * 1024 * 1024))
  assert.ok(socket.writableLength > 0)
  const closed = once(socket, 'close')
  resetSocket(socket)
  await closed
  assert.notEqual(await over, `end after ${64 * 1024 * 1024}`)
})

test('a reset after the end was sent closes the socket', async (t) => {
  const { socket, over } = await connection(t)
  socket.end()
  await once(socket, 'finish')
  const closed = once(socket, 'close')
  resetSocket(socket)
  await closed
  assert.match(await over, /end after 0|ECONNRESET/)
})
