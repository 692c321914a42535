import assert from 'node:assert/strict'
import type { NetworkInterfaceInfo } from 'node:os'
import { test } from 'node:test'
import { localLinks } from '../../../src/mdns/driver/links.ts'

const four = (address: string, cidr = `${address}/24`, internal = false): NetworkInterfaceInfo => ({
  ...{ address, cidr, internal, family: 'IPv4', netmask: '', mac: '' },
})
const six = (address: string, scopeid = 0, internal = false): NetworkInterfaceInfo => ({
  ...{ address, cidr: `${address}/64`, internal, family: 'IPv6', netmask: '', mac: '', scopeid },
})
const machine = {
  lo: [four('127.0.0.1', '127.0.0.1/8', true), six('::1', 0, true)],
  veth0: [six('fe80::77', 9)],
  eth0: [four('192.168.1.5'), four('192.168.1.6'), six('2001:db8::5'), six('fe80::5', 2)],
  wlan0: [four('10.0.0.5', '10.0.0.5/8')],
}
const at = (address: string) => localLinks({ address, port: 1315 }, machine)
const names = (address: string): string[] => at(address).map(({ zone, family }) => `${zone}/${family}`)

test('the links of a port: where it can be reached, in the families that it speaks', () => {
  assert.deepEqual(names('0.0.0.0'), ['eth0/4', 'wlan0/4'])
  assert.deepEqual(names('::'), ['eth0/4', 'eth0/6', 'wlan0/4', 'veth0/6'])
  assert.deepEqual(names('192.168.1.6'), ['eth0/4'])
  assert.deepEqual(names('2001:db8::5'), ['eth0/6'])
  assert.deepEqual(names('127.0.0.1'), ['lo/4'])
  assert.deepEqual(names('203.0.113.1'), [])
})

test('what is told on a link: the addresses of that interface alone, both families on each', () => {
  assert.deepEqual(at('0.0.0.0')[0]?.addresses, ['192.168.1.5', '192.168.1.6'])
  for (const link of at('::').filter(({ zone }) => zone === 'eth0')) {
    assert.deepEqual(link.addresses, ['192.168.1.5', '192.168.1.6', '2001:db8::5', 'fe80::5'])
  }
  assert.deepEqual(at('192.168.1.6')[0]?.addresses, ['192.168.1.6'])
})

test('only who is on the link is heard there', () => {
  const [eth4, eth6, wlan] = at('::')
  assert.ok(eth4!.isNear('192.168.1.200'))
  assert.ok(!eth4!.isNear('192.168.2.1'))
  assert.ok(!eth4!.isNear('10.3.2.1'))
  assert.ok(wlan!.isNear('10.3.2.1'))
  assert.ok(eth6!.isNear('fe80::1234%eth0'))
  assert.ok(!eth6!.isNear('fe80::1234%wlan0'))
  assert.ok(eth6!.isNear('2001:db8::99'))
  assert.ok(!eth6!.isNear('2001:db8:1::99'))
})

test('another address, another state; the same ones, the same', () => {
  const moved = { ...machine, eth0: [four('192.168.1.9')] }
  const before = at('0.0.0.0').map(({ state }) => state)
  const after = localLinks({ address: '0.0.0.0', port: 1315 }, moved).map(({ state }) => state)
  assert.notEqual(after[0], before[0])
  assert.equal(after[1], before[1])
})

test('a machine with a thousand bridges speaks on sixteen links, those with addresses first', () => {
  const many = Object.fromEntries(
    Array.from({ length: 1_000 }, (_, n) => [`veth${n}`, [six(`fe80::${n}`, n)]]),
  )
  const links = localLinks({ address: '::', port: 1315 }, { ...many, ...machine })
  assert.equal(links.length, 16)
  assert.deepEqual(
    links.slice(0, 3).map(({ zone }) => zone),
    ['eth0', 'eth0', 'wlan0'],
  )
})
