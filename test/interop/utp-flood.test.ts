import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { bytes, hashOf, serve, sha256 } from '../unit/utp-driver/pair.ts'

const SYNS = 100_000
const STRANGERS = 50
const BATCH = 500
const BOUND = 1_000

test(
  `${SYNS} SYNs from invented addresses: memory stays bounded, an established connection moves on`,
  { timeout: 120_000 },
  async (t) => {
    let handed = 0
    const server = await serve(t, {
      host: '0.0.0.0',
      onConnection: (stream) => {
        handed++
        stream.pipe(stream)
      },
      limits: { maxHalfOpen: BOUND },
    })
    const to = { address: '127.0.0.1', port: server.address.port }
    const client = await serve(t)
    const established = await client.connect(to)

    // Each on an address of its own; they never answer, as the owners of invented addresses would not.
    const strangers = await Promise.all(
      Array.from({ length: STRANGERS }, async (_, at) => {
        const stranger = createSocket('udp4')
        stranger.bind(0, `127.0.1.${at + 1}`)
        await once(stranger, 'listening')
        return stranger
      }),
    )
    const syn = Buffer.alloc(20)
    syn[0] = 0x41
    for (let sent = 0; sent < SYNS;) {
      for (const end = sent + BATCH; sent < end; sent++) {
        syn.writeUInt16BE(sent % 65_536, 2)
        syn.writeUInt16BE(1 + (sent >>> 4), 16)
        strangers[sent % STRANGERS]!.send(Buffer.from(syn), to.port, to.address)
      }
      established.write('still there?')
      await once(established, 'data')
      assert.ok(server.stats.halfOpen <= BOUND)
    }
    assert.ok(server.stats.halfOpen > BOUND / 2, 'the flood arrived')
    assert.equal(server.connections.size, 1)
    assert.equal(handed, 1)
    for (const stranger of strangers) stranger.close()

    // Whoever is real still gets in, and the established connection carries bytes exactly.
    const late = await client.connect(to)
    late.end(bytes(100_000))
    established.end(bytes(1_000_000))
    const [lateEcho, establishedEcho] = await Promise.all([sha256(late), sha256(established)])
    assert.deepEqual(lateEcho, hashOf(bytes(100_000)))
    assert.equal(establishedEcho.length, 1_000_000)
  },
)
