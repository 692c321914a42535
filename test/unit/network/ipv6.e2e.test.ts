import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { readAll } from './duplex-pair.ts'
import { listen, makePair } from './nodes.ts'

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

for (const [hostA, hostB, family] of [
  ['::1', '::1', 6],
  ['::', '::1', 6],
  ['::', '127.0.0.1', 4],
] as const) {
  test(`a pipe over IPv${family}: from a node on ${hostB} to one on ${hostA}`, async (t) => {
    const [a, b] = await makePair(t, { host: hostA }, { host: hostB })
    const { port } = await listen(t, (socket) => socket.pipe(socket))
    a.network.services.set({ name: 'echo', host: '127.0.0.1', port, allow: [b.network.id] })
    const address = { address: family === 6 ? '::1' : '127.0.0.1', port: a.network.boundAddress.port }
    const stream = await b.network.connect(a.network.id, { service: 'echo', addresses: [address] })
    const bytes = randomBytes(1_000_000)
    stream.end(bytes)
    assert.equal(sha(await readAll(stream)), sha(bytes))
    const ticket = await a.network.createTicket({ service: 'echo' })
    assert.ok(ticket.addresses.some(({ port }) => port === a.network.boundAddress.port))
  })
}
