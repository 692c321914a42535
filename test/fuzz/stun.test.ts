import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { StunClient } from '../../src/stun/client/client.ts'
import { crc32 } from '../../src/stun/codec/crc32.ts'
import { Attribute, Method } from '../../src/stun/codec/registry.ts'
import { FINGERPRINT_XOR, StunView } from '../../src/stun/codec/view.ts'
import { LongTermAuth } from '../../src/stun/credentials/client.ts'
import { LongTermServerAuth, StaticUsers } from '../../src/stun/credentials/server.ts'
import { StunResponder } from '../../src/stun/server/responder.ts'
import { StunServer } from '../../src/stun/server/server.ts'

// 10 million messages in about 20 seconds. Another seed: NATWORK_FUZZ_SEED=… ; it is printed when something fails.

const MESSAGES = 10_000_000
const seed = Number(process.env['NATWORK_FUZZ_SEED'] ?? 20261122)

const folder = join(import.meta.dirname, '../corpus/stun')
const corpus = readdirSync(folder)
  .filter((name) => name.endsWith('.hex'))
  .sort()
  .map((name) => Buffer.from(readFileSync(join(folder, name), 'utf8').replace(/\s/g, ''), 'hex'))

let state = seed | 1
/** Xorshift: uniform enough, and the same everywhere. */
function random(below: number): number {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % below
}

const scratch = Buffer.alloc(4096)
const lies = [0, 1, 3, 4, 5, 8, 16, 20, 32, 36, 0x7fff, 0xfffc, 0xffff]
const kinds = [0, 8, 9, 0x14, 0x15, 0x1c, 0x1d, 0x20, 0x8028, 0x8002]

/** A seed, mutated; half of them with the length field, and FINGERPRINT, put right again so that they get further. */
function mutated(): Buffer {
  const from = corpus[random(corpus.length)]!
  scratch.set(from)
  let length = from.length
  for (let left = 1 + random(4); left > 0; left--) {
    const at = random(length)
    switch (random(8)) {
      case 0:
        scratch[at]! ^= 1 << random(8)
        break
      case 1:
        scratch[at] = random(256)
        break
      case 2: {
        // Any aligned 16 bits: most are a type or a length.
        const lie = random(3) === 0 ? random(65536) : lies[random(lies.length)]!
        scratch.writeUInt16BE(lie, (at & ~1) % Math.max(2, length - 1))
        break
      }
      case 3:
        length = Math.max(1, at)
        break
      case 4: {
        const more = random(64)
        for (let n = 0; n < more; n++) scratch[length + n] = random(256)
        length += more
        break
      }
      case 5: {
        // Attributes swallowed, doubled and torn: a part moved over another.
        const size = random(40)
        scratch.copy(scratch, at & ~3, random(length) & ~3, Math.min(length, size + 20))
        break
      }
      case 6: {
        const other = corpus[random(corpus.length)]!
        other.copy(scratch, length, 20)
        length += other.length - 20
        break
      }
      default:
        scratch.writeUInt16BE(kinds[random(kinds.length)]!, (at & ~3) % 500)
    }
    if (length > 2048) length = 2048
  }
  if (random(2) === 0 && length >= 20) {
    length &= ~3
    scratch.writeUInt16BE(length - 20, 2)
    scratch.writeUInt32BE(0x2112a442, 4)
    scratch[0]! &= 0x3f
    if (length >= 28 && scratch.readUInt32BE(length - 8) === 0x80280004) {
      scratch.writeUInt32BE((crc32(scratch, length - 8) ^ FINGERPRINT_XOR) >>> 0, length - 4)
    }
  }
  return scratch.subarray(0, length)
}

const types = Object.values(Attribute)
const understood = new Set<number>()
const key = Buffer.from('key')

function readEverything(view: StunView): void {
  let last = 19
  for (let at = view.first(); at !== -1; at = view.next(at)) {
    if (at <= last || at + 4 + view.lengthAt(at) > view.bytes.length) throw new Error('iterating ran away')
    last = at
    view.addressAt(at)
    view.xorAddressAt(at)
  }
  const type = types[random(types.length)]!
  view.text(type)
  view.uint8(type)
  view.uint16(type)
  view.uint32(type)
  view.mappedAddress()
  const error = view.errorCode()
  if (error !== undefined && !(error.code >= 300 && error.code <= 699)) throw new Error(`code ${error.code}`)
  view.unknownAttributes()
  view.passwordAlgorithms(Attribute.PasswordAlgorithms)
  view.unknownRequired(understood)
}

test(`${MESSAGES.toLocaleString('en')} mutated messages: no exception, no growth`, () => {
  let accepted = 0
  let answered = 0
  const rng = { uint32: () => random(2 ** 31), fill: (bytes: Uint8Array) => bytes.fill(0).set([1, 2, 3, 4]) }
  const users = new StaticUsers('example.org', { alice: 'wonderland' })
  const auth = new LongTermServerAuth(users, Buffer.alloc(32, 1), 6e8)
  const origins = { addresses: ['192.0.2.1', '192.0.2.2'], ports: [3478, 3479] } as const
  const servers = [
    new StunServer(new StunResponder({ rng, rateLimit: false, origins }), { classic: true }),
    new StunServer(new StunResponder({ rng, auth, rateLimit: { perSecond: 1e6, burst: 1e6 } })),
  ]
  // The ids of the corpus, so that mutated responses meet open transactions.
  const ids = corpus.map((message) => Buffer.from(message.subarray(8, 20)))
  const path = { remote: { address: '198.51.100.1', port: 4000 } }
  const client = new StunClient({
    rng: { uint32: () => 0, fill: (bytes) => ids[random(ids.length)]!.copy(Buffer.from(bytes.buffer)) },
    maxTransactions: 4,
  })
  const credentials = new LongTermAuth('alice', 'wonderland')

  try {
    const view = new StunView()
    for (let n = 0; n < MESSAGES; n++) {
      const message = mutated()
      if (!view.open(message, (n & 15) === 0)) continue
      accepted++
      readEverything(view)
      // Answering costs hashes and allocations: one in a hundred is a hundred thousand still.
      if (random(100) !== 0) continue
      view.hasIntegrity(key)
      view.hasIntegritySha256(key, 16)

      for (const server of servers) {
        server.handleDatagram(n, path, message)
        if (server.pollTransmit() !== undefined) answered++
        assert.equal(server.pollTransmit(), undefined, 'one answer at most')
      }
      if (client.size < 2) {
        client.request(n, { method: Method.Binding, path, ...(random(2) === 0 && { auth: credentials }) })
      }
      client.handleDatagram(n, path, message)
      while (client.pollTransmit() !== undefined);
      while (client.pollEvent() !== undefined);
      if (random(64) === 0) client.handleTimeout(client.pollTimeout()?.at ?? 0)
      assert.ok(client.size <= 2)
    }
  } catch (error) {
    assert.fail(`seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  }
  // The mutations reach all the way in.
  assert.ok(accepted > MESSAGES / 10, `${accepted} of them still were STUN`)
  assert.ok(answered > MESSAGES / 5000, `${answered} of them were answered`)
})
