// A relay behind a 1:1 NAT that sends nothing back in: it is known by an address that this machine has not got.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { test, type TestContext } from 'node:test'
import type { SocketAddress } from '../../../src/core/index.ts'
import { StaticUsers } from '../../../src/stun/index.ts'
import { connectRelay, connectTcpRelay, TurnService, type RelayAllocation } from '../../../src/turn/index.ts'

const host = '127.0.0.1'
const external = '198.51.100.7'
const user = { username: 'user', password: 'pass' }

/** Two clients of one relay, closed before it is. */
async function two<T extends { close(): Promise<void> }>(
  t: TestContext,
  open: (at: string) => Promise<T>,
): Promise<[T, T]> {
  const service = await TurnService.listen({
    users: new StaticUsers('natwork.test', { user: 'pass' }),
    addresses: [{ host, external }],
    listen: (['udp', 'tcp'] as const).map((transport) => ({ host, port: 0, transport })),
    // The relay takes only addresses of the internet, and this one is for documentation.
    peers: { allow: [`${external}/32`] },
    tcp: true,
  })
  const at = `turn:${host}:${service.udpAddresses[0]?.port}`
  const clients: [T, T] = [await open(at), await open(at)]
  t.after(async () => {
    for (const client of clients) await client.close()
    await service.close()
  })
  return clients
}

test('two clients of a relay behind a 1:1 NAT meet by the addresses that the world knows', async (t) => {
  const [a, b] = await two(t, (at) => connectRelay(`${at}?transport=udp`, user))
  assert.equal(a.relayed.address, external)
  assert.equal(b.relayed.address, external)
  a.permit([external])
  b.permit([external])
  const send = async (from: RelayAllocation, to: RelayAllocation, text: string): Promise<void> => {
    const came = once(to, 'message') as Promise<[Uint8Array, SocketAddress]>
    // Permissions take a round trip, and what comes before them is dropped.
    const again = setInterval(() => {
      from.send(Buffer.from(text), to.relayed)
    }, 20)
    const [bytes, source] = await came
    clearInterval(again)
    assert.equal(Buffer.from(bytes).toString(), text)
    assert.deepEqual(source, from.relayed)
  }
  await send(a, b, 'there')
  await send(b, a, 'and back')
})

test('so do their TCP connections', async (t) => {
  const [a, b] = await two(t, (at) => connectTcpRelay(`${at}?transport=tcp`, user))
  b.permit([external])
  const came = once(b, 'connection') as Promise<[Duplex, SocketAddress]>
  const out = await connected(() => a.connect(b.relayed), came)
  const [stream, source] = await came
  assert.deepEqual(source, a.relayed)
  stream.end('through the middle')
  const chunks: Buffer[] = []
  for await (const chunk of out) chunks.push(chunk as Buffer)
  assert.equal(Buffer.concat(chunks).toString(), 'through the middle')
})

/** The other one's permission takes a round trip; the relay closes what comes before it. */
async function connected(connect: () => Promise<Duplex>, came: Promise<unknown>): Promise<Duplex> {
  for (;;) {
    const stream = await connect()
    const closed = once(stream, 'close').then(() => 'closed')
    if ((await Promise.race([came, closed])) !== 'closed') return stream
  }
}
