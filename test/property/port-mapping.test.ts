// 3 s. Whatever comes from the LAN, nothing throws, and nothing is believed that is not the router's answer to us.
import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { familyOf, type SocketAddress } from '../../src/core/address.ts'
import { SECOND } from '../../src/core/machine.ts'
import { decodeNatPmp } from '../../src/portmap/control/nat-pmp.ts'
import { decodePcp, encodePcpMap } from '../../src/portmap/control/pcp.ts'
import { connectionServices } from '../../src/portmap/upnp/description.ts'
import { decodeAction } from '../../src/portmap/upnp/soap.ts'
import { decodeSearchResponse } from '../../src/portmap/upnp/ssdp.ts'
import { Bench, CLIENT, FakeGateway, GATEWAY } from '../sim/port-mapping-gateway.ts'

const server: SocketAddress = { address: GATEWAY, port: 5351 }

/** Right answers of a router to somebody with another nonce, as a start for mutations. */
const answers = (): Buffer[] => {
  const gateway = new FakeGateway({ pcp: true, natPmp: true, upnp: 1 })
  const nonce = new Uint8Array(12).fill(7)
  const map = encodePcpMap({ client: CLIENT.address, nonce, internalPort: CLIENT.port, lifetime: 7_200 })
  const natPmp = Buffer.from([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0x20])
  natPmp.writeUInt16BE(CLIENT.port, 4)
  const search = Buffer.from('ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n')
  return [
    gateway.datagram(SECOND, CLIENT, server, Buffer.from(map)),
    gateway.datagram(SECOND, CLIENT, server, natPmp),
    gateway.datagram(SECOND, CLIENT, server, Buffer.from([0, 0])),
    gateway.datagram(SECOND, CLIENT, { address: GATEWAY, port: 1900 }, search),
    [gateway.announcement(SECOND, 'pcp')],
  ].flat()
}

const mutated = fc
  .tuple(
    fc.constantFrom(...answers()),
    fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
    fc.option(fc.nat(80), { freq: 4 }),
  )
  .map(([bytes, changes, length]) => {
    const copy = Buffer.from(bytes)
    for (const [at, value] of changes) copy[at % copy.length] = value
    return length === null ? copy : copy.subarray(0, length)
  })
const datagram = fc.oneof(
  mutated,
  fc.uint8Array({ maxLength: 1_200 }).map((bytes) => Buffer.from(bytes)),
)

test('no datagram makes a reader throw; what is read is in its ranges', () => {
  fc.assert(
    fc.property(datagram, (bytes) => {
      const before = Buffer.from(bytes)
      const natPmp = decodeNatPmp(bytes)
      if (natPmp?.type === 'map') assert.ok(natPmp.externalPort <= 65535 && natPmp.lifetime < 2 ** 32)
      const pcp = decodePcp(bytes)
      if (pcp?.type === 'map') assert.ok(familyOf(pcp.external.address) > 0 && pcp.nonce.byteLength === 12)
      const location = decodeSearchResponse(bytes, GATEWAY)
      if (location) assert.deepEqual([location.protocol, location.hostname], ['http:', GATEWAY])
      assert.deepEqual(bytes, before)
    }),
    { numRuns: 20_000 },
  )
})

test('forged datagrams, from the router’s address and others, never make a mapping by PCP', () => {
  const from = fc.constantFrom<SocketAddress>(
    server,
    { address: GATEWAY, port: 1900 },
    { address: GATEWAY, port: 5350 },
    { address: '192.168.1.66', port: 5351 },
  )
  const script = fc.array(fc.tuple(datagram, from, fc.nat(400)), { maxLength: 20 })
  fc.assert(
    fc.property(script, fc.nat(), (steps, seed) => {
      // A router that is silent itself: whatever is mapped was forged, and only NAT-PMP cannot tell.
      const bench = new Bench({}, seed)
      bench.mapper.open(bench.now)
      for (const [bytes, source, wait] of steps) {
        bench.deliver(bytes, source)
        bench.run(wait * 10_000)
      }
      bench.run(20 * SECOND)
      for (const { event } of bench.events) {
        if (event.type === 'mapped') assert.equal(event.protocol, 'nat-pmp')
      }
      bench.mapper.close(bench.now)
      bench.run(5 * SECOND)
      assert.equal(bench.events.at(-1)?.event.type, 'removed')
      assert.equal(bench.mapper.pollTimeout(), undefined)
    }),
    { numRuns: 1_000 },
  )
})

test('junk beside the router’s own answers: the mapping stands, and few requests are sent for it', () => {
  const script = fc.array(fc.tuple(datagram, fc.nat(60)), { maxLength: 20 })
  const stranger: SocketAddress = { address: '192.168.1.66', port: 5351 }
  fc.assert(
    fc.property(
      script,
      fc.constantFrom({ pcp: true }, { natPmp: true }, { upnp: 2 as const }),
      (steps, options) => {
        const bench = new Bench(options)
        bench.mapper.open(bench.now)
        for (const [bytes, wait] of steps) {
          bench.deliver(bytes, stranger)
          bench.run(wait * SECOND)
        }
        bench.run(120 * SECOND)
        assert.deepEqual(bench.news(), ['mapped'])
        // A look a minute, of at most two requests.
        assert.ok(bench.gateway.log.length < 130, String(bench.gateway.log.length))
      },
    ),
    { numRuns: 300 },
  )
})

const xml = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '<service>',
        '</service>',
        '<serviceType>',
        '</serviceType>',
        '<controlURL>',
        '</controlURL>',
      ),
      fc.constantFrom(
        'urn:schemas-upnp-org:service:WANIPConnection:1',
        'http://192.168.1.1/',
        '/ctl',
        '<URLBase>',
      ),
      fc.constantFrom(
        '<s:Envelope>',
        '<s:Body>',
        '<u:XResponse/>',
        '<UPnPError>',
        '<errorCode>',
        '718',
        '&#0;',
        '&lt;',
      ),
      fc.constantFrom(
        '<!DOCTYPE a [',
        '<![CDATA[',
        ']]>',
        '<?xml ',
        '?>',
        '<!--',
        '-->',
        '<__proto__>',
        '<a b="',
      ),
      fc.string({ maxLength: 8 }),
    ),
    { maxLength: 40 },
  )
  .map((parts) => parts.join(''))

test('no text makes the readers of UPnP’s XML throw, or leave the router’s address', () => {
  const location = new URL(`http://${GATEWAY}:5000/d.xml`)
  fc.assert(
    fc.property(xml, fc.constantFrom(200, 500), (text, status) => {
      for (const { controlUrl } of connectionServices(text, location)) {
        assert.deepEqual([controlUrl.protocol, controlUrl.hostname], ['http:', GATEWAY])
      }
      const result = decodeAction('X', status, text)
      if (!result.ok) assert.ok(result.code >= 0 && result.code < 1_000 && result.description.length <= 100)
    }),
    { numRuns: 20_000 },
  )
})
