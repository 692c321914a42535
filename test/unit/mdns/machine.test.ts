import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode, encode } from 'dns-packet'
import { SECOND } from '../../../src/core/machine.ts'
import { nameOf, SERVICE, writeAnnouncement, writeQuery } from '../../../src/mdns/message.ts'
import { Wire, type Host } from './wire.ts'

const one = '192.168.1.1'
const two = '192.168.1.2'
const three = '192.168.1.3'
const labels = ({ sightings }: Host): string[] => sightings.all.map(({ label }) => label).sort()

test('nodes find each other whoever was there first, and go with a good-bye', () => {
  const wire = new Wire()
  const first = wire.join('bone', one)
  wire.pass(30)
  const second = wire.join('btwo', two)
  wire.pass(1)
  assert.deepEqual(labels(first), ['btwo'])
  assert.deepEqual(second.sightings.placesOf('bone'), [{ address: one, port: 1315 }])
  wire.leave(second)
  assert.deepEqual(labels(first), [])
})

test('one that browses finds the others and stays unseen', () => {
  const wire = new Wire()
  const first = wire.join('bone', one)
  const looking = wire.join('btwo', two, false)
  wire.pass(200)
  assert.deepEqual(labels(looking), ['bone'])
  assert.deepEqual(labels(first), [])
  assert.equal(wire.count('response', two), 0)
  wire.leave(looking)
  assert.equal(wire.count('response', two), 0)
})

test('who vanishes is forgotten after two minutes, who stays is not', () => {
  const wire = new Wire()
  const first = wire.join('bone', one)
  wire.join('btwo', two)
  const gone = wire.join('bthree', three)
  wire.pass(10)
  assert.deepEqual(labels(first), ['bthree', 'btwo'])
  wire.vanish(gone)
  wire.pass(119)
  for (let n = 0; n < 20; n++) {
    wire.pass(60)
    assert.deepEqual(labels(first), ['btwo'])
  }
})

test('in the long run a few questions, and one answer of each, are enough for all in a minute and a half', () => {
  const wire = new Wire()
  const hosts = Array.from({ length: 10 }, (_, n) => wire.join(`b${'cdefghijkl'[n]}`, `192.168.1.${n + 10}`))
  wire.pass(600)
  wire.forget()
  wire.pass(960)
  // 0.8 × 120 s: ten times. And once each of the ten asks of itself.
  assert.ok(wire.count('query') <= 40, String(wire.count('query')))
  for (const { address } of hosts) assert.ok(wire.count('response', address) <= 12)
  for (const host of hosts) assert.equal(host.sightings.all.length, 9)
})

test('alone, a node asks ever more seldom', () => {
  const wire = new Wire()
  wire.join('bone', one)
  wire.pass(3_600)
  // After 0, 1, 3, 7… seconds.
  assert.equal(wire.count('query'), 12)
  assert.equal(wire.count('response'), 2)
  const gaps = wire.heard.filter(({ message }) => message?.kind === 'query').map(({ at }) => at)
  assert.ok(gaps.every((at, n) => n === 0 || at - gaps[n - 1]! >= SECOND))
})

test('ask() asks again: at once, but never twice in a second', () => {
  const wire = new Wire()
  const host = wire.join('bone', one)
  wire.pass(3_000)
  wire.forget()
  const asked = (): void => {
    host.machine.ask(wire.now)
    wire.pass(0)
  }
  asked()
  assert.equal(wire.count('query'), 1)
  for (let n = 0; n < 50; n++) {
    asked()
    wire.pass(0.1)
  }
  assert.ok(wire.count('query') <= 6, String(wire.count('query')))
})

