import { once } from 'node:events'
import type { Case } from '../case.ts'

/** Connections that have carried one byte each way and then do nothing. */
const idle: Case = {
  serve(stream, counters) {
    counters.held.push(stream)
    stream.on('data', (bytes: Uint8Array) => stream.write(bytes))
  },

  async run(dial, counters) {
    while (counters.count < IDLE_CONNECTIONS) {
      const stream = await dial()
      counters.held.push(stream)
      stream.write('?')
      await once(stream, 'data')
      counters.count++
    }
  },
}

export default idle

export const IDLE_CONNECTIONS = 1_000
