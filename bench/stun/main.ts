// `npm run bench:stun [-- SECONDS]`: our STUN codec beside the npm packages `stun` and `werift`, our server beside
// coturn; interleaved rounds in one run, medians. A noisy machine moves all of them: read the ratios.
import { spawn, type ChildProcess } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { StunBuilder } from '../../src/stun/codec/builder.ts'
import { MessageClass, Method } from '../../src/stun/codec/registry.ts'
import { codecs } from './codecs.ts'

const seconds = Number(process.argv[2] ?? 2)
const rounds = 5

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN
const thousands = (value: number): string => Math.round(value).toLocaleString('en').padStart(12)

benchCodecs()
await benchServers()

function benchCodecs(): void {
  for (const task of ['parse', 'encode'] as const) {
    const perSecond = new Map<string, number[]>(codecs.map(({ name }) => [name, []]))
    for (let round = -1; round < rounds; round++) {
      for (const codec of codecs) {
        const rate = rateOf(codec[task], (seconds * 1000) / 10)
        if (round >= 0) perSecond.get(codec.name)?.push(rate)
      }
    }
    console.log(
      `\n${task} a Binding response (XOR-MAPPED-ADDRESS, SOFTWARE, FINGERPRINT), messages per second`,
    )
    const ours = median(perSecond.get('natwork') ?? [])
    for (const [name, rates] of perSecond) {
      console.log(
        `  ${name.padEnd(10)}${thousands(median(rates))}   natwork / it = ${(ours / median(rates)).toFixed(1)}`,
      )
    }
  }
}

function rateOf(work: () => void, milliseconds: number): number {
  const start = performance.now()
  let count = 0
  let elapsed = 0
  do {
    for (let n = 0; n < 1000; n++) work()
    count += 1000
    elapsed = performance.now() - start
  } while (elapsed < milliseconds)
  return (count / elapsed) * 1000
}

interface Server {
  readonly name: string
  readonly port: number
  readonly child: ChildProcess
  readonly results: { perSecond: number; cpuPerMillion: number }[]
}

async function benchServers(): Promise<void> {
  const start = (name: string, port: number, program: string, args: string[]): Server => ({
    name,
    port,
    child: spawn(program, args, { stdio: 'ignore' }),
    results: [],
  })
  const at = 21_000 + (process.pid % 10_000)
  const ours = [...process.execArgv, join(import.meta.dirname, 'server.ts'), String(at)]
  const theirs = [
    '-n',
    '--no-cli',
    '--stun-only',
    '--no-tls',
    '--no-dtls',
    '--no-tcp',
    '--log-file',
    '/dev/null',
  ]
  const servers = [
    start('natwork', at, process.execPath, ours),
    start('coturn', at + 10, 'turnserver', [
      ...theirs,
      ...['--pidfile', '/dev/null', '--listening-ip', '127.0.0.1', '--listening-port', String(at + 10)],
    ]),
  ]
  try {
    for (const server of servers) await load(server, 1, true)
    for (let round = 0; round < rounds; round++) {
      for (const server of servers) server.results.push(await load(server, seconds, false))
    }
  } finally {
    for (const { child } of servers) child.kill('SIGKILL')
  }
  console.log('\nBinding requests over UDP on loopback')
  const cpu = (server: Server): number => median(server.results.map(({ cpuPerMillion }) => cpuPerMillion))
  for (const server of servers) {
    const perSecond = median(server.results.map((result) => result.perSecond))
    console.log(
      `  ${server.name.padEnd(10)}${thousands(perSecond)} per second ${cpu(server).toFixed(2).padStart(8)} CPU s per million` +
        `${thousands(1e6 / cpu(server))} per CPU second`,
    )
  }
  const [natwork, coturn] = servers
  if (natwork && coturn) {
    console.log(
      `  natwork answers ${(cpu(coturn) / cpu(natwork)).toFixed(2)} × what coturn does per CPU second`,
    )
  }
}

/** 8 sockets with 16 requests under way each; an answer is the sign for the next request. */
async function load(
  server: Server,
  forSeconds: number,
  untilUp: boolean,
): Promise<Server['results'][number]> {
  const request = new StunBuilder().start(Method.Binding, MessageClass.Request, new Uint8Array(12)).copy()
  let answers = 0
  let stopped = false
  const sockets: Socket[] = []
  for (let n = 0; n < 8; n++) {
    const socket = createSocket('udp4')
    socket.on('message', () => {
      answers++
      if (!stopped) socket.send(request, server.port, '127.0.0.1')
    })
    sockets.push(socket)
  }
  const kick = (): void => {
    for (const socket of sockets) for (let n = 0; n < 16; n++) socket.send(request, server.port, '127.0.0.1')
  }
  for (let tries = 0; untilUp && answers === 0; tries++) {
    if (tries === 200) throw new Error(`${server.name} does not answer`)
    kick()
    await sleep(100)
  }
  kick()
  await sleep(200)
  const before = { answers, cpu: cpuSeconds(server.child.pid), at: performance.now() }
  await sleep(forSeconds * 1000)
  const done = answers - before.answers
  const cpu = cpuSeconds(server.child.pid) - before.cpu
  const elapsed = (performance.now() - before.at) / 1000
  stopped = true
  await sleep(50)
  for (const socket of sockets) socket.close()
  return { perSecond: done / elapsed, cpuPerMillion: (cpu / done) * 1e6 }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

/** User and system time of a process with all its threads, in ticks of 10 ms (proc(5)). */
function cpuSeconds(pid: number | undefined): number {
  const fields =
    readFileSync(`/proc/${pid ?? 0}/stat`, 'utf8')
      .split(') ')[1]
      ?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}
