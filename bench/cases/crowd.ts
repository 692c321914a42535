import { once } from 'node:events'
import type { Case } from '../case.ts'
import { pour } from './bulk.ts'

/** Ten thousand connections on one socket, of which nine thousand stay idle while the others are as fast as they go. */
const crowd: Case = {
  serve(stream, counters) {
    counters.held.push(stream)
    stream.once('data', (hello: Uint8Array) => {
      stream.write(hello.subarray(0, 1))
      const counter = { bytes: 0, last: performance.now(), gap: 0 }
      stream.on('data', (chunk: Uint8Array) => {
        const now = performance.now()
        if (counter.bytes === 0) counters.streams.push(counter)
        else counter.gap = Math.max(counter.gap, now - counter.last)
        counter.last = now
        counter.bytes += chunk.byteLength
        counters.bytes += chunk.byteLength
      })
    })
  },

  async run(dial, counters) {
    for (let i = 0; i < OPEN_CONNECTIONS; i++) {
      const stream = await dial()
      counters.held.push(stream)
      stream.write('?')
      await once(stream, 'data')
    }
    for (const stream of counters.held.slice(0, BUSY_CONNECTIONS)) pour(stream)
  },
}

export default crowd

export const OPEN_CONNECTIONS = 10_000
export const BUSY_CONNECTIONS = 1_000
