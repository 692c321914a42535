import assert from 'node:assert/strict'
import { test } from 'node:test'
import { embeddedIpv4 } from '../../../src/core/nat64.ts'
import { discoverNat64, nat64Prefixes, synthesizeIpv6 } from '../../../src/stun/index.ts'

/** RFC 6052 §2.4: 192.0.2.33 under each length of prefix. */
const TABLE = [
  ['2001:db8::', 32, '2001:db8:c000:221::'],
  ['2001:db8:100::', 40, '2001:db8:1c0:2:21::'],
  ['2001:db8:122::', 48, '2001:db8:122:c000:2:2100::'],
  ['2001:db8:122:300::', 56, '2001:db8:122:3c0:0:221::'],
  ['2001:db8:122:344::', 64, '2001:db8:122:344:c0:2:2100:0'],
  ['2001:db8:122:344::', 96, '2001:db8:122:344::c000:221'],
] as const

test('IPv4 addresses stand in IPv6 ones as in the table of RFC 6052', () => {
  for (const [prefix, length, expected] of TABLE) {
    assert.equal(synthesizeIpv6({ prefix, length }, '192.0.2.33'), expected)
    assert.equal(embeddedIpv4({ prefix, length }, expected), '192.0.2.33')
    assert.equal(embeddedIpv4({ prefix, length }, '2001:db8:ffff::1'), undefined)
    assert.equal(embeddedIpv4({ prefix, length }, '192.0.2.33'), undefined)
  }
})

test('the prefix is found in the IPv6 forms of ipv4only.arpa (RFC 7050)', () => {
  for (const [prefix, length] of TABLE) {
    const answers = ['192.0.0.170', '192.0.0.171'].map((one) => synthesizeIpv6({ prefix, length }, one))
    assert.deepEqual(nat64Prefixes(answers), [{ prefix, length }])
  }
  assert.deepEqual(nat64Prefixes(['64:ff9b::c000:aa', '64:ff9b::c000:ab']), [
    { prefix: '64:ff9b::', length: 96 },
  ])
  assert.deepEqual(nat64Prefixes(['2001:db8::1', 'no address', '192.0.0.170']), [])
})

test('no NAT64, or no name server: no prefix', async () => {
  assert.deepEqual(await discoverNat64(() => Promise.resolve(['64:ff9b::c000:aa'])), [
    { prefix: '64:ff9b::', length: 96 },
  ])
  assert.deepEqual(await discoverNat64(() => Promise.reject(new Error('ENODATA'))), [])
})
