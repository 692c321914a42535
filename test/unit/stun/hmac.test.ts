import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import test from 'node:test'
import fc from 'fast-check'
import { makeHmac } from '../../../src/stun/codec/hmac.ts'

const bytes = (maxLength: number) => fc.uint8Array({ maxLength, size: 'max' })

for (const [name, hash] of [
  ['with crypto.hash', crypto.hash],
  ['without it, as on Node.js 20.0', undefined],
] as const) {
  test(`HMAC ${name} is the one of OpenSSL, for keys shorter and longer than a block`, () => {
    const hmac = makeHmac(hash)
    fc.assert(
      fc.property(
        fc.constantFrom('sha1' as const, 'sha256' as const),
        bytes(140),
        bytes(24),
        bytes(5_000),
        (algorithm, key, first, rest) => {
          const expected = crypto.createHmac(algorithm, key).update(first).update(rest).digest('hex')
          assert.equal(hmac(algorithm, key, first, rest).toString('hex'), expected)
        },
      ),
    )
  })
}
