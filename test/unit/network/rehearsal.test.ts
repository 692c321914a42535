// A node's call to itself, before it has heard of anybody.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import { rehearse } from '../../../src/network/rehearsal.ts'

test('a call to oneself goes as far as a request and its answer, and leaves no timer behind', async () => {
  const identity = await createIdentity(generatePrivateKey())
  const before = timers()
  await rehearse(identity, new AbortController().signal)
  assert.ok(timers() <= before)
})

test('it is given up with the start that it belongs to', async () => {
  const identity = await createIdentity(generatePrivateKey())
  const stopped = new Error('stopped')
  await assert.rejects(rehearse(identity, AbortSignal.abort(stopped)), (error) => error === stopped)
})

/** Of whatever else this process does at the moment, none is a timer. */
function timers(): number {
  return process.getActiveResourcesInfo().filter((one) => one === 'Timeout').length
}
