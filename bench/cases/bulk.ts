import type { Duplex } from 'node:stream'
import type { Case } from '../case.ts'

/** One connection, as fast as it goes, client to server. */
const bulk: Case = {
  serve(stream, counters) {
    stream.on('data', (chunk: Uint8Array) => {
      counters.bytes += chunk.byteLength
    })
  },

  async run(dial) {
    pour(await dial())
  },
}

export default bulk

const chunk = Buffer.alloc(64 * 1024, 'natwork ')

export function pour(stream: Duplex): void {
  while (stream.write(chunk));
  stream.once('drain', () => {
    pour(stream)
  })
}
