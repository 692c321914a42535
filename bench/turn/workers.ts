import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { extname, join } from 'node:path'
import { flows, load, type Sample } from './flows.ts'
import { pidsOf, type Server } from './servers.ts'

/** Each worker runs so many ms of each PERIOD, one after the other: this process keeps a core to itself. */
const RUN = 5
const PERIOD = 20
const SPREAD = 64

/** What a relay carries whose workers have a quarter of a core each: how many of them there are decides. */
export async function throttled(server: Server, seconds: number): Promise<Sample> {
  const flow = flows.find(({ name }) => name === 'ChannelData to peers')
  if (flow === undefined) throw new Error('no such flow')
  const [first = 0, ...workers] = pidsOf(server)
  const pids = workers.length === 0 ? [first] : workers
  const file = join(import.meta.dirname, `throttle${extname(import.meta.url)}`)
  const node = [process.execPath, ...process.execArgv, file, String(RUN), String(PERIOD), ...pids.map(String)]
  // Whatever priority the servers have, this one has to wake in time.
  const command = process.getuid?.() === 0 ? ['chrt', '-r', '50', ...node] : node
  const [program = '', ...flags] = command
  const throttle = spawn(program, flags, { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    await once(throttle.stdout, 'data')
    return await load(server, { ...flow, clients: SPREAD }, Infinity, seconds)
  } finally {
    throttle.kill('SIGKILL')
    for (const pid of pids) process.kill(pid, 'SIGCONT')
  }
}
