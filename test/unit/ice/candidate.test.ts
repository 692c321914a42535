// Candidates: priorities, foundations, order of families, JSON and SDP lines.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { describeCandidates, pairPriority, priorityOf } from '../../../src/ice/candidate.ts'
import { fromSdp, IceUsageError, parseCandidate, toSdp, type IceCandidate } from '../../../src/ice/index.ts'
import type { LocalCandidate } from '../../../src/ice/index.ts'

test('priorities are RFC 8445’s', () => {
  assert.equal(priorityOf('host', 65_535), 2_130_706_431) // §15.1's example, component 1
  assert.equal(priorityOf('srflx', 65_535), 1_694_498_815)
  assert.equal(priorityOf('relay', 65_535), 16_777_215)
  // §6.1.2.3: 2^32 × min + 2 × max + (controlling > controlled)
  assert.equal(pairPriority(3, 2), 2 ** 32 * 2 + 6 + 1)
  assert.equal(pairPriority(2, 3), 2 ** 32 * 2 + 6)
})

test('the families take turns, IPv6 first (RFC 8421)', () => {
  const host = (address: string): LocalCandidate => ({ type: 'host', address: { address, port: 1 } })
  const described = describeCandidates(
    ['192.0.2.1', '192.0.2.2', '2001:db8::1', '2001:db8::2'].map((address) => host(address)),
  ).map(({ candidate }) => candidate)
  assert.deepEqual(
    described.map(({ address }) => address),
    ['2001:db8::1', '192.0.2.1', '2001:db8::2', '192.0.2.2'],
  )
  const priorities = described.map(({ priority }) => priority)
  assert.deepEqual(
    priorities,
    [...priorities].sort((a, b) => b - a),
  )
  assert.equal(new Set(priorities).size, 4)
})

test('foundations are equal for one type, base and server, and different otherwise (§5.1.1.3)', () => {
  const base = { address: '10.0.0.1', port: 5 }
  const server = { address: '192.0.2.1', port: 3478 }
  const seen = { address: '198.51.100.1', port: 9 }
  const of = (one: LocalCandidate): string => describeCandidates([one])[0]!.candidate.foundation
  const first = of({ type: 'srflx', address: seen, base, server })
  assert.equal(of({ type: 'srflx', address: { ...seen, port: 10 }, base, server }), first)
  assert.notEqual(
    of({ type: 'srflx', address: seen, base, server: { ...server, address: '192.0.2.2' } }),
    first,
  )
  assert.notEqual(of({ type: 'srflx', address: seen, base: { ...base, address: '10.0.0.2' }, server }), first)
  assert.notEqual(of({ type: 'mapped', address: seen, base, server }), first)
})

test('candidate lines of other implementations are read (RFC 8839 §5.1)', () => {
  // The RFC's own example.
  assert.deepEqual(
    fromSdp('a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998'),
    {
      type: 'srflx',
      address: '192.0.2.3',
      port: 45664,
      priority: 1694498815,
      foundation: '2',
      related: { address: '203.0.113.141', port: 8998 },
    },
  )
  const extended =
    'candidate:1 1 udp 2130706431 2001:db8::1 8998 typ host generation 0 ufrag abcd network-cost 10'
  assert.equal(fromSdp(extended)?.address, '2001:db8::1')
  for (const other of [
    'candidate:1 2 udp 2130706431 192.0.2.1 8998 typ host',
    'candidate:1 1 tcp 2130706431 192.0.2.1 9 typ host tcptype active',
    'candidate:1 1 udp 2130706431 1f4712db-ea17-4bcf-a596-105139dfd8bf.local 8998 typ host',
  ]) {
    assert.equal(fromSdp(other), undefined)
  }
  for (const bad of [
    '',
    'candidate:',
    'candidate:1 1 udp x 192.0.2.1 8998 typ host',
    'a=mid:0',
    'x'.repeat(5000),
  ]) {
    assert.throws(() => fromSdp(bad), IceUsageError)
  }
})

const candidates = fc.record(
  {
    type: fc.constantFrom('host', 'srflx', 'prflx', 'relay'),
    address: fc.oneof(fc.ipV4(), fc.constantFrom('2001:db8::1', 'fd00::7')),
    port: fc.integer({ min: 1, max: 65_535 }),
    priority: fc.integer({ min: 1, max: 0x7fffffff }),
    foundation: fc.stringMatching(/^[A-Za-z0-9+/]{1,32}$/),
  },
  { noNullPrototype: true },
)

test('what is written as JSON or as a line is read again', () => {
  fc.assert(
    fc.property(candidates, (one) => {
      const candidate = one as IceCandidate
      assert.deepEqual(parseCandidate(JSON.parse(JSON.stringify(candidate))), candidate)
      const read = fromSdp(toSdp(candidate))
      assert.deepEqual({ ...read, related: undefined }, { ...candidate, related: undefined })
    }),
  )
})

test('what is no candidate is refused, whatever it is', () => {
  fc.assert(
    fc.property(fc.oneof(fc.anything(), fc.record({ type: fc.string(), port: fc.integer() })), (value) => {
      assert.throws(() => parseCandidate(value), { code: 'ERR_NATWORK_ICE_INVALID' })
    }),
  )
  const good = { type: 'host', address: '192.0.2.1', port: 1, priority: 1, foundation: '1' }
  for (const wrong of [
    { type: 'toString' },
    { address: 'localhost' },
    { address: '192.0.2.1%eth0' },
    { port: 0 },
    { port: 65_536 },
    { port: 1.5 },
    { priority: 0 },
    { priority: 2 ** 31 },
    { foundation: '' },
    { foundation: 'a b' },
  ]) {
    assert.throws(() => parseCandidate({ ...good, ...wrong }), IceUsageError)
  }
})
