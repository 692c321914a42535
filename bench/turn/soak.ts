// `npm run soak:turn [-- MINUTES [PACKETS_PER_SECOND]]`: our relay under steady load, both ways, while clients come and
// go, 8 at a time: over UDP and TCP, by channels and by Send, one in four without a goodbye. Memory is looked at 20 times,
// beside the part of one core that the relay takes: choose a rate where that is half of it (the default was, on one 2.5 GHz
// core). Ends with 1 when the second half grows by more than a tenth, or when more than 1 % was lost on either way.
// Default: 60 minutes, 10,000 packets a second to the peer, and as many back. The short form: test/e2e/relay-soak.test.ts.
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Probe } from '../../src/cli/relay/probe.ts'
import { writeChannelData } from '../../src/turn/index.ts'

const minutes = Number(process.argv[2] ?? 60)
const pace = Number(process.argv[3] ?? 10_000)
const looks = 20
/** Clients at a time. */
const LANES = 8
const server = { address: '127.0.0.1', port: 22_000 + (process.pid % 10_000) }
const user = { username: 'user', password: 'pass' }
/** Packets of one client, before the next one takes its place. */
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
const lanes = Array.from({ length: LANES }, async () => {
  while (elapsed() < minutes * 60) await oneClient()
})
for (let look = 1, cpu = cpuSeconds(), last = 0, packets = 0; look <= looks; look++) {
  await sleep((look / looks) * minutes * 60_000 - elapsed() * 1_000)
  const seconds = elapsed() - last
  const [used, passed] = [cpuSeconds() - cpu, sent + back - packets]
  ;[cpu, last, packets] = [cpu + used, last + seconds, packets + passed]
  memory.push(rss())
  console.log(
    [
      `${(elapsed() / 60).toFixed(1)} min: ${memory.at(-1)?.toFixed(1) ?? ''} MiB`,
      `${((used / seconds) * 100).toFixed(0)} % of a core`,
      `${(passed / seconds).toFixed(0)} packets/s`,
      `${clients} clients, ${sent} packets`,
      `lost ${percent(sent - arrived)} % there, ${percent(arrived - back)} % back`,
    ].join(', '),
  )
}
await Promise.all(lanes)
over = true
child.kill('SIGKILL')
echo.close()
const middle = memory[looks / 2 - 1] ?? NaN
const last = memory.at(-1) ?? NaN
console.log(`memory ${middle.toFixed(1)} MiB half way, ${last.toFixed(1)} MiB at the end`)
const lost = Math.max(sent - arrived, arrived - back)
process.exit(last <= middle * 1.1 && lost <= sent / 100 ? 0 : 1)

async function oneClient(): Promise<void> {
  const turn = clients++
  const bySend = turn % 2 === 1
  const probe = await Probe.open(server, turn % 4 >= 2 ? 'tcp' : 'udp', user)
  let own = 0
  probe.onUnasked = () => {
    own++
    back++
  }
  await probe.allocate()
  const { code } = await (bySend ? probe.permit(peer) : probe.bind(0x4201, peer))
  if (code !== 0) throw new Error(`answered ${code}`)
  const start = performance.now()
  let n = 0
  while (n < LIFE && elapsed() < minutes * 60) {
    const due = Math.min(LIFE, (((performance.now() - start) / 1_000) * pace) / LANES)
    for (; n < due; n++, sent++) {
      if (bySend) probe.indicate(peer, PAYLOAD)
      else probe.send(framed)
    }
    await sleep(2)
  }
  // What is on its way is not lost.
  for (let waits = 0; waits < 50 && own < n; waits++) await sleep(20)
  if (turn % 16 < 12) await probe.close()
  else probe.abandon()
}

/** Of the relay, since its start. */
function cpuSeconds(): number {
  const stat = readFileSync(`/proc/${child.pid ?? 0}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
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
