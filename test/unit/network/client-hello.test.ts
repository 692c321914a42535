// 1 s. Which protocols a TLS client offers, read from its first bytes.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { connect } from 'node:tls'
import fc from 'fast-check'
import { maxClientHello, offeredProtocols } from '../../../src/network/tls/client-hello.ts'

/** What this Node sends first. */
async function helloOf(ALPNProtocols: string[], servername?: string): Promise<Buffer> {
  const out = new PassThrough()
  const socket = Object.assign(new PassThrough(), { write: (bytes: Buffer) => out.write(bytes) })
  const client = connect({ socket, ALPNProtocols, ...(servername && { servername }) })
  client.on('error', () => undefined)
  const [bytes] = (await once(out, 'data')) as [Buffer]
  client.destroy()
  return bytes
}

const hello = await helloOf(['natwork/1', 'stun.turn'], 'helper.example.org')

/** The same message in records of `size` bytes each (RFC 8446 §5.1). */
function inRecords(bytes: Buffer, size: number): Buffer {
  const message = bytes.subarray(5)
  const parts: Buffer[] = []
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size)
    parts.push(Buffer.of(22, 3, 1, part.length >> 8, part.length & 255), part)
  }
  return Buffer.concat(parts)
}

function range(end: number): number[] {
  return Array.from({ length: end }, (_, n) => n)
}

test('the offer of a real client is read, and that of one which offers nothing', async () => {
  assert.deepEqual(offeredProtocols(hello), ['natwork/1', 'stun.turn'])
  assert.deepEqual(offeredProtocols(await helloOf([])), [])
})

test('however it is cut, the offer is known when its last byte is there, and not before', () => {
  for (let length = 0; length < hello.length; length++) {
    assert.equal(offeredProtocols(hello.subarray(0, length)), undefined, `${length} bytes`)
  }
  for (const size of [Math.ceil(hello.length / 32), 100]) {
    const cut = inRecords(hello, size)
    assert.deepEqual(offeredProtocols(cut), ['natwork/1', 'stun.turn'])
    assert.equal(offeredProtocols(cut.subarray(0, -1)), undefined)
  }
})

test('one that is cut into very many records is refused after a few: each segment would cost reading all of them', () => {
  const cut = inRecords(hello, 1)
  const refused = range(cut.length).find((length) => offeredProtocols(cut.subarray(0, length)) === false)
  assert.equal(refused, 32 * 6)
})

test('what is no ClientHello is known by its first bytes', () => {
  for (const text of [
    'G',
    'GET /',
    '\u0000',
    '\u0016\u0002',
    '\u0016\u0003\u0001\u0000\u0000',
    '\u0016\u0003\u0001\u0000\u0001\u0002',
  ]) {
    assert.equal(offeredProtocols(Buffer.from(text, 'latin1')), false, JSON.stringify(text))
  }
  const endless = Buffer.of(22, 3, 1, 0, 4, 1, 0, (maxClientHello >> 8) + 1, 0)
  assert.equal(offeredProtocols(endless), false)
})

test('changed bytes give an answer and no error', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { maxLength: 8 }), (changes) => {
      const altered = Buffer.from(hello)
      for (const [at, value] of changes) altered[at] = value
      const offered = offeredProtocols(altered)
      assert.ok(offered === undefined || offered === false || offered.every((name) => name.length <= 255))
    }),
    { numRuns: 2_000 },
  )
})
