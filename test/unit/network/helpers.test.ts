// How a node keeps its helpers, against a pool of control streams that is made up. Under a second.
import assert from 'node:assert/strict'
import { EventEmitter, getEventListeners, on } from 'node:events'
import { test } from 'node:test'
import { silentLogger } from '../../../src/core/index.ts'
import type { ControlPool } from '../../../src/network/control-pool.ts'
import type { Session } from '../../../src/network/session.ts'
import { Helpers } from '../../../src/network/signalling/helpers.ts'

test('a helper that is lost again and again leaves nothing behind', async (t) => {
  const id = 'some helper'
  const address = { address: '192.0.2.1', port: 1315 }
  let ended: AbortSignal | undefined
  const session = {
    identity: { id: 'this node' },
    context: {
      logger: silentLogger,
      listNodes: () => Promise.resolve([id]),
      getNode: (_: string, signal: AbortSignal) => {
        ended = signal
        return Promise.resolve({ id, helps: true, addresses: [address] })
      },
    },
    utp: { address, endpoint: { hostAt: (at: unknown) => at } },
  }
  const attached = new EventEmitter<{ lease: [lose: () => void] }>()
  const pool = {
    attach: () => {
      let lose = (): void => undefined
      const channel = { alive: true, probe: () => undefined, closed: new Promise<void>((r) => (lose = r)) }
      setImmediate(() => attached.emit('lease', lose))
      return Promise.resolve({ channel, release: () => undefined })
    },
  }
  const helpers = new Helpers(session as unknown as Session, pool as unknown as ControlPool, [], {
    onChange: () => undefined,
    udpWorks: () => true,
  })
  t.after(() => helpers.stop())
  const counts: number[] = []
  const leases = on(attached, 'lease')
  await helpers.start(0)
  for await (const [lose] of leases as AsyncIterable<[() => void]>) {
    counts.push(ended === undefined ? NaN : getEventListeners(ended, 'abort').length)
    if (counts.length === 20) break
    lose()
    // What has been lost is tried again at once, not after a while.
    while (helpers.channels.length > 0) await new Promise(setImmediate)
    helpers.check()
  }
  assert.ok((counts.at(-1) ?? NaN) <= (counts[1] ?? NaN), `listeners: ${counts.join(', ')}`)
})
