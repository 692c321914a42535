/**
 * Prints how fast one uTP connection with the LEDBAT controller is over a simulated 100 Mbit/s link, by loss and round
 * trip: KB/s of payload, from the SYN to the last FIN of 1 MB. Virtual time: the same table on every machine.
 *
 *     node --import tsx bench/utp-sim-table.ts
 *
 * The last table is kept in bench/utp-sim-table.txt; a change of loss recovery or congestion control shows there.
 */
import { MILLISECOND } from '../src/core/index.ts'
import { transfer } from '../test/sim/utp-model.ts'

const SIZE = 1_000_000
const LOSSES = [0, 0.001, 0.01, 0.05, 0.1, 0.2]
const ROUND_TRIPS = [1, 10, 50, 100, 200, 500]
const SEEDS = [1, 2, 3]

const row = (cells: string[]): string => cells.map((cell) => cell.padStart(9)).join('')
console.log(row(['loss \\ RTT', ...ROUND_TRIPS.map((rtt) => `${rtt} ms`)]))
for (const loss of LOSSES) {
  const cells = ROUND_TRIPS.map((rtt) => {
    const link = { delay: (rtt * MILLISECOND) / 2, loss, rate: 100e6, queue: { bytes: 1_250_000 } }
    const seconds = SEEDS.map((seed) => {
      const result = transfer(seed, SIZE, link)
      if (!result.intact)
        throw new Error(`seed ${seed}, loss ${loss}, RTT ${rtt} ms: the bytes did not arrive`)
      return result.seconds
    })
    const [, median] = seconds.toSorted((a, b) => a - b)
    return Math.round(SIZE / 1_000 / median!).toString()
  })
  console.log(row([`${loss * 100} %`, ...cells]))
}
