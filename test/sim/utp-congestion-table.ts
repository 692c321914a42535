/**
 * How fast one uTP connection is over a simulated 100 Mbit/s link, by congestion controller, loss and round trip: KB/s of
 * payload, from the SYN to the last FIN of 1 MB, median of three seeds. Virtual time: the same table on every machine.
 *
 *     node --import tsx test/sim/utp-congestion-table.ts
 *
 * writes it to utp-congestion-table.txt beside this file, with which the test compares.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { MILLISECOND } from '../../src/core/index.ts'
import type { CongestionName } from '../../src/utp/index.ts'
import { transfer } from './utp-model.ts'

const SIZE = 1_000_000
const LOSSES = [0, 0.01, 0.05]
const SEEDS = [1, 2, 3]
const ROUND_TRIPS = [1, 20, 100, 300]
const NAMES: readonly CongestionName[] = ['bbr', 'cubic', 'ledbat']

export function throughputTable(): string {
  return NAMES.map(tableOf).join('\n')
}

function tableOf(congestion: CongestionName): string {
  const lines = [row(congestion, ...ROUND_TRIPS.map((rtt) => `${rtt} ms`))]
  for (const loss of LOSSES) {
    const cells = ROUND_TRIPS.map((rtt) => {
      const link = { delay: (rtt * MILLISECOND) / 2, loss, rate: 100e6, queue: { bytes: 1_250_000 } }
      const rates = SEEDS.map((seed) => {
        const { seconds, intact } = transfer(seed, SIZE, link, { congestion })
        if (!intact) throw new Error(`${congestion}, loss ${loss}, ${rtt} ms: the bytes did not arrive`)
        return SIZE / 1_000 / seconds
      })
      return rates.toSorted((a, b) => a - b)[1]?.toFixed(0) ?? ''
    })
    lines.push(row(`${loss * 100} %`, ...cells))
  }
  return `${lines.join('\n')}\n`
}

function row(...cells: string[]): string {
  return cells.map((cell) => cell.padStart(9)).join('')
}

const file = fileURLToPath(import.meta.url)
if (process.argv[1] === file) writeFileSync(file.replace(/\.ts$/, '.txt'), throughputTable())
