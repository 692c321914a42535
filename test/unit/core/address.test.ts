import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatAddress, parseAddress, sameAddress } from '../../../src/core/index.ts'

test('an address reads back as it was written', () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6())
  fc.assert(
    fc.property(address, fc.integer({ min: 0, max: 65535 }), (ip, port) => {
      const at = { address: ip, port }
      assert.ok(sameAddress(parseAddress(formatAddress(at)), at))
    }),
  )
})

test('what is no address says how to write one', () => {
  for (const text of [
    '',
    '1315',
    'example.org:80',
    '192.0.2.1',
    '192.0.2.1:65536',
    '2001:db8::1:80',
    '[::1]',
  ]) {
    assert.throws(() => parseAddress(text), { code: 'ERR_NATWORK_ADDRESS', name: 'UsageError' }, text)
  }
})
