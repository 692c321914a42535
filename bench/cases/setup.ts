import { once } from 'node:events'
import type { Case } from '../case.ts'

/** A new connection until its first byte is back from the server, one after the other. */
const setup: Case = {
  serve(stream) {
    stream.on('data', (bytes: Uint8Array) => stream.write(bytes))
    // The client ends a connection by destroying it; how a peer reports that is not measured here.
    stream.on('error', () => stream.destroy())
    stream.on('end', () => stream.end())
  },

  async run(dial, counters) {
    const begun = performance.now()
    const spent = (): number => performance.now() - begun
    // Few enough for libutp, which stops answering after about a thousand connections in a row.
    for (let made = 0; made < WARM_UP + CONNECTIONS; made++) {
      // On a long way most of the time is the way's, and a few connections tell it.
      if (spent() > ENOUGH && counters.times.length >= CONNECTIONS_AT_LEAST) break
      const from = performance.now()
      const stream = await dial()
      stream.write('?')
      await once(stream, 'data')
      if (made >= WARM_UP || spent() > ENOUGH / 2) counters.times.push(performance.now() - from)
      stream.destroy()
    }
  },
}

export default setup

const WARM_UP = 100
const CONNECTIONS = 300
const CONNECTIONS_AT_LEAST = 20
/** Milliseconds. At most the first half of it warms up. */
const ENOUGH = 5_000
