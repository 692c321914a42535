import type { Case } from '../case.ts'
import { pour } from './bulk.ts'

/** Many connections at once on one socket, each as fast as it goes: their sum, and how fairly they share. */
const many: Case = {
  serve(stream, counters) {
    const counter = { bytes: 0, last: performance.now(), gap: 0 }
    counters.streams.push(counter)
    stream.on('data', (chunk: Uint8Array) => {
      const now = performance.now()
      counter.gap = Math.max(counter.gap, now - counter.last)
      counter.last = now
      counter.bytes += chunk.byteLength
      counters.bytes += chunk.byteLength
    })
  },

  async run(dial) {
    // All of them before the first pours: a peer's connects shall not compete with its own bulk.
    const streams = []
    for (let i = 0; i < CONNECTIONS; i++) streams.push(await dial())
    for (const stream of streams) pour(stream)
  },
}

export default many

export const CONNECTIONS = 200
