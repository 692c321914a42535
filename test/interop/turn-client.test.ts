import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createSocket } from 'node:dgram'
import test, { after, before, describe } from 'node:test'
import { LongTermAuth } from '../../src/stun/index.ts'
import { openRelayOverUdp } from '../../src/turn/index.ts'
import { UtpServer } from '../../src/utp/index.ts'
import { coturn, freePorts, missing, stop } from './stun-peers.ts'

// Our TURN client against Debian's coturn, on loopback.

const skip = missing('turnserver')
const credentials = (): LongTermAuth => new LongTermAuth('user', 'secret')
const args = ['--lt-cred-mech', '-u', 'user:secret', '-r', 'relay.test', '--allow-loopback-peers', '-m', '1']

/** coturn on 127.0.0.1 and this port, once it answers. */
async function started(port: number, more: readonly string[] = []): Promise<ChildProcess> {
  const server = coturn(['-L', '127.0.0.1', '-E', '127.0.0.1', '-p', `${port}`, ...args, ...more])
  const socket = createSocket('udp4')
  const binding = Buffer.from('000100002112a442000000000000000000000000', 'hex')
  const asking = setInterval(() => socket.send(binding, port, '127.0.0.1'), 20)
  await new Promise((resolve) => socket.once('message', resolve))
  clearInterval(asking)
  socket.close()
  return server
}

describe('over UDP', { skip }, () => {
  let port = 0
  let server: ChildProcess
  before(async () => {
    port = await freePorts()
    server = await started(port, ['--no-tls', '--no-dtls'])
  })
  after(() => stop(server))

  test('uTP runs over a relayed path, first by Send indications, then by a channel', async () => {
    const near = new UtpServer({ host: '127.0.0.1', port: 0 })
    const far = new UtpServer({ host: '127.0.0.1', port: 0, onConnection: (stream) => stream.pipe(stream) })
    await Promise.all([near.start(), far.start()])
    try {
      const relay = await openRelayOverUdp(
        near.endpoint,
        { address: '127.0.0.1', port },
        { auth: credentials() },
      )
      const stream = await near.connect(relay.path(far.address))
      const sent = 2_000_000
      let got = 0
      stream.end(Buffer.alloc(sent, 7))
      for await (const chunk of stream) got += (chunk as Buffer).length
      assert.equal(got, sent)
      await relay.close()
    } finally {
      await Promise.all([near.stop(), far.stop()])
    }
  })

  test('a peer gets through once permitted, and is seen at its own address', async () => {
    const near = new UtpServer({ host: '127.0.0.1', port: 0, onConnection: (stream) => stream.end('hello') })
    const far = new UtpServer({ host: '127.0.0.1', port: 0 })
    await Promise.all([near.start(), far.start()])
    try {
      const relay = await openRelayOverUdp(
        near.endpoint,
        { address: '127.0.0.1', port },
        { auth: credentials() },
      )
      relay.permit(['127.0.0.1'])
      const stream = await far.connect(relay.relayed)
      stream.end()
      let text = ''
      for await (const chunk of stream) text += String(chunk)
      assert.equal(text, 'hello')
      await relay.close()
    } finally {
      await Promise.all([near.stop(), far.stop()])
    }
  })
})
