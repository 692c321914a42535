import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createIdentity, generatePrivateKey } from '../../src/network/identity.ts'
import { parseTicket, signTicket } from '../../src/network/ticket.ts'

const identity = await createIdentity(generatePrivateKey())

const address = fc.record(
  {
    address: fc.oneof(
      fc.ipV4(),
      fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 }).map((parts) => {
        return parts.map((part) => part.toString(16)).join(':')
      }),
    ),
    port: fc.integer({ min: 1, max: 65_535 }),
  },
  { noNullPrototype: true },
)

const terms = fc.record(
  {
    service: fc.stringMatching(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/),
    expires: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
    uses: fc.integer({ min: 1, max: 1_000 }),
    addresses: fc.array(address, { maxLength: 16 }),
    helpers: fc.array(address, { maxLength: 2 }).map((places) => {
      return places.map((place) => ({ id: identity.id, address: place }))
    }),
  },
  { noNullPrototype: true },
)

test('a ticket says what was signed', () => {
  fc.assert(
    fc.property(terms, (given) => {
      const ticket = signTicket(identity, given)
      assert.match(ticket.text, /^natwork1[1-9A-HJ-NP-Za-km-z]+$/)
      assert.deepEqual(parseTicket(` ${ticket.text}\n`), ticket)
      assert.equal(ticket.id, identity.id)
    }),
  )
})

test('a ticket with any character changed, missing or added is refused with a typed error', () => {
  const { text } = signTicket(identity, {
    service: 'web',
    expires: 2_000_000_000,
    uses: 1,
    addresses: [{ address: '192.0.2.1', port: 1315 }],
  })
  fc.assert(
    fc.property(
      fc.nat(text.length - 1),
      fc.integer({ min: 0x21, max: 0x7e }),
      fc.integer({ min: 0, max: 2 }),
      (at, code, kind) => {
        const character = String.fromCharCode(code)
        fc.pre(kind !== 0 || text[at] !== character)
        const altered =
          text.slice(0, at) + (kind === 2 ? '' : character) + text.slice(kind === 1 ? at : at + 1)
        fc.pre(altered !== text)
        assert.throws(
          () => parseTicket(altered),
          (error: Error & { code?: string }) => {
            assert.equal(error.code, 'ERR_NATWORK_TICKET')
            assert.ok(!error.message.includes(altered), 'the message repeats what may be a secret')
            return true
          },
        )
      },
    ),
    { numRuns: 1_000 },
  )
})

test('no text makes the parser throw anything else', () => {
  const likely = fc.oneof(
    fc.string(),
    fc.string().map((text) => `natwork1${text}`),
    fc.stringMatching(/^natwork1[1-9A-HJ-NP-Za-km-z]{0,300}$/),
  )
  fc.assert(
    fc.property(likely, (text) => {
      assert.throws(() => parseTicket(text), { name: 'UsageError', code: 'ERR_NATWORK_TICKET' })
    }),
    { numRuns: 500 },
  )
})

test('tickets of another version and overlong ones are told apart', () => {
  assert.throws(() => parseTicket('natwork2abc'), { message: /another version/ })
  assert.throws(() => parseTicket('hello'), { message: /begins with "natwork1"/ })
  assert.throws(() => parseTicket(`natwork1${'a'.repeat(2_100)}`), { message: /too long/ })
})
