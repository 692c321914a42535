// A server that answers mutated nonsense to a TURN client: 60,000 messages, 5 s. Longer, or another seed:
// NATWORK_FUZZ_MESSAGES=10000000 NATWORK_FUZZ_SEED=…
import assert from 'node:assert/strict'
import test from 'node:test'
import { crc32 } from '../../src/stun/codec/crc32.ts'
import { FINGERPRINT_XOR } from '../../src/stun/codec/view.ts'
import { Attribute, Method } from '../../src/stun/index.ts'
import { Answers, RELAYED, Stage, type Script } from '../unit/turn/scripted.ts'

const MESSAGES = Number(process.env['NATWORK_FUZZ_MESSAGES'] ?? 60_000)
const seed = Number(process.env['NATWORK_FUZZ_SEED'] ?? 20261122)

let state = seed | 1
/** Xorshift: uniform enough, and the same everywhere. */
function random(below: number): number {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % below
}

const lies = [0, 1, 3, 4, 5, 8, 20, 0x40, 0x7fff, 0xfffc, 0xffff]
const types = [
  Attribute.XorRelayedAddress,
  Attribute.Lifetime,
  Attribute.XorPeerAddress,
  Attribute.Data,
  Attribute.Icmp,
  Attribute.MobilityTicket,
  Attribute.ErrorCode,
  Attribute.ConnectionId,
  Attribute.AlternateServer,
  Attribute.Nonce,
  Attribute.Realm,
  Attribute.MessageIntegrity,
]

/** Some bytes changed; mostly with the length field put right again, so that it gets further. */
function mutated(message: Uint8Array): Buffer {
  let bytes = Buffer.from(message)
  for (let left = random(4); left > 0 && bytes.length > 0; left--) {
    const at = random(bytes.length)
    switch (random(6)) {
      case 0:
        bytes[at]! ^= 1 << random(8)
        break
      case 1:
        bytes[at] = random(256)
        break
      case 2:
        if (bytes.length > 1) {
          bytes.writeUInt16BE(lies[random(lies.length)]!, Math.min(at & ~1, bytes.length - 2))
        }
        break
      case 3:
        bytes = bytes.subarray(0, at)
        break
      case 4:
        bytes = Buffer.concat([bytes, Buffer.alloc(random(40), random(256))])
        break
      default: {
        const attribute = Buffer.alloc(4 + 4 * random(6), random(256))
        attribute.writeUInt16BE(types[random(types.length)]!, 0)
        attribute.writeUInt16BE(attribute.length - 4, 2)
        bytes = Buffer.concat([bytes, attribute])
      }
    }
  }
  if (bytes.length >= 20 && bytes[0]! < 0x40 && random(8) > 0) {
    bytes = bytes.subarray(0, bytes.length & ~3)
    bytes.writeUInt16BE(bytes.length - 20, 2)
    if (bytes.length >= 28 && bytes.readUInt16BE(bytes.length - 8) === Attribute.Fingerprint) {
      bytes.writeUInt32BE((crc32(bytes, bytes.length - 8) ^ FINGERPRINT_XOR) >>> 0, bytes.length - 4)
    }
  }
  return bytes
}

const codes = [300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 500, 508]

/** Mostly what a good server says, more or less; or an error; or nothing. */
const hostile: Script = (request, answer) => {
  switch (random(8)) {
    case 0:
      return undefined
    case 1:
      return mutated(answer.error(codes[random(codes.length)]!))
    case 2:
      return mutated(answer.unsigned.error(codes[random(codes.length)]!))
    case 3:
      return mutated(
        answer.ok((builder) =>
          builder
            .xorAddress(Attribute.XorRelayedAddress, RELAYED)
            .uint32(Attribute.Lifetime, random(700))
            .uint32(Attribute.ConnectionId, random(9))
            .bytes(Attribute.MobilityTicket, new Uint8Array(random(20))),
        ),
      )
    default:
      return mutated(new Answers(request, random(4) > 0 ? answer.signer : undefined).usual())
  }
}

const peer = (): { address: string; port: number } => ({
  address: `198.51.100.${random(9)}`,
  port: 1 + random(5),
})

function message(stage: Stage): Buffer {
  switch (random(4)) {
    case 0:
      return mutated(stage.data(peer(), (builder) => builder.bytes(Attribute.Data, Buffer.alloc(random(60)))))
    case 1:
      return mutated(stage.data(peer(), (builder) => builder.bytes(Attribute.Icmp, Buffer.alloc(random(12)))))
    case 2: {
      const frame = Buffer.alloc(4 + random(50), random(256))
      frame.writeUInt16BE(0x4000 + random(20), 0)
      frame.writeUInt16BE(random(3) === 0 ? random(65536) : frame.length - 4, 2)
      return mutated(frame)
    }
    default:
      return Buffer.from(Array.from({ length: random(80) }, () => random(256)))
  }
}

test(`mutated answers, indications and ChannelData, seed ${seed}`, () => {
  let messages = 0
  let allocations = 0
  let received = 0
  for (let round = 1; messages < MESSAGES; round++) {
    const stage = new Stage({
      seed: round,
      credentials: round % 2 === 0,
      reliable: round % 5 === 0,
      script: hostile,
      request: {
        ...(round % 3 === 0 && { mobility: true }),
        ...(round % 7 === 0 && { family: 'both' as const }),
        ...(round % 4 === 0 && { dontFragment: true }),
        ...(round % 5 === 0 && { protocol: 'tcp' as const }),
      },
    })
    for (let step = 0; step < 400; step++) {
      stage.client.allocate(stage.now)
      if (random(3) === 0) stage.send(peer(), Buffer.alloc(random(30)))
      else if (random(20) === 0) stage.client.permit(stage.now, peer().address)
      else if (random(50) === 0) stage.client.recheck(stage.now)
      else if (random(50) === 0) stage.client.disconnected(stage.now)
      else if (random(50) === 0) stage.client.connected(stage.now, stage.client.server)
      for (let n = random(4); n > 0; n--, messages++) stage.receive(message(stage))
      stage.run(random(4) === 0 ? random(60) : random(100) / 50)
      // However it answers: no storm of requests, and nothing that piles up.
      assert.ok(stage.requests.length < 400, `${stage.requests.length} requests in one step`)
      messages += stage.requests.length
      allocations += stage.requests.filter(({ method }) => method === Method.Allocate).length
      received += stage.input.length
      stage.requests.length = stage.events.length = stage.output.length = stage.input.length = 0
    }
    stage.client.close(stage.now)
    stage.script = () => undefined
    stage.pump()
    stage.run(60)
    assert.equal(stage.types.at(-1), 'closed')
    assert.equal(stage.client.pollTimeout(), undefined)
  }
  // The fuzz gets somewhere.
  assert.ok(allocations > MESSAGES / 100 && received > MESSAGES / 200, `${allocations}, ${received}`)
})
