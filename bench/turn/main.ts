// `npm run bench:turn [-- --help]`: our TURN server (native driver and node:dgram), Debian's coturn, and the npm packages
// `turn-server` and `node-turn`, with the same user and the same load; interleaved rounds in one run, medians. A noisy
// machine moves all of them: read the ratios. The load is made here, in another process than the servers.
import { parseArgs } from 'node:util'
import { flows, load, type Sample } from './flows.ts'
import { allocations, bindings, type Allocations, type Bindings } from './requests.ts'
import { start, up, type Server } from './servers.ts'
import { uclient, type UclientSample } from './uclient.ts'
import { throttled } from './workers.ts'

const ALL_SERVERS = ['natwork', 'natwork-dgram', 'coturn', 'turn-server', 'node-turn']
const ALL_CASES = [...flows.map(({ name }) => name), 'allocations', 'bindings', 'uclient', 'workers']
/** Datagrams per second of the measured pace: what every server carries without loss on two cores. */
const PACE = 12_000

/** Seconds. */
const WARM_UP = 0.7

const { values } = parseArgs({
  options: {
    servers: { type: 'string', default: ALL_SERVERS.join(',') },
    cases: { type: 'string', default: ALL_CASES.join(',') },
    seconds: { type: 'string', default: '1.5' },
    rounds: { type: 'string', default: '3' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(
    `--servers ${ALL_SERVERS.join(',')},bare-dgram\n--cases ${ALL_CASES.join(',')}\n--seconds 1.5 --rounds 3`,
  )
  process.exit(0)
}
const seconds = Number(values.seconds)
const rounds = Number(values.rounds)
const cases = new Set(values.cases.split(','))
const base = 21_000 + (process.pid % 400) * 20
const started: Server[] = []

try {
  const names = values.servers.split(',')
  await measureServers(names)
  if (cases.has('workers')) await measureWorkers()
} finally {
  for (const { child } of started) child.kill('SIGKILL')
}
process.exit(0)

async function measureServers(names: readonly string[]): Promise<void> {
  const wanted = ALL_CASES.filter((name) => cases.has(name) && name !== 'workers')
  if (wanted.length === 0) return
  const servers = names.map((name, n) => run(name, base + 2 * n))
  for (const server of servers) await up(server)
  if (cases.has('allocations')) await measureAllocations(servers)
  if (cases.has('bindings')) await measureBindings(servers)
  for (const flow of flows) {
    if (!cases.has(flow.name)) continue
    const paced = tableOf<Sample>(servers)
    const flooded = tableOf<Sample>(servers)
    // Compilers of JavaScript need some traffic first.
    for (const server of servers)
      await note(tableOf<Sample>(servers), server, () => load(server, flow, Infinity, WARM_UP))
    for (let round = 0; round < rounds; round++) {
      for (const server of servers) {
        await note(paced, server, () => load(server, flow, PACE, seconds))
        await note(flooded, server, () => load(server, flow, Infinity, seconds))
      }
    }
    const row = flow.row === 1 ? 'one by one' : `in rows of ${flow.row}`
    title(`${flow.name}: ${flow.form}, ${flow.bytes} bytes, ${flow.clients} clients, ${row}`)
    print(['', `at ${PACE / 1000}k/s: lost`, 'CPU s/million', 'flood: per s', 'CPU s/million'])
    for (const { name } of servers) {
      print([
        name,
        percent(median(paced, name, 'loss')),
        median(paced, name, 'cpuPerMillion').toFixed(2),
        Math.round(median(flooded, name, 'perSecond')).toLocaleString('en'),
        median(flooded, name, 'cpuPerMillion').toFixed(2),
      ])
    }
  }
  if (cases.has('uclient')) await measureUclient(servers)
}

async function measureAllocations(servers: readonly Server[]): Promise<void> {
  const table = tableOf<Allocations>(servers)
  for (const server of servers) await note(table, server, () => allocations(server))
  title('allocations')
  print(['', 'per second', 'CPU ms each', 'KiB each, idle'])
  for (const { name } of servers) {
    print([
      name,
      median(table, name, 'perSecond').toFixed(0),
      median(table, name, 'cpuMs').toFixed(2),
      median(table, name, 'idleKiB').toFixed(1),
    ])
  }
}

async function measureBindings(servers: readonly Server[]): Promise<void> {
  const table = tableOf<Bindings>(servers)
  for (let round = 0; round < rounds; round++) {
    for (const server of servers) await note(table, server, () => bindings(server, seconds))
  }
  title('Binding requests')
  print(['', 'per second', 'CPU s/million'])
  for (const { name } of servers) {
    print([
      name,
      median(table, name, 'perSecond').toFixed(0),
      median(table, name, 'cpuPerMillion').toFixed(2),
    ])
  }
}

async function measureUclient(servers: readonly Server[]): Promise<void> {
  for (const form of ['channels', 'Send'] as const) {
    const table = tableOf<UclientSample>(servers)
    for (const server of servers) {
      const sample = await uclient(server, form)
      if (sample !== undefined) table.get(server.name)?.push(sample)
    }
    title(`turnutils_uclient, ${form}, there and back`)
    print(['', 'lost', 'CPU s/million'])
    for (const { name } of servers) {
      print([name, percent(median(table, name, 'loss')), median(table, name, 'cpuPerMillion').toFixed(2)])
    }
  }
}

async function measureWorkers(): Promise<void> {
  const servers = ['workers-1', 'workers-2'].map((name, n) => run(name, base + 12 + 2 * n))
  for (const server of servers) await up(server)
  const table = tableOf<Sample>(servers)
  for (let round = 0; round < rounds; round++) {
    for (const server of servers) await note(table, server, () => throttled(server, seconds))
  }
  title('workers, a quarter of a core each: ChannelData to peers, 1000 bytes, 64 clients, flood')
  print(['', 'per second', 'CPU s/million'])
  for (const { name } of servers) {
    print([
      name,
      median(table, name, 'perSecond').toFixed(0),
      median(table, name, 'cpuPerMillion').toFixed(2),
    ])
  }
}

function run(name: string, port: number): Server {
  const server = start(name, port)
  started.push(server)
  return server
}

/** A server that fails at something is still in the table: without a number. */
async function note<T>(table: Table<T>, { name }: Server, measure: () => Promise<T>): Promise<void> {
  try {
    table.get(name)?.push(await measure())
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

type Table<T> = Map<string, T[]>

function tableOf<T>(servers: readonly Server[]): Table<T> {
  return new Map(servers.map(({ name }) => [name, []]))
}

function median<T>(table: Table<T>, name: string, key: keyof T): number {
  const values = (table.get(name) ?? []).map((one) => Number(one[key])).sort((a, b) => a - b)
  return values[values.length >> 1] ?? NaN
}

function title(text: string): void {
  console.log(`\n${text}`)
}

function print([first = '', ...cells]: readonly string[]): void {
  console.log(`  ${first.padEnd(15)}${cells.map((cell) => cell.padStart(16)).join('')}`)
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`
}
