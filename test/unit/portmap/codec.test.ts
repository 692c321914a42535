import assert from 'node:assert/strict'
import test from 'node:test'
import { SECOND } from '../../../src/core/machine.ts'
import { Epoch } from '../../../src/portmap/control/epoch.ts'
import { decodeNatPmp, encodeAddressRequest, encodeMapRequest } from '../../../src/portmap/control/nat-pmp.ts'
import { decodePcp, encodePcpAnnounce, encodePcpMap } from '../../../src/portmap/control/pcp.ts'

const bytes = (...parts: string[]): Buffer => Buffer.from(parts.join('').replace(/\s/g, ''), 'hex')

test('NAT-PMP requests are laid out as drawn in RFC 6886 §3.2 and §3.3', () => {
  assert.deepEqual(Buffer.from(encodeAddressRequest()), bytes('00 00'))
  assert.deepEqual(
    Buffer.from(encodeMapRequest({ internalPort: 0x1234, externalPort: 0x5678, lifetime: 7_200 })),
    bytes('00 01 0000', '1234 5678', '00001c20'),
  )
})

test('NAT-PMP responses: address, map, refusals, and what is none', () => {
  assert.deepEqual(decodeNatPmp(bytes('00 80 0000 00000102 cb007105')), {
    type: 'address',
    epoch: 0x102,
    address: '203.0.113.5',
  })
  assert.deepEqual(decodeNatPmp(bytes('00 81 0000 00000102 1234 5678 00000e10')), {
    type: 'map',
    epoch: 0x102,
    internalPort: 0x1234,
    externalPort: 0x5678,
    lifetime: 3_600,
  })
  assert.deepEqual(decodeNatPmp(bytes('00 81 0002 00000102 1234 0000 00000000')), {
    type: 'error',
    request: 'map',
    result: 2,
  })
  // §3.5: as drawn, and as gateways do it.
  for (const opcode of ['00', '80', '81']) {
    const response = decodeNatPmp(bytes('00', opcode, '0001 00000102'))
    assert.deepEqual(response, { type: 'error', request: undefined, result: 1 })
  }
  const none = [
    '',
    '00 80 0000',
    '00 80 0000 00000102',
    '00 81 0000 00000102 1234',
    '00 00',
    '00 01 0000 1234',
  ]
  for (const text of [...none, '01 80 0000 00000102 cb007105', '00 82 0000 00000102 1234 5678 00000e10']) {
    assert.equal(decodeNatPmp(bytes(text)), undefined, text)
  }
})

const nonce = bytes('0102030405060708090a0b0c')

test('PCP requests are laid out as drawn in RFC 6887 §7.1 and §11.1', () => {
  assert.deepEqual(
    Buffer.from(
      encodePcpMap({
        client: '192.168.1.10',
        nonce,
        internalPort: 0x1234,
        external: { address: '203.0.113.5', port: 0x5678 },
        lifetime: 7_200,
      }),
    ),
    bytes(
      '02 01 0000 00001c20 00000000000000000000ffff c0a8010a',
      '0102030405060708090a0b0c 11 000000 1234 5678 00000000000000000000ffff cb007105',
    ),
  )
  assert.deepEqual(
    Buffer.from(encodePcpMap({ client: '2001:db8::10', nonce, internalPort: 0x1234, lifetime: 0 })),
    bytes(
      '02 01 0000 00000000 20010db8000000000000000000000010',
      '0102030405060708090a0b0c 11 000000 1234 0000 00000000000000000000000000000000',
    ),
  )
  assert.deepEqual(
    Buffer.from(encodePcpAnnounce('192.168.1.10')),
    bytes('02 00 0000 00000000 00000000000000000000ffff c0a8010a'),
  )
})

const map =
  '02 81 00 00 00000e10 00000102 000000000000000000000000 0102030405060708090a0b0c 11 000000 1234 5678 '

test('PCP responses: MAP of both families, ANNOUNCE, errors, other versions, and what is none', () => {
  const external = { address: '203.0.113.5', port: 0x5678 }
  const expected = { type: 'map', result: 0, lifetime: 3_600, epoch: 0x102, internalPort: 0x1234, external }
  const read = decodePcp(bytes(map, '00000000000000000000ffff cb007105'))
  assert.ok(read?.type === 'map')
  assert.deepEqual({ ...read, nonce: Buffer.from(read.nonce) }, { ...expected, nonce })
  const v6 = decodePcp(bytes(map, '20010db8000000000000000000000010'))
  assert.ok(v6?.type === 'map')
  assert.deepEqual(v6.external, { address: '2001:db8::10', port: 0x5678 })
  assert.deepEqual(decodePcp(bytes('02 80 00 00 00000000 00000102', '00'.repeat(12))), {
    type: 'announce',
    result: 0,
    epoch: 0x102,
  })
  assert.deepEqual(decodePcp(bytes('01 81 00 01', '00'.repeat(20))), { type: 'version' })
  const whole = bytes(map, '00000000000000000000ffff cb007105')
  const request = Buffer.from(whole)
  request[1] = 1
  const tcp = Buffer.from(whole)
  tcp[36] = 6
  const other = Buffer.from(whole)
  other[0] = 3
  const peer = Buffer.from(whole)
  peer[1] = 0x82
  const long = Buffer.alloc(1_104)
  whole.copy(long)
  for (const none of [request, tcp, other, peer, long, whole.subarray(0, 58), whole.subarray(0, 56)]) {
    assert.equal(decodePcp(none), undefined, none.toString('hex'))
  }
  assert.ok(decodePcp(Buffer.concat([whole, Buffer.alloc(8)])), 'options may follow')
})

test('an epoch goes on with the clock, give or take (RFC 6886 §3.6, RFC 6887 §8.5)', () => {
  const continued = (protocol: 'pcp' | 'nat-pmp', value: number, seconds: number): boolean => {
    const epoch = new Epoch()
    assert.equal(epoch.isContinuedBy(10_000, 0, protocol), true)
    return epoch.isContinuedBy(value, seconds * SECOND, protocol)
  }
  for (const protocol of ['pcp', 'nat-pmp'] as const) {
    assert.equal(continued(protocol, 10_800, 800), true)
    assert.equal(continued(protocol, 0, 800), false, 'a restart')
    assert.equal(continued(protocol, 17_200, 800), false, 'we slept')
    assert.equal(continued(protocol, 9_999, 0), true, 'overtaken')
    assert.equal(continued(protocol, 9_990, 0), false)
  }
  // Slow clocks: 1/16 for PCP, 1/8 for NAT-PMP, and 2 seconds.
  assert.equal(continued('pcp', 10_748, 800), true)
  assert.equal(continued('pcp', 10_747, 800), false)
  assert.equal(continued('nat-pmp', 10_698, 800), true)
  assert.equal(continued('nat-pmp', 10_697, 800), false)
  // Fast ones: 1/16 for both.
  assert.equal(continued('pcp', 10_855, 800), true)
  assert.equal(continued('pcp', 10_856, 800), false)
})
