// `npm run soak:turn [-- MINUTES [PACKETS_PER_SECOND]]`: our relay under steady load, both ways, while clients come and
// go: over UDP and TCP, by channels and by Send, one in four without a goodbye. Memory is looked at 20 times; ends with 1
// when the second half grows by more than a tenth, or when more than 1 % was lost on either way. Default: 60 minutes, 5,000
// packets a second to the peer, and as many back. The short form is test/e2e/relay-soak.test.ts.
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
const PAYLOAD = Buffer.alloc(1_000, 7)

const file = join(import.meta.dirname, 'server.ts')
const child = spawn(process.execPath, [...process.execArgv, file, 'natwork', String(server.port)], {
  stdio: ['ignore', 'ignore', 'inherit'],
})
let over = false
child.once('exit', (code, signal) => {
  if (over) return
  console.error(`the relay has ended: ${signal ?? code ?? ''}`)
  process.exit(1)
})
const echo = createSocket({
  type: 'udp4',
  recvBufferSize: 4 * 1024 * 1024,
  sendBufferSize: 4 * 1024 * 1024,
})
let arrived = 0
echo.on('message', (bytes, from) => {
  arrived++
  echo.send(bytes, from.port, from.address)
})
echo.bind(0, server.address)
await once(echo, 'listening')
const peer = { address: server.address, port: echo.address().port }

// The server takes a while to start.
for (let ready = false; !ready;) {
  const probe = await Probe.open(server, 'udp')
  ready = await probe.allocate().then(
    () => true,
    () => false,
  )
  probe.abandon()
}

const framed = Buffer.alloc(4 + PAYLOAD.length)
writeChannelData(framed, 0x4201, PAYLOAD, false)
const memory: number[] = []
const from = performance.now()
let sent = 0
let back = 0
let clients = 0
for (let look = 1; look <= looks; look++) {
  const until = (look / looks) * minutes * 60
  while (elapsed() < until) await oneClient(until)
  memory.push(rss())
  const lost = `lost ${percent(sent - arrived)} % there, ${percent(arrived - back)} % back`
  console.log(
    `${(elapsed() / 60).toFixed(1)} min: ${memory.at(-1)?.toFixed(1) ?? ''} MiB, ${clients} clients, ${sent} packets, ${lost}`,
  )
}
over = true
child.kill('SIGKILL')
echo.close()
const middle = memory[looks / 2 - 1] ?? NaN
const last = memory.at(-1) ?? NaN
console.log(`memory ${middle.toFixed(1)} MiB half way, ${last.toFixed(1)} MiB at the end`)
const lost = Math.max(sent - arrived, arrived - back)
process.exit(last <= middle * 1.1 && lost <= sent / 100 ? 0 : 1)

async function oneClient(until: number): Promise<void> {
  const kind = clients % 4
  const bySend = kind % 2 === 1
  const probe = await Probe.open(server, kind >= 2 ? 'tcp' : 'udp', user)
  probe.onUnasked = () => back++
  await probe.allocate()
  const { code } = await (bySend ? probe.permit(peer) : probe.bind(0x4201, peer))
  if (code !== 0) throw new Error(`answered ${code}`)
  const start = performance.now()
  for (let n = 0; n < LIFE && elapsed() < until;) {
    const due = Math.min(LIFE, ((performance.now() - start) / 1_000) * pace)
    for (; n < due; n++, sent++) {
      if (bySend) probe.indicate(peer, PAYLOAD)
      else probe.send(framed)
    }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  // What is on its way is not lost.
  for (let n = 0; n < 50 && back < sent; n++) await new Promise((resolve) => setTimeout(resolve, 20))
  if (clients % 16 < 12) await probe.close()
  else probe.abandon()
  clients++
}

function percent(count: number): string {
  return ((count / Math.max(1, sent)) * 100).toFixed(2)
}

function elapsed(): number {
  return (performance.now() - from) / 1_000
}

/** MiB. */
function rss(): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8'))?.[1]) / 1_024
}
