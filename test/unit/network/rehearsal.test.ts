// A node's call to itself, before it has heard of anybody.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import { rehearse } from '../../../src/network/rehearsal.ts'

test('a call to oneself goes as far as a request and its answer, and leaves nothing', async () => {
  const identity = await createIdentity(generatePrivateKey())
  const before = heldOpen()
  await rehearse(identity, new AbortController().signal)
  assert.deepEqual(heldOpen(), before)
})

test('it is given up with the start that it belongs to', async () => {
  const identity = await createIdentity(generatePrivateKey())
  const stopped = new Error('stopped')
  await assert.rejects(rehearse(identity, AbortSignal.abort(stopped)), (error) => error === stopped)
})

/** Timers, handles and requests; what is due in this turn of the loop ends by itself. */
function heldOpen(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((one) => one !== 'Immediate')
    .sort()
}
