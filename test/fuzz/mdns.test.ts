import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode, type Answer } from 'dns-packet'
import { SECOND } from '../../src/core/machine.ts'
import { nameOf, SERVICE, writeAnnouncement, writeQuery } from '../../src/mdns/message.ts'
import { Wire } from '../unit/mdns/wire.ts'

// 30,000 datagrams of hostile neighbours in about 3 seconds. Another seed: NATWORK_FUZZ_SEED=… ; it is printed when something
// fails.

const MESSAGES = 30_000
const seed = Number(process.env['NATWORK_FUZZ_SEED'] ?? 20261122)

let state = seed | 1
/** Xorshift: uniform enough, and the same everywhere. */
function random(below: number): number {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) % below
}
const pick = <T>(all: readonly T[]): T => all[random(all.length)]!

/** Names that are nearly right, and thousands that are. */
function label(): string {
  return pick([
    () => `b${random(10_000)}`,
    () => 'bone',
    () => 'BONE',
    () => '',
    () => 'b'.repeat(63),
    () => 'x.y.z',
    () => '__proto__',
    () => '\u0000\uffff',
  ])()
}

function address(): string {
  return pick(['192.168.1.7', '127.0.0.1', '224.0.0.251', '0.0.0.0', '10.0.0.1', `192.168.${random(256)}.9`])
}

function message(): Buffer {
  const name = pick([nameOf(label()), SERVICE, 'other.local', '.'])
  const target = pick([name, name, nameOf(label())])
  const ttl = pick([0, 1, 120, 4_500, 2 ** 31, 2 ** 32 - 1])
  const answers: Answer[] = Array.from({ length: random(12) }, () =>
    pick<() => Answer>([
      () => ({ name: SERVICE, type: 'PTR', ttl, data: name }),
      () => ({ name, type: 'SRV', ttl, data: { port: pick([0, 1, 1315, 65_535]), target } }),
      () => ({ name, type: 'A', ttl, flush: true, data: address() }),
      () => ({
        name,
        type: 'AAAA',
        ttl,
        data: pick(['fe80::1', '::', '::1', 'ff02::fb', '::ffff:127.0.0.1', 'fd00::2']),
      }),
      () => ({ name, type: 'TXT', ttl, data: 'x'.repeat(random(200)) }),
      () => ({ name, type: 'NSEC', ttl, data: { nextDomain: target, rrtypes: ['A', 'SRV'] } }),
      () => ({ name, type: 'NULL', ttl, data: Buffer.alloc(random(100)) }),
    ])(),
  )
  const questions = Array.from({ length: random(3) }, () => ({
    name,
    type: pick(['PTR', 'SRV', 'A', 'TXT'] as const),
  }))
  const type = pick(['query', 'response'] as const)
  return encode({
    type,
    id: random(65_536),
    flags: pick([0, 0, 0, random(65_536) & 0x7fff]),
    questions,
    answers,
  })
}

/** As dns-packet wrote it, or with bytes changed, cut off or put in. */
function damaged(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes)
  if (random(3) === 0) return copy
  for (let n = random(8); n > 0; n--) copy[random(copy.length)] = pick([0, 0xff, 0xc0, 0x3f, random(256)])
  if (random(4) === 0) return copy.subarray(0, random(copy.length + 1))
  return random(8) === 0 ? Buffer.concat([copy, Buffer.alloc(random(12_000), random(256))]) : copy
}

/** Names of 126 labels, each record pointing to them: what takes longest to read for its length. */
function slow(records: number, size: number): Buffer {
  const name = Buffer.from('\x01a'.repeat(110) + '\x08_natwork\x04_udp\x05local\x00')
  const head = Buffer.alloc(12)
  head.writeUInt16BE(0x8400, 2)
  head.writeUInt16BE(records, 6)
  const body = Buffer.from([0, 255, 0, 1, 0, 0, 0, 1, 0, 0])
  const repeated = Buffer.from([0xc0, 12, ...body])
  const all = Buffer.concat([head, name, body, ...Array.from({ length: records - 1 }, () => repeated)])
  return Buffer.concat([all, Buffer.alloc(Math.max(0, size - all.length))])
}

test('nothing that neighbours send throws, or makes a node remember or say more than it may', (t) => {
  const wire = new Wire()
  const host = wire.join('bone', '192.168.1.1')
  wire.pass(5)
  wire.forget()
  const began = wire.now
  const corpus = [
    () => message(),
    () => damaged(message()),
    () =>
      damaged(
        Buffer.from(
          writeAnnouncement({ label: label(), port: 1315, addresses: [address()] }, random(4) === 0),
        ),
      ),
    () => damaged(Buffer.from(writeQuery([{ label: `b${random(100)}`, remaining: random(5_000) }]))),
    () => Buffer.from(Array.from({ length: random(64) }, () => random(256))),
  ]
  let legacy = 0
  try {
    for (let n = 0; n < MESSAGES; n++) {
      const from = pick(['192.168.1.7', `192.168.1.${random(256)}`, 'fe80::9%eth0'])
      wire.say(pick(corpus)(), from, pick([5_353, 5_353, 5_353, random(65_536)]))
      if (n % 4 === 0) wire.pass(0.1)
      legacy += wire.heard.filter(({ to }) => to.port !== 5_353).length
      for (const one of wire.heard) assert.ok(one.bytes.length <= 1_452)
      if (n % 1_000 === 0) {
        assert.ok(host.sightings.all.length <= 256)
        for (const { places } of host.sightings.all) assert.ok(places.length <= 16)
      }
      if (n < MESSAGES - 1) countMulticast(wire)
    }
  } catch (error) {
    t.diagnostic(`NATWORK_FUZZ_SEED=${seed}`)
    throw error
  }
  const seconds = (wire.now - began) / SECOND
  assert.ok(sent <= 2 * seconds + 2, `${sent} in ${seconds} s`)
  assert.ok(legacy <= 50 * seconds + 200)
  assert.ok(host.sightings.all.length > 0)
  wire.pass(121)
  assert.deepEqual(host.sightings.all, [])
})

let sent = 0
/** Once a second at most: one question and one answer. */
function countMulticast(wire: Wire): void {
  sent += wire.heard.filter(({ to }) => to.port === 5_353).length
  wire.forget()
}

test('what is long, or has many records, or is about something else, is not decoded', () => {
  const wire = new Wire()
  const { machine } = wire.join('bone', '192.168.1.1')
  wire.pass(5)
  const isRead = (bytes: Uint8Array): boolean => {
    wire.pass(1)
    return machine.handleDatagram(wire.now, { remote: { address: '192.168.1.7', port: 5353 } }, bytes)
  }
  assert.ok(isRead(slow(64, 0)))
  assert.ok(isRead(slow(64, 9_000)))
  assert.ok(!isRead(slow(65, 0)))
  assert.ok(!isRead(slow(64, 9_001)))
  const other = encode({ type: 'query', questions: [{ name: '_ipp._tcp.local', type: 'PTR' }] })
  assert.ok(!isRead(other))
  assert.ok(isRead(encode({ type: 'query', questions: [{ name: SERVICE, type: 'PTR' }] })))
})