test('what is known need not be answered; who is asked for by name answers at once', () => {
  const wire = new Wire()
  wire.join('bone', one)
  wire.pass(30)
  wire.forget()
  wire.say(writeQuery([{ label: 'bone', remaining: 4_500 }]))
  wire.pass(5)
  assert.equal(wire.count('response'), 0)
  // Half of its time is over: RFC 6762 §7.1.
  wire.say(writeQuery([{ label: 'bone', remaining: 2_249 }]))
  wire.pass(5)
  assert.equal(wire.count('response'), 1)
  const asked = wire.now
  for (const type of ['SRV', 'TXT', 'A', 'AAAA', 'ANY'] as const) {
    wire.forget()
    wire.pass(2)
    const at = wire.now
    wire.say(encode({ type: 'query', questions: [{ name: nameOf('BONE'), type: type as 'SRV' }] }))
    wire.pass(0)
    assert.equal(wire.count('response'), 1, type)
    assert.equal(wire.heard[0]?.at, at)
  }
  assert.ok(wire.now > asked)
  wire.forget()
  wire.pass(2)
  wire.say(encode({ type: 'query', questions: [{ name: nameOf('bother'), type: 'SRV' }] }))
  wire.say(encode({ type: 'query', questions: [{ name: '_other._udp.local', type: 'PTR' }] }))
  wire.pass(5)
  assert.equal(wire.count('response'), 0)
})

test('no record goes out twice in a second, however often it is asked for', () => {
  const wire = new Wire()
  wire.join('bone', one)
  wire.pass(10)
  wire.forget()
  for (let n = 0; n < 100; n++) {
    wire.say(encode({ type: 'query', questions: [{ name: nameOf('bone'), type: 'SRV' }] }))
    wire.pass(0.05)
  }
  assert.ok(wire.count('response') <= 6, String(wire.count('response')))
})

test('an answer says what it must and no more; `dig` gets one of its own', () => {
  const wire = new Wire()
  wire.join('bone', one)
  wire.pass(10)
  const name = nameOf('bone')
  const { answers = [] } = decode(
    Buffer.from(wire.heard.find(({ message }) => message?.kind === 'response')!.bytes),
  )
  assert.deepEqual(
    answers.map((record) => [
      record.name,
      record.type,
      'ttl' in record && record.ttl,
      'flush' in record && record.flush,
    ]),
    [
      [SERVICE, 'PTR', 4_500, false],
      [name, 'SRV', 120, true],
      [name, 'TXT', 4_500, true],
      [name, 'A', 120, true],
      [name, 'NSEC', 120, true],
    ],
  )
  wire.forget()
  wire.say(encode({ type: 'query', id: 77, questions: [{ name: SERVICE, type: 'PTR' }] }), three, 40_000)
  const [legacy] = wire.heard
  assert.deepEqual(legacy?.to, { address: three, port: 40_000 })
  const answer = decode(Buffer.from(legacy.bytes))
  assert.equal(answer.id, 77)
  assert.deepEqual(
    answer.questions?.map(({ name: asked, type }) => [asked, type]),
    [[SERVICE, 'PTR']],
  )
  for (const record of answer.answers ?? []) {
    assert.ok('ttl' in record && record.ttl === 10 && record.flush === false)
  }
})

test('answers from another port than 5353 are none', () => {
  const wire = new Wire()
  const host = wire.join('bone', one)
  wire.pass(5)
  wire.say(writeAnnouncement({ label: 'bliar', port: 9, addresses: [three] }), three, 5_354)
  assert.deepEqual(labels(host), [])
})

test('after a flood what comes later is heard again', () => {
  const wire = new Wire()
  const host = wire.join('bone', one)
  wire.pass(5)
  const noise = writeAnnouncement({ label: 'bnoise', port: 9, addresses: [three] })
  for (let n = 0; n < 5_000; n++) wire.say(noise)
  wire.say(writeAnnouncement({ label: 'btwo', port: 1315, addresses: [two] }), two)
  assert.deepEqual(labels(host), ['bnoise'])
  wire.pass(1)
  wire.say(writeAnnouncement({ label: 'btwo', port: 1315, addresses: [two] }), two)
  assert.deepEqual(labels(host), ['bnoise', 'btwo'])
})
