import assert from 'node:assert/strict'
import test from 'node:test'
import { scopeOf, type AddressScope } from '../../../src/core/scope.ts'

// RFC 6890's registries, first and last address of each block, and the neighbours outside.
const blocks: Readonly<Record<AddressScope, readonly string[]>> = {
  global: [
    ...['1.0.0.0', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255'],
    ...['128.0.0.0', '169.253.255.255', '169.255.0.0', '172.15.255.255', '172.32.0.0', '191.255.255.255'],
    ...['192.0.1.0', '192.0.2.1', '192.167.255.255', '192.169.0.0', '198.51.100.7', '223.255.255.255'],
    ...['64:ff9b::c000:201', '2001:db8::1', 'fbff::1', 'fe00::1', '::ffff:192.0.2.1', '0:0:0:1::'],
  ],
  private: [
    ...['10.0.0.0', '10.255.255.255', '172.16.0.0', '172.31.255.255', '192.168.0.0', '192.168.255.255'],
    ...['192.0.0.1', '192.0.0.255', 'fc00::1', 'fdff::1', '::ffff:10.0.0.1'],
  ],
  carrier: ['100.64.0.0', '100.127.255.255'],
  'link-local': ['169.254.0.0', '169.254.255.255', 'fe80::1', 'febf::1', 'fe80::1%eth0'],
  loopback: ['127.0.0.1', '127.255.255.255', '::1'],
  none: ['0.0.0.0', '0.255.255.255', '224.0.0.1', '255.255.255.255', '::', 'ff02::1', '::2', 'localhost', ''],
}

test('every block of the special-purpose registries has its scope', () => {
  for (const [scope, addresses] of Object.entries(blocks)) {
    for (const address of addresses) assert.equal(scopeOf(address), scope, address)
  }
})
