// A node's call to itself, before it has heard of anybody.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { createIdentity, generatePrivateKey, type Identity } from '../../../src/network/identity.ts'
import { rehearse } from '../../../src/network/rehearsal.ts'

test('a call to oneself goes as far as a request and its answer, and leaves no timer behind', async () => {
  const identity = await createIdentity(generatePrivateKey())
  const before = timers()
  await rehearse(identity, new AbortController().signal)
  assert.ok(timers() <= before)
})

test('it is given up with the start that it belongs to, wherever it is', async () => {
  const identity = await createIdentity(generatePrivateKey())
  await assert.rejects(rehearse(identity, AbortSignal.abort(stopped)), (error) => error === stopped)
  let turns = 1
  // What is thrown outside of it fails the test.
  while (await isStopped(identity, turns)) turns++
  assert.ok(turns > 3, `${turns} turns of the loop`)
})

const stopped = new Error('stopped')

/** Whether a stop after so many turns of the loop comes before the end. */
async function isStopped(identity: Identity, turns: number): Promise<boolean> {
  const stop = new AbortController()
  const ended = rehearse(identity, stop.signal).then(
    () => false,
    (error: unknown) => {
      assert.equal(error, stopped)
      return true
    },
  )
  for (let turn = 0; turn < turns; turn++) await setImmediate()
  stop.abort(stopped)
  return await ended
}

/** Of whatever else this process does at the moment, none is a timer. */
function timers(): number {
  return process.getActiveResourcesInfo().filter((one) => one === 'Timeout').length
}
