import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Ledger } from '../../../src/cli/relay/ledger.ts'

const unlimited = { allocations: 1_000, allocationsPerUser: 1_000, allocationsPerSource: 1_000 }

test('quotas hold over all workers, whichever of them asks', () => {
  const ledger = new Ledger({ allocations: 5, allocationsPerUser: 3, allocationsPerSource: 4 })
  assert.equal(ledger.admit(1, 'alice', '192.0.2.1'), undefined)
  assert.equal(ledger.admit(2, 'alice', '192.0.2.2'), undefined)
  assert.equal(ledger.admit(1, 'alice', '192.0.2.3'), undefined)
  assert.equal(ledger.admit(2, 'alice', '192.0.2.4')?.code, 486)
  ledger.release(2, 'alice', '192.0.2.4')
  assert.equal(ledger.admit(1, 'bob', '192.0.2.5'), undefined)
  assert.equal(ledger.admit(2, 'bob', '192.0.2.6'), undefined)
  assert.equal(ledger.admit(2, 'bob', '192.0.2.7')?.code, 508)
})

test('an IPv6 /64 is one source', () => {
  const ledger = new Ledger({ ...unlimited, allocationsPerSource: 1 })
  assert.equal(ledger.admit(1, 'a', '2001:db8:1:2::1'), undefined)
  assert.equal(ledger.admit(2, 'b', '2001:db8:1:2::2')?.code, 486)
  assert.equal(ledger.admit(2, 'c', '2001:db8:1:3::2'), undefined)
})

test('a worker that dies takes with it what it had', () => {
  const ledger = new Ledger({ ...unlimited, allocationsPerUser: 2 })
  ledger.admit(1, 'alice', '192.0.2.1')
  ledger.admit(2, 'alice', '192.0.2.1')
  ledger.relays(1, ['198.51.100.1 50000', '198.51.100.1 50001'], [])
  ledger.relays(2, ['198.51.100.1 50002'], [])
  ledger.relays(1, [], ['198.51.100.1 50001'])
  assert.deepEqual(ledger.relayedElsewhere(2), ['198.51.100.1 50000'])
  assert.deepEqual(ledger.forget(1), ['198.51.100.1 50000'])
  assert.deepEqual(ledger.relayedElsewhere(2), [])
  assert.equal(ledger.admit(2, 'alice', '192.0.2.1'), undefined)
  assert.equal(ledger.admit(2, 'alice', '192.0.2.1')?.code, 486)
})

test('what is released can be had again, to the last one', () => {
  const LIMIT = 4
  const steps = fc.array(
    fc.record({ worker: fc.integer({ min: 1, max: 3 }), user: fc.constantFrom('a', 'b') }),
  )
  fc.assert(
    fc.property(steps, (asked) => {
      const ledger = new Ledger({ ...unlimited, allocationsPerUser: LIMIT })
      const had: { worker: number; user: string }[] = []
      for (const one of asked) {
        const before = had.filter(({ user }) => user === one.user).length
        const refused = ledger.admit(one.worker, one.user, '192.0.2.1') !== undefined
        assert.equal(refused, before >= LIMIT)
        // Counted until it is released, whatever the answer was.
        if (refused) ledger.release(one.worker, one.user, '192.0.2.1')
        else had.push(one)
      }
      for (const { worker, user } of had) ledger.release(worker, user, '192.0.2.1')
      for (let n = 0; n < LIMIT; n++) assert.equal(ledger.admit(1, 'a', '192.0.2.1'), undefined)
    }),
  )
})
