// How many two-site worlds with a whole UDP punch exchange the simulator runs per minute on one core, by CPU time (so
// that a busy machine does not count). `node --import tsx bench/sim-worlds.ts`; the mark is 10,000.
import { kindNames, pairScenario, runScenario, directPathPossible, SIMPLE_PUNCH } from '../src/sim/index.ts'

const WORLDS = 5_000
let worlds = 0
let events = 0
let packets = 0

function run(count: number): void {
  for (let seed = 1; worlds < count; seed++) {
    const a = kindNames[seed % kindNames.length] ?? 'none'
    const b = kindNames[(7 * seed + 3) % kindNames.length] ?? 'none'
    // Only pairs that connect: the others run on for three seconds of their time.
    if (!directPathPossible(a, b, SIMPLE_PUNCH).possible) continue
    const { world } = runScenario(pairScenario(a, b, true, SIMPLE_PUNCH), { seed })
    worlds++
    events += world.events
    packets += world.trace.sent
  }
}

run(500) // the compiler warms up
worlds = events = packets = 0
const before = process.cpuUsage()
run(WORLDS)
const { user, system } = process.cpuUsage(before)
const seconds = (user + system) / 1e6
const per = (n: number): string => (n / WORLDS).toFixed(1)
console.log(
  `${Math.round((60 * WORLDS) / seconds).toLocaleString('en')} worlds per CPU minute ` +
    `(${((1000 * seconds) / WORLDS).toFixed(2)} ms, ${per(events)} events, ${per(packets)} datagrams each)`,
)
