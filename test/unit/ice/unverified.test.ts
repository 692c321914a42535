import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SECOND } from '../../../src/core/machine.ts'
import { MAX_PER_TARGET, MAX_TARGETS } from '../../../src/ice/bounds.ts'
import { TargetBudget } from '../../../src/ice/unverified.ts'

test('naming many other addresses gives a victim no second budget', () => {
  const budget = new TargetBudget()
  for (let n = 0; n < MAX_PER_TARGET; n++) assert.ok(budget.take(0, '192.0.2.1'))
  assert.equal(budget.take(0, '192.0.2.1'), false)
  for (let n = 0; n < MAX_TARGETS * 2; n++) budget.take(1, `10.0.${n >> 8}.${n & 255}`)
  assert.equal(budget.take(2, '192.0.2.1'), false)
  assert.equal(budget.take(2, '192.0.2.2'), false, 'the table is full')
  assert.ok(budget.take(3_600 * SECOND, '192.0.2.1'))
})

test('what went to one who answers counts no longer, and an agreed budget comes on top', () => {
  const budget = new TargetBudget()
  for (let n = 0; n < MAX_PER_TARGET; n++) budget.take(0, '192.0.2.1')
  budget.giveBack('192.0.2.1', 10)
  for (let n = 0; n < 10; n++) assert.ok(budget.take(0, '192.0.2.1'))
  assert.equal(budget.take(0, '192.0.2.1'), false)
  assert.ok(budget.take(0, '192.0.2.1', 1))
  assert.equal(budget.take(0, '192.0.2.1', 1), false)
})

test('what the owner has agreed to leaves the others their room', () => {
  const budget = new TargetBudget()
  for (let n = 0; n < 2 * MAX_PER_TARGET; n++) assert.ok(budget.take(0, '192.0.2.1', 2 * MAX_PER_TARGET))
  for (let n = 0; n < MAX_PER_TARGET; n++) assert.ok(budget.take(0, '192.0.2.1'))
  assert.equal(budget.take(0, '192.0.2.1'), false)
  budget.giveBack('192.0.2.1', 2 * MAX_PER_TARGET + 1)
  assert.ok(budget.take(0, '192.0.2.1'))
  assert.equal(budget.take(0, '192.0.2.1'), false)
})
