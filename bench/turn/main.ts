// `npm run bench:turn [-- SECONDS [ROUNDS]]`: our TURN server (native driver and node:dgram), Debian's coturn, and the npm
// packages `turn-server` and `node-turn`, with the same user and the same load; interleaved rounds in one run, medians.
// A noisy machine moves all of them: read the ratios. The load is made here, in another process than the servers.
import { spawn, type ChildProcess } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../scripts/system.mjs'
import { Probe } from '../../src/cli/relay/probe.ts'
import { MessageClass, Method, StunBuilder, Attribute } from '../../src/stun/index.ts'
import { writeChannelData } from '../../src/turn/index.ts'
import { OldAuth } from './old-auth.ts'

const seconds = Number(process.argv[2] ?? 1.5)
const rounds = Number(process.argv[3] ?? 3)
const host = '127.0.0.1'
const PAYLOAD = 1_000
const CLIENTS = 4
/** Datagrams per second of the measured pace: what every server carries without loss on two cores. */
const PACE = 12_000
const IDLE = 1_000

const modes = ['ChannelData to peers', 'ChannelData from peers', 'Send', 'Data'] as const
type Mode = (typeof modes)[number]

interface Sample {
  readonly perSecond: number
  readonly loss: number
  readonly cpuPerMillion: number
}

interface Server {
  readonly name: string
  readonly port: number
  readonly child: ChildProcess
  readonly paced: Record<Mode, Sample[]>
  readonly flooded: Record<Mode, Sample[]>
  allocations?: { perSecond: number; cpuPerThousand: number; idleKiB: number }
}

const base = 21_000 + (process.pid % 500) * 20
const servers = ['natwork', 'natwork-dgram', 'coturn', 'turn-server', 'node-turn'].map(start)
try {
  for (const server of servers) await up(server)
  for (const server of servers) server.allocations = await allocate(server)
  for (let round = 0; round < rounds; round++) {
    for (const mode of modes) {
      for (const server of servers) {
        server.paced[mode].push(await load(server, mode, PACE))
        server.flooded[mode].push(await load(server, mode, Infinity))
      }
    }
  }
} finally {
  for (const { child } of servers) child.kill('SIGKILL')
}
report()
process.exit(0)

function start(name: string, index: number): Server {
  const port = base + index * 2
  const none = (): Record<Mode, Sample[]> =>
    Object.fromEntries(modes.map((mode) => [mode, [] as Sample[]])) as Record<Mode, Sample[]>
  const child =
    name === 'coturn'
      ? spawn(
          findProgram('turnserver') ?? 'turnserver',
          [
            ...['-n', '--no-cli', '--no-tls', '--no-dtls', '--no-tcp', '--log-file', '/dev/null'],
            ...['--pidfile', '/dev/null', '-a', '-r', 'bench', '-u', 'user:pass', '--allow-loopback-peers'],
            ...['-L', host, '-E', host, '-p', String(port)],
          ],
          { stdio: 'ignore' },
        )
      : spawn(
          process.execPath,
          [...process.execArgv, join(import.meta.dirname, 'server.ts'), name, String(port)],
          {
            stdio: ['ignore', 'ignore', 'inherit'],
          },
        )
  return { name, port, child, paced: none(), flooded: none() }
}

async function open(port: number): Promise<Probe> {
  const probe = await Probe.open({ address: host, port }, 'udp')
  probe.auth = new OldAuth('user', 'pass')
  return probe
}

async function up(server: Server): Promise<void> {
  for (let tries = 0; ; tries++) {
    const probe = await open(server.port)
    try {
      const { code } = await probe.allocate()
      if (code !== 0) throw new Error(`${server.name} answered ${code}`)
      return
    } catch (error) {
      if (tries === 5) throw error
    } finally {
      await probe.close()
    }
  }
}

/** Allocations, 16 at a time, each from a socket of its own; they stay, and then go. */
async function allocate({ port, child }: Server): Promise<NonNullable<Server['allocations']>> {
  const probes: Probe[] = []
  const many = async (count: number): Promise<void> => {
    let left = count
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        while (left-- > 0) {
          const probe = await open(port)
          probes.push(probe)
          await probe.allocate()
        }
      }),
    )
  }
  await many(100)
  const before = { cpu: cpuSeconds(child.pid), memory: memoryKiB(child.pid), at: performance.now() }
  await many(IDLE)
  const elapsed = (performance.now() - before.at) / 1000
  const cpu = cpuSeconds(child.pid) - before.cpu
  const idleKiB = memoryKiB(child.pid) - before.memory
  for (let n = 0; n < probes.length; n += 50) {
    await Promise.all(probes.slice(n, n + 50).map((probe) => probe.close()))
  }
  return { perSecond: IDLE / elapsed, cpuPerThousand: (cpu / IDLE) * 1000, idleKiB: (idleKiB / IDLE) * 1000 }
}

