import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { createIdentity, generatePrivateKey } from '../../src/network/identity.ts'
import { isNodeId } from '../../src/network/node-id.ts'
import {
  maxMessage,
  readExactly,
  readMessage,
  requestSchema,
  writeMessage,
} from '../../src/network/protocol.ts'

const { id } = await createIdentity(generatePrivateKey())
const request = { op: 'pipe' as const, to: id, service: 'web' }

/** The bytes, cut anywhere, then the end. */
function streamOf(bytes: Uint8Array, cuts: readonly number[]): PassThrough {
  const stream = new PassThrough()
  const edges = [
    0,
    ...[...cuts].sort((a, b) => a - b).map((cut) => Math.min(cut, bytes.length)),
    bytes.length,
  ]
  for (const [index, edge] of edges.slice(1).entries()) stream.write(bytes.subarray(edges[index], edge))
  stream.end()
  return stream
}

async function encoded(message: object): Promise<Buffer> {
  const stream = new PassThrough()
  writeMessage(stream, message)
  return (await readExactly(stream, stream.readableLength)) ?? Buffer.alloc(0)
}

test('a message is read whole however it is cut, and what follows stays in the stream', async () => {
  const message = await encoded(request)
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), fc.array(fc.nat(200)), async (rest, cuts) => {
      const stream = streamOf(Buffer.concat([message, rest]), cuts)
      assert.deepEqual(await readMessage(stream, requestSchema), request)
      const left: Buffer[] = []
      for await (const chunk of stream) left.push(chunk as Buffer)
      assert.deepEqual(Buffer.concat(left), Buffer.from(rest))
    }),
  )
})

test('no bytes make the reader throw anything but the typed error', async () => {
  const message = await encoded(request)
  const mutated = fc
    .tuple(fc.nat(message.length - 1), fc.nat(255), fc.nat(message.length))
    .map(([at, value, length]) => {
      const bytes = Buffer.from(message)
      bytes[at] = value
      return bytes.subarray(0, length)
    })
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(fc.uint8Array({ maxLength: 5_000 }), mutated),
      fc.array(fc.nat(100)),
      async (bytes, cuts) => {
        try {
          const heard = await readMessage(streamOf(bytes, cuts), requestSchema)
          // One character of the id changed may make it another node's.
          assert.ok(heard === undefined ? bytes.length === 0 : isNodeId(heard.to))
        } catch (error) {
          assert.equal(error instanceof Error && 'code' in error && error.code, 'ERR_NATWORK_PROTOCOL')
        }
      },
    ),
    { numRuns: 300 },
  )
})

test('a message longer than allowed is refused by its length alone', async () => {
  const stream = new PassThrough()
  stream.write(Buffer.of((maxMessage + 1) >> 8, (maxMessage + 1) & 0xff))
  await assert.rejects(readMessage(stream, requestSchema), { code: 'ERR_NATWORK_PROTOCOL' })
})
