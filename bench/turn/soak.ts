// `npm run soak:turn [-- MINUTES [PACKETS_PER_SECOND]]`: our relay under steady load while clients come and go. Memory is
// looked at 20 times; ends with 1 when the second half grows by more than a tenth. Default: 60 minutes, 5,000 a second.
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Probe } from '../../src/cli/relay/probe.ts'
import { writeChannelData } from '../../src/turn/index.ts'

const minutes = Number(process.argv[2] ?? 60)
const pace = Number(process.argv[3] ?? 5_000)
const looks = 20
const server = { address: '127.0.0.1', port: 22_000 + (process.pid % 10_000) }
const user = { username: 'user', password: 'pass' }
/** What one client sends before the next one takes its place. */
const LIFE = 2_000

const file = join(import.meta.dirname, 'server.ts')
const child = spawn(process.execPath, [...process.execArgv, file, 'natwork', String(server.port)], {
  stdio: ['ignore', 'ignore', 'inherit'],
})
const peer = createSocket({ type: 'udp4', recvBufferSize: 4 * 1024 * 1024 })
let arrived = 0
peer.on('message', () => arrived++)
peer.bind(0, server.address)
await once(peer, 'listening')

const message = Buffer.alloc(1_004)
writeChannelData(message, 0x4201, Buffer.alloc(1_000, 7), false)
const memory: number[] = []
const from = performance.now()
let sent = 0
let clients = 0
for (let look = 1; look <= looks; look++) {
  const until = (look / looks) * minutes * 60
  while (elapsed() < until) await oneClient(until)
  memory.push(rss())
  const counts = `${clients} clients, ${sent} packets, lost ${((1 - arrived / Math.max(1, sent)) * 100).toFixed(2)} %`
  console.log(`${(elapsed() / 60).toFixed(1)} min: ${memory.at(-1)?.toFixed(1) ?? ''} MiB, ${counts}`)
}
child.kill('SIGKILL')
peer.close()
const middle = memory[looks / 2 - 1] ?? NaN
const last = memory.at(-1) ?? NaN
console.log(`memory ${middle.toFixed(1)} MiB half way, ${last.toFixed(1)} MiB at the end`)
process.exit(last <= middle * 1.1 ? 0 : 1)

async function oneClient(until: number): Promise<void> {
  const probe = await Probe.open(server, 'udp', user)
  await probe.allocate()
  const { code } = await probe.bind(0x4201, { address: server.address, port: peer.address().port })
  if (code !== 0) throw new Error(`ChannelBind answered ${code}`)
  clients++
  const start = performance.now()
  for (let n = 0; n < LIFE && elapsed() < until;) {
    const due = Math.min(LIFE, ((performance.now() - start) / 1_000) * pace)
    for (; n < due; n++, sent++) probe.send(message)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  await probe.close()
}

function elapsed(): number {
  return (performance.now() - from) / 1_000
}

/** MiB. */
function rss(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8'))?.[1]) / 1_024
}