async function load({ port, child }: Server, mode: Mode, pace: number): Promise<Sample> {
  const byChannel = mode.startsWith('Channel')
  const toPeers = mode === 'Send' || mode === 'ChannelData to peers'
  let arrived = 0
  let received = 0
  const pairs: { send: () => void; close: () => Promise<void> }[] = []
  for (let n = 0; n < CLIENTS; n++) {
    const peer = await peerSocket(() => arrived++)
    const at = { address: host, port: peer.address().port }
    const probe = await open(port)
    probe.onUnasked = () => received++
    const { view } = await probe.allocate()
    const relayed = view.xorAddress(Attribute.XorRelayedAddress)
    await probe.permit(at)
    if (byChannel) await probe.bind(0x4001, at)
    const payload = Buffer.alloc(PAYLOAD, 7)
    const message = byChannel
      ? channelData(payload)
      : new StunBuilder()
          .start(Method.Send, MessageClass.Indication, Buffer.alloc(12, n + 1))
          .xorAddress(Attribute.XorPeerAddress, at)
          .bytes(Attribute.Data, payload)
          .copy()
    pairs.push({
      send: toPeers
        ? () => {
            probe.send(message)
          }
        : () => {
            peer.send(payload, relayed?.port ?? 0, host)
          },
      close: async () => {
        await probe.close()
        peer.close()
      },
    })
  }
  const count = (): number => (toPeers ? arrived : received)
  const before = { cpu: cpuSeconds(child.pid), count: count(), at: performance.now() }
  const sent = await transmit(pairs, pace)
  // What waits in sockets is still on its way.
  for (let last = -1; last !== count();) {
    last = count()
    await sleep(60)
  }
  const elapsed = (performance.now() - before.at) / 1000
  const done = count() - before.count
  const cpu = cpuSeconds(child.pid) - before.cpu
  for (const { close } of pairs) await close()
  return { perSecond: done / elapsed, loss: 1 - done / sent, cpuPerMillion: (cpu / done) * 1e6 }
}

/** A few at a time, so that the answers are read in between. */
async function transmit(pairs: readonly { send: () => void }[], pace: number): Promise<number> {
  const from = performance.now()
  let sent = 0
  for (;;) {
    const elapsed = (performance.now() - from) / 1000
    if (elapsed >= seconds) return sent
    const due = Math.min(sent + 64, Math.floor(elapsed * pace))
    for (; sent < due; sent++) pairs[sent % pairs.length]?.send()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

async function peerSocket(onMessage: () => void): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 * 1024 * 1024 })
  socket.on('message', onMessage)
  socket.bind(0, host)
  await once(socket, 'listening')
  return socket
}

function channelData(payload: Uint8Array): Uint8Array {
  const into = Buffer.alloc(4 + payload.length)
  writeChannelData(into, 0x4001, payload, false)
  return into
}

function report(): void {
  const row = (cells: readonly string[]): void => {
    console.log(
      `  ${cells[0]?.padEnd(15) ?? ''}${cells
        .slice(1)
        .map((cell) => cell.padStart(16))
        .join('')}`,
    )
  }
  const of = (samples: readonly Sample[], key: keyof Sample): number => median(samples.map((one) => one[key]))
  for (const mode of modes) {
    console.log(`\n${mode}, ${PAYLOAD} bytes, ${CLIENTS} clients`)
    row(['', `at ${PACE / 1000}k/s: lost`, 'CPU s/million', 'flood: per s', 'CPU s/million'])
    for (const { name, paced, flooded } of servers) {
      row([
        name,
        `${(of(paced[mode], 'loss') * 100).toFixed(2)} %`,
        of(paced[mode], 'cpuPerMillion').toFixed(2),
        Math.round(of(flooded[mode], 'perSecond')).toLocaleString('en'),
        of(flooded[mode], 'cpuPerMillion').toFixed(2),
      ])
    }
  }
  console.log(`\n${IDLE} allocations`)
  row(['', 'per second', 'CPU ms each', 'KiB each, idle'])
  for (const { name, allocations } of servers) {
    if (allocations === undefined) continue
    const { perSecond, cpuPerThousand, idleKiB } = allocations
    row([name, perSecond.toFixed(0), cpuPerThousand.toFixed(2), (idleKiB / 1000).toFixed(1)])
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN
}

function cpuSeconds(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid ?? 0}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function memoryKiB(pid: number | undefined): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid ?? 0}/status`, 'utf8'))?.[1])
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
