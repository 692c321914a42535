import assert from 'node:assert/strict'
import { test } from 'node:test'
import { localTowards } from '../../../src/network/local-addresses.ts'

const lo = [
  { address: '127.0.0.1', cidr: '127.0.0.1/8', internal: true },
  { address: '::1', cidr: '::1/128', internal: true },
]
const lan = { address: '192.168.1.10', cidr: '192.168.1.10/24', internal: false }
const tunnel = { address: '10.8.0.2', cidr: '10.8.0.2/16', internal: false }
const six = { address: '2001:db8::10', cidr: '2001:db8::10/64', internal: false }

test('the local end of a path: of the same network, else the only one of its family', () => {
  const towards = (address: string, interfaces: Parameters<typeof localTowards>[2], bound = '0.0.0.0') =>
    localTowards({ address: bound, port: 1315 }, { address, port: 9 }, interfaces)
  assert.deepEqual(towards('203.0.113.9', [...lo, lan]), { address: '192.168.1.10', port: 1315 })
  assert.equal(towards('10.8.3.4', [...lo, lan, tunnel]).address, '10.8.0.2')
  assert.equal(towards('127.0.0.1', [...lo, lan]).address, '127.0.0.1')
  assert.equal(towards('2001:db8:1::9', [...lo, lan, six], '::').address, '2001:db8::10')
  // Two ways out: only the routing table knows.
  assert.equal(towards('203.0.113.9', [...lo, lan, tunnel]).address, '0.0.0.0')
  assert.equal(towards('2001:db8::9', [...lo, lan], '::').address, '::')
  // A socket with an address of its own sends from there.
  assert.equal(towards('203.0.113.9', [...lo, lan, tunnel], '10.8.0.2').address, '10.8.0.2')
})
