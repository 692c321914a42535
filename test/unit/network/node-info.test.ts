import assert from 'node:assert/strict'
import { sign } from 'node:crypto'
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
  helpers: [{ id: other.id, address: { address: '198.51.100.1', port: 1315 } }],
  helps: true,
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
    { ...info, sealKey: foreign.sealKey },
    { ...info, helpers: [] },
    { ...info, helpers: [{ ...info.helpers![0]!, id: identity.id }] },
    { ...info, helpers: Array.from({ length: 5 }, () => info.helpers![0]) },
    { ...info, helps: false },
    without(info, 'sealKey'),
    without(info, 'helpers'),
    without(info, 'helps'),
    without(info, 'sealKey', 'helpers', 'helps'),
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

test('a record of version 1 verifies still, as itself only', () => {
  const first = {
    id: identity.id,
    publicKey: identity.publicKey.toString('base64'),
    addresses: info.addresses,
    sequence: 7,
    expires: 2_000_000_000,
  }
  const text = `natwork node record 1\n${JSON.stringify([first.id, first.publicKey, ['192.0.2.1:1315', '[2001:db8::1]:1315'], 7, 2_000_000_000])}`
  const signed = {
    ...first,
    signature: sign(null, Buffer.from(text), identity.privateKey).toString('base64'),
  }
  assert.deepEqual(verifyNodeInfo(signed), signed)
  assert.throws(() => verifyNodeInfo({ ...signed, sealKey: info.sealKey, helpers: [], helps: false }), {
    code: 'ERR_NATWORK_NODE_INFO',
  })
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

function without(record: object, ...names: string[]): object {
  return Object.fromEntries(Object.entries(record).filter(([name]) => !names.includes(name)))
}
