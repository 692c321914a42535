import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import { signNodeInfo, verifyNodeInfo } from '../../../src/network/node-info.ts'

const identity = await createIdentity(generatePrivateKey())
const other = await createIdentity(generatePrivateKey())
const info = signNodeInfo(identity, {
  addresses: [
    { address: '192.0.2.1', port: 1315 },
    { address: '2001:db8::1', port: 1315 },
  ],
  sequence: 7,
  expires: 2_000_000_000,
})

test('a signed record verifies, also after a trip through JSON with its members in another order', () => {
  assert.deepEqual(verifyNodeInfo(info), info)
  const turned = Object.fromEntries(Object.entries(JSON.parse(JSON.stringify(info)) as object).reverse())
  assert.deepEqual(verifyNodeInfo(turned), info)
})

test('a record with any member altered does not verify', () => {
  const foreign = signNodeInfo(other, info)
  for (const altered of [
    { ...info, sequence: 8 },
    { ...info, expires: info.expires + 1 },
    { ...info, addresses: info.addresses.slice(1) },
    { ...info, addresses: [...info.addresses].reverse() },
    { ...info, addresses: [{ address: '192.0.2.2', port: 1315 }, info.addresses[1]] },
    { ...info, id: other.id },
    { ...info, publicKey: foreign.publicKey },
    { ...info, id: other.id, publicKey: foreign.publicKey },
    { ...info, signature: foreign.signature },
    { ...info, signature: '' },
    { ...info, more: 1 },
    { ...info, addresses: [{ address: 'example.com', port: 1 }] },
    { ...info, addresses: [{ address: '192.0.2.1', port: 0 }] },
    { ...info, addresses: Array.from({ length: 17 }, () => info.addresses[0]) },
    { ...info, sequence: 1.5 },
    undefined,
    null,
    'text',
    [],
  ]) {
    assert.throws(() => verifyNodeInfo(altered), { name: 'PeerError', code: 'ERR_NATWORK_NODE_INFO' })
  }
})

test('no JSON value makes the check throw anything else', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.jsonValue(),
        fc.record({
          id: fc.constant(info.id),
          publicKey: fc.base64String(),
          addresses: fc.jsonValue(),
          sequence: fc.nat(),
          expires: fc.nat(),
          signature: fc.base64String(),
        }),
      ),
      (value) => {
        assert.throws(() => verifyNodeInfo(value), { code: 'ERR_NATWORK_NODE_INFO' })
      },
    ),
  )
})
