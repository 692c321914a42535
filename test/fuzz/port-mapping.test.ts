import assert from 'node:assert/strict'
import test from 'node:test'
import { MILLISECOND, SECOND } from '../../src/core/machine.ts'
import { encodePcpMap } from '../../src/portmap/control/pcp.ts'
import { GatewayMapper } from '../../src/portmap/gateway.ts'
import { CLIENT, FakeGateway, GATEWAY } from '../sim/port-mapping-gateway.ts'

// 100,000 datagrams and HTTP bodies in about 4 seconds. Another seed: NATWORK_FUZZ_SEED=… ; it is printed when something
// fails.

const MESSAGES = 100_000
const seed = Number(process.env['NATWORK_FUZZ_SEED'] ?? 20261122)

let state = seed | 1
/** Xorshift: uniform enough, and the same everywhere. */
function random(below: number): number {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % below
}

const server = { address: GATEWAY, port: 5351 }
const nonce = new Uint8Array(12).fill(7)

/** Right answers, also to the very request: the mapper's nonce is the one above. */
function corpus(): { bytes: Buffer; port: number }[] {
  const gateway = new FakeGateway({ pcp: true, natPmp: true, upnp: 1 })
  const ask = (data: Uint8Array, port = 5351): { bytes: Buffer; port: number }[] =>
    gateway.datagram(SECOND, CLIENT, { ...server, port }, Buffer.from(data)).map((bytes) => ({ bytes, port }))
  const map = { client: CLIENT.address, nonce, internalPort: CLIENT.port }
  const natPmp = Buffer.from([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0x20])
  natPmp.writeUInt16BE(CLIENT.port, 4)
  const version = Buffer.from([0, 0x81, 0, 1, 0, 0, 0, 9])
  return [
    ...ask(encodePcpMap({ ...map, lifetime: 7_200 })),
    ...ask(encodePcpMap({ ...map, lifetime: 0 })),
    ...ask(natPmp),
    ...ask(Buffer.from([0, 0])),
    ...ask(Buffer.from('ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1'), 1900),
    { bytes: gateway.announcement(SECOND, 'pcp'), port: 5351 },
    { bytes: version, port: 5351 },
  ]
}

const seeds = corpus()
const scratch = Buffer.alloc(2_048)

function mutated(from: Buffer): Buffer {
  from.copy(scratch)
  let length = from.length
  // A quarter is right as it is: the states behind right answers are where it gets interesting.
  for (let left = random(4); left > 0; left--) {
    const at = random(length)
    const what = random(5)
    if (what === 0) scratch[at]! ^= 1 << random(8)
    else if (what === 1) scratch[at] = random(256)
    else if (what === 2) length = Math.max(1, at)
    else if (what === 3) length = Math.min(scratch.length, length + random(16))
    else scratch.copy(scratch, at, random(length), Math.min(length, at + 8))
  }
  return scratch.subarray(0, length)
}

test('mutated answers by the hundred thousand: nothing thrown, nothing piled up, and it ends when told', () => {
  const rng = { uint32: () => random(2 ** 32), fill: (bytes: Uint8Array) => void bytes.fill(7) }
  const http = new FakeGateway({ upnp: 1 })
  let now = 1_000 * SECOND
  let mapper = new GatewayMapper({ rng, gateway: GATEWAY, internal: CLIENT })
  const seen = new Map<string, number>()
  mapper.open(now)
  for (let n = 0; n < MESSAGES; n++) {
    try {
      const { bytes, port } = seeds[random(seeds.length)]!
      const from = { address: random(16) === 0 ? '192.168.1.66' : GATEWAY, port: random(16) === 0 ? 1 : port }
      mapper.handleDatagram(now, { remote: from }, mutated(bytes))
      now += random(8) === 0 ? random(200 * SECOND) : random(300 * MILLISECOND)
      mapper.handleTimeout(now)
      let transmits = 0
      while (mapper.pollTransmit()) transmits += 1
      assert.ok(transmits <= 16, `${transmits} datagrams for one`)
      for (let event = mapper.pollEvent(); event; event = mapper.pollEvent()) {
        seen.set(event.type, (seen.get(event.type) ?? 0) + 1)
        if (event.type !== 'http') continue
        assert.equal(event.request.url.hostname, GATEWAY)
        const right = http.http(now, event.request)
        const body =
          random(4) === 0
            ? mutated(Buffer.from((right?.body ?? '').slice(0, 2_000))).toString('latin1')
            : undefined
        const response = right && body !== undefined ? { ...right, body } : right
        mapper.handleHttp(now, event.request.id, random(8) === 0 ? undefined : response)
      }
      if (random(2_000) !== 0) continue
      http.log.length = 0
      mapper.close(now)
      for (let left = 4; left > 0; left--) mapper.handleTimeout((now += SECOND))
      let last
      for (let event = mapper.pollEvent(); event; event = mapper.pollEvent()) last = event.type
      assert.equal(last, 'removed')
      assert.equal(mapper.pollTimeout(), undefined)
      mapper = new GatewayMapper({ rng, gateway: GATEWAY, internal: CLIENT })
      mapper.open(now)
    } catch (error) {
      throw new Error(`NATWORK_FUZZ_SEED=${seed}, message ${n}`, { cause: error })
    }
  }
  // It has been everywhere.
  for (const type of ['mapped', 'lost', 'unavailable', 'http']) assert.ok((seen.get(type) ?? 0) > 100, type)
})
