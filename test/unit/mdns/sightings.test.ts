import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND } from '../../../src/core/machine.ts'
import { subnetOf } from '../../../src/core/subnet.ts'
import { Sightings, type Link } from '../../../src/mdns/sightings.ts'
import { fixedRng, isLabel, lan as link } from './wire.ts'

const own = '192.168.1.5'
const saying = (label: string, addresses: string[], ttl = 120) => ({ label, port: 1315, addresses, ttl })
const make = (): Sightings => new Sightings('bme', isLabel, fixedRng())
const places = (sightings: Sightings, label: string): string[] =>
  sightings.placesOf(label).map(({ address }) => address)

test('what a speaker says of itself comes before what others say of it', () => {
  const sightings = make()
  sightings.hear(0, link, own, saying('bone', ['192.168.9.9', own]))
  sightings.hear(1, link, '192.168.1.66', saying('bone', ['192.168.1.77', '192.168.1.78']))
  assert.deepEqual(places(sightings, 'bone'), [own, '192.168.1.77', '192.168.1.78', '192.168.9.9'])
})

test('a liar takes back, or replaces, what it said itself and nothing else', () => {
  const sightings = make()
  sightings.hear(0, link, own, saying('bone', [own]))
  sightings.hear(1, link, '192.168.1.66', saying('bone', ['192.168.1.66']))
  sightings.hear(2, link, '192.168.1.66', saying('bone', [own], 0))
  assert.deepEqual(places(sightings, 'bone'), [own])
  sightings.hear(3, link, own, saying('bone', ['192.168.1.6']))
  assert.deepEqual(places(sightings, 'bone'), ['192.168.1.6'])
})

test('nobody is believed longer than two minutes, nor longer than they say', () => {
  const sightings = make()
  sightings.hear(0, link, own, saying('bone', [own], 2 ** 31))
  sightings.hear(0, link, own, saying('btwo', [own], 7))
  sightings.expire(7 * SECOND)
  assert.deepEqual(
    sightings.all.map(({ label }) => label),
    ['bone'],
  )
  sightings.expire(120 * SECOND)
  assert.deepEqual(sightings.all, [])
  assert.equal(sightings.nextExpiry, undefined)
})

test('places are on the link where they are told; IPv6 link-local ones belong to it', () => {
  const sightings = make()
  const elsewhere = ['10.0.0.1', '203.0.113.1', '127.0.0.1', '2001:db8::1', '224.0.0.251', '0.0.0.0']
  sightings.hear(0, link, own, saying('bone', elsewhere))
  assert.deepEqual(sightings.all, [])
  const anywhere: Link = { zone: 'wlan0', family: 6, isNear: () => true }
  const odd = ['224.0.0.251', '0.0.0.0', '255.255.255.255', 'ff02::1', '::']
  sightings.hear(0, anywhere, 'fe80::1%wlan0', saying('bone', ['fd00::1', 'fe80::1', ...odd]))
  assert.deepEqual(places(sightings, 'bone'), ['fe80::1%wlan0', 'fd00::1'])
})

test('who is looked for has a place though strangers took all of them', () => {
  const sightings = make()
  for (let n = 0; n < 5_000; n++) sightings.hear(n, link, own, saying(`b${n}`, [own]))
  assert.equal(sightings.all.length, 256)
  sightings.hear(6_000, link, own, saying('bwanted', [own]))
  assert.deepEqual(places(sightings, 'bwanted'), [])
  const releases = Array.from({ length: 20 }, (_, n) => sightings.want(`bwanted${n}`))
  for (let n = 0; n < 20; n++) {
    sightings.hear(7_000, link, own, saying(`bwanted${n}`, [own]))
    assert.deepEqual(places(sightings, `bwanted${n}`), [own])
  }
  for (const release of releases) release()
  assert.equal(sightings.all.length, 256)
})

test('the last to speak for a node is heard, however many did before; the list of places stays short', () => {
  const sightings = make()
  for (let n = 0; n < 1_000; n++) {
    const liar = `192.168.${n >> 8}.${n & 255}`
    sightings.hear(n, link, liar, saying('bone', [liar, `192.168.8.${n & 255}`, `192.168.9.${n & 255}`]))
  }
  sightings.hear(2_000, link, own, saying('bone', [own]))
  assert.equal(places(sightings, 'bone')[0], own)
  assert.ok(places(sightings, 'bone').length <= 16)
})

test('a link that is gone takes along what was heard on it', () => {
  const sightings = make()
  const other: Link = { zone: 'wlan0', family: 4, isNear: subnetOf('10.0.0.0/8') }
  sightings.hear(0, link, own, saying('bone', [own]))
  sightings.hear(0, other, '10.0.0.1', saying('btwo', ['10.0.0.1']))
  const before = sightings.version
  sightings.forgetLink(link)
  assert.deepEqual(
    sightings.all.map(({ label }) => label),
    ['btwo'],
  )
  assert.notEqual(sightings.version, before)
})

test('the version changes with what is to be told, not with what is said again', () => {
  const sightings = make()
  sightings.hear(0, link, own, saying('bone', [own]))
  const { version } = sightings
  sightings.hear(9, link, own, saying('bone', [own]))
  sightings.hear(9, link, own, saying('bme', [own]))
  sightings.hear(9, link, own, saying('not a label', [own]))
  sightings.hear(9, link, own, saying('bnowhere', []))
  assert.equal(sightings.version, version)
})
