// 2 s. ICMP errors on the native driver, by closed ports of the loopback interface: there they come back at once.
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { formatAddress, type SocketAddress } from '../../../src/core/address.ts'
import { openNative, type NativeDriver } from '../../../src/socket/native.ts'

/** A driver, and all that it tells. */
class Port {
  readonly driver: NativeDriver
  readonly icmp: string[] = []
  readonly got: string[] = []
  readonly sendErrors: string[] = []

  /** @param hears of ICMP errors. */
  constructor(t: TestContext, driver: NativeDriver, hears = true) {
    this.driver = driver
    t.after(() => driver.close())
    driver.start({
      onDatagram: (_path, bytes) => this.got.push(Buffer.from(bytes).toString()),
      onBatchEnd: () => undefined,
      onWritable: () => undefined,
      onSendError: (_transmit, error) => this.sendErrors.push(error.message),
      onReceiveError: () => undefined,
      ...(hears && {
        onIcmpError: (to: SocketAddress, type: number, code: number, mtu: number) =>
          this.icmp.push(`${formatAddress(to)}: ${type}/${code} ${mtu}`),
      }),
    })
  }

  static async at(t: TestContext, address = '127.0.0.1', hears = true): Promise<Port> {
    return new Port(t, await openNative({ address, port: 0 }, options), hears)
  }

  send(to: SocketAddress, text: string): void {
    this.driver.send({ path: { remote: to }, data: Buffer.from(text) })
    this.driver.flush()
  }
}

const options = { recvBufferSize: 4 << 20, reusePort: false }

/** Where nothing listens: `count` ports that were somebody's a moment ago. */
async function closedPorts(address: string, count = 1): Promise<SocketAddress[]> {
  const sockets = Array.from({ length: count }, () => createSocket(address.includes(':') ? 'udp6' : 'udp4'))
  for (const socket of sockets) socket.bind(0, address)
  await Promise.all(sockets.map((socket) => once(socket, 'listening')))
  const ports = sockets.map((socket) => socket.address().port)
  await Promise.all(sockets.map((socket) => once(socket.close(), 'close')))
  return ports.map((port) => ({ address, port }))
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await turn()
}

for (const { address, error } of [
  { address: '127.0.0.1', error: '3/3' },
  { address: '::1', error: '1/4' },
]) {
  test(
    `a closed port of ${address} is told, with where the datagram went`,
    { timeout: 20_000 },
    async (t) => {
      const port = await Port.at(t, address)
      const closed = await closedPorts(address, 2)
      for (const to of closed) port.send(to, 'anybody?')
      await until(() => port.icmp.length === 2)
      assert.deepEqual(
        port.icmp,
        closed.map((to) => `${formatAddress(to)}: ${error} 0`),
      )
      assert.deepEqual(port.sendErrors, [])
    },
  )
}

test('on `::` each family has its own', { timeout: 20_000 }, async (t) => {
  const port = await Port.at(t, '::')
  const closed = [...(await closedPorts('127.0.0.1')), ...(await closedPorts('::1'))]
  for (const to of closed) port.send(to, 'anybody?')
  await until(() => port.icmp.length === 2)
  assert.deepEqual(
    port.icmp.sort(),
    [`${formatAddress(closed[0]!)}: 3/3 0`, `${formatAddress(closed[1]!)}: 1/4 0`].sort(),
  )
})

test('no error costs a datagram, and none ends the port', { timeout: 20_000 }, async (t) => {
  const port = await Port.at(t)
  const peer = await Port.at(t)
  const [closed] = await closedPorts('127.0.0.1')
  const ROUNDS = 300
  const expected = Array.from({ length: ROUNDS }, (_, n) => String(n))
  for (const text of expected) {
    // The error of the first is there when the second is sent, and when the answer is received.
    port.send(closed!, 'anybody?')
    port.send(peer.driver.address, text)
    peer.send(port.driver.address, text)
    port.send(closed!, 'anybody?')
    if (Number(text) % 10 === 0) await turn()
  }
  await until(() => peer.got.length === ROUNDS && port.got.length === ROUNDS)
  await until(() => port.icmp.length === 2 * ROUNDS)
  assert.deepEqual(peer.got, expected)
  assert.deepEqual(port.got, expected)
  assert.deepEqual(port.sendErrors, [])
})

test('a row of datagrams behind an error arrives whole', { timeout: 20_000 }, async (t) => {
  const port = await Port.at(t)
  const peer = await Port.at(t)
  const [closed] = await closedPorts('127.0.0.1')
  const row = Array.from({ length: 200 }, (_, n) => `${n}`.padEnd(100, '.'))
  port.send(closed!, 'anybody?')
  for (const text of row) {
    port.driver.send({ path: { remote: peer.driver.address }, data: Buffer.from(text) })
    port.driver.send({ path: { remote: closed! }, data: Buffer.from(text) })
  }
  port.driver.flush()
  await until(() => peer.got.length === row.length)
  assert.deepEqual(peer.got, row)
  assert.deepEqual(port.sendErrors, [])
})

test('what the kernel refuses by itself is still told as that, at once', { timeout: 20_000 }, async (t) => {
  const port = await Port.at(t)
  const peer = await Port.at(t)
  port.send(peer.driver.address, 'x'.repeat(65_508))
  assert.equal(port.sendErrors.length, 1)
  assert.match(port.sendErrors[0]!, /EMSGSIZE/)
  port.send(peer.driver.address, 'short')
  await until(() => peer.got.length === 1)
  assert.deepEqual(port.icmp, [], 'the kernel’s own word is no ICMP')
})

test('a port that did not ask hears of none', { timeout: 20_000 }, async (t) => {
  const [port, peer] = [await Port.at(t, '127.0.0.1', false), await Port.at(t)]
  const [closed] = await closedPorts('127.0.0.1')
  for (let n = 0; n < 50; n++) {
    port.send(closed!, 'anybody?')
    port.send(peer.driver.address, String(n))
  }
  await until(() => peer.got.length === 50)
  assert.deepEqual(port.sendErrors, [])
})
