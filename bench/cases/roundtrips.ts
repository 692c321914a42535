import type { Case } from '../case.ts'

/** A message of 32 bytes to the server and back, the next when the last has returned. */
const roundtrips: Case = {
  serve(stream) {
    stream.on('data', (bytes: Uint8Array) => stream.write(bytes))
  },

  async run(dial, counters) {
    const stream = await dial()
    let missing = 0
    let from = 0
    const ask = (): void => {
      from = performance.now()
      missing = message.length
      stream.write(message)
    }
    stream.on('data', (bytes: Uint8Array) => {
      missing -= bytes.length
      if (missing > 0) return
      counters.times.push(performance.now() - from)
      counters.count++
      ask()
    })
    ask()
  },
}

export default roundtrips

const message = Buffer.alloc(32, 'ping')
