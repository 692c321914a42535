// The matrix adapter for natwork itself: two nodes on the helper host, and two nodes that know nothing but those. A
// program of its own, which uses natwork as users of the package do.
import { once } from 'node:events'
import { networkInterfaces } from 'node:os'
import { createServer } from 'node:net'
import { formatAddress } from '../../../core/address.ts'
import { createContext, memoryDirectory, type Directory } from '../../../directory/index.ts'
import { Network, type NetworkOptions, type NodeConnection, type NodeInfo } from '../../../network/index.ts'
import type { SearchReport } from '../../../ice/index.ts'
import { discoverNat64 } from '../../../stun/index.ts'
import {
  fail,
  play,
  readTask,
  receivePayload,
  say,
  sendPayload,
  startClock,
  type Channel,
  type Stop,
} from './program.ts'

const PORT = 1315
const exhaustive = process.argv.includes('--exhaustive')
/** How long a better path may take to be found, before the payload goes by the one there is. */
const DIRECT_MS = exhaustive ? 65_000 : 5_000
/** The same while natwork searches no ports: what it learns of both NATs, on which a search depends, is there by then. */
const SETTLED_MS = 2_000

const task = readTask<{ helpers: readonly string[] }, { record: string }>()

play(task, { helper, a, b })

/**
 * Two at different IPv4 addresses: a NAT shows by what it tells each of them. The first speaks IPv6 too, so that nodes
 * which have nothing else meet the others there; what it says comes from the host's main addresses. The lab's whole
 * internet is documentation addresses, which a relay refuses unless told otherwise.
 */
async function helper(): Promise<void> {
  const help = { relay: { allow: ['0.0.0.0/0', '::/0'] } }
  const [main = '', second = ''] = task.helper(4)
  const [main6 = ''] = task.helper(6)
  const first = await startNetwork({ host: '::', port: PORT, help }, memoryDirectory())
  const other = await startNetwork({ host: second, port: PORT + 1, help }, memoryDirectory())
  say({
    event: 'ready',
    info: {
      helpers: [
        `${first.id}@${formatAddress({ address: main, port: PORT })}`,
        `${other.id}@${formatAddress({ address: second, port: PORT + 1 })}`,
        `${first.id}@${formatAddress({ address: main6, port: PORT })}`,
      ],
    },
  })
}

async function b(onStop: (stop: Stop) => void): Promise<void> {
  const server = createServer((socket) => {
    const channel: Channel = { send: (bytes) => void socket.write(bytes), onData: () => undefined }
    socket.on('data', (bytes) => channel.onData(bytes)).on('error', () => undefined)
    receivePayload(channel, task.payload)
  })
  server.listen(0, '127.0.0.1')
  onStop(() => void server.close())
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const network = await startPeer({ services: [{ name: 'sink', host: '127.0.0.1', port, allow: '*' }] })
  onStop(() => network.stop())
  logSearches(network)
  say({ event: 'ready', info: { record: JSON.stringify(network.self) } })
}

async function a(onStop: (stop: Stop) => void): Promise<void> {
  const record = JSON.parse(task.peerInfo.record) as NodeInfo
  const peer = record.id
  const directory = memoryDirectory()
  const network = await startPeer({}, directory)
  onStop(() => network.stop())
  // It knows the node's record, as by a list that somebody keeps; not sooner, since it would greet the node when it starts.
  await directory.put(record)
  const clock = startClock()
  let direct = (): void => undefined
  const isDirect = new Promise<void>((resolve) => (direct = resolve))
  let told: string | undefined
  network.on('connection', ({ peer: id, path }: NodeConnection) => {
    if (id !== peer || path === undefined || path.kind === told) return
    told = path.kind
    say({ event: 'path', path: path.kind, ms: clock() })
    if (path.kind === 'direct') direct()
  })
  if (process.env['NATWORK_TRACE'] !== undefined) {
    network.on('trace', (_, entry) => process.stdout.write(`trace ${JSON.stringify(entry)}\n`))
  }
  logSearches(network)
  const searches: SearchReport[] = []
  network.on('trace', (_, entry) => {
    if (entry.what === 'search') searches.push(entry.search)
  })
  const isOver = nothingBetter(network)
  const stream = await network.connect(peer, { service: 'sink' })
  const channel: Channel = {
    // The first byte is what is timed; the payload shows which way bytes go in the end.
    send: (bytes) => void Promise.race([isDirect, isOver]).then(() => stream.write(bytes)),
    onData: () => undefined,
  }
  stream.on('data', (bytes: Buffer) => channel.onData(bytes)).on('error', fail)
  const ms = await sendPayload(channel, task.payload, clock)
  const found = network.connections.find((one) => one.peer === peer)
  say({
    event: 'done',
    ms,
    path: found?.path?.kind ?? 'direct',
    local: formatAddress(found?.path?.local ?? network.boundAddress),
    remote: formatAddress(found?.path?.remote ?? network.boundAddress),
    details: {
      history: found?.history.map(({ kind, since }) => ({ kind, since: since.toISOString() })) ?? [],
      searches: searches.map(({ method, state, sent }) => ({ method, state, sent })),
    },
  })
}

/** A search takes both sides: a run that misses is explained by what each of them sent, and when. */
function logSearches(network: Network): void {
  network.on('trace', (_, entry) => {
    if (entry.what !== 'search') return
    const { method, state, sent } = entry.search
    process.stdout.write(`${new Date().toISOString()} search: ${method} ${state}, ${sent} sent\n`)
  })
}

/** Resolves when no direct path is to be expected any more. */
async function nothingBetter(network: Network): Promise<void> {
  // Whoever is behind such a network reaches the other through a relay or not at all.
  if (network.udpBlocked) return
  const search = { isOn: false }
  network.on('trace', (_, entry) => {
    if (entry.what === 'search') search.isOn = entry.search.state === 'started'
  })
  await wait(SETTLED_MS)
  for (let passed = SETTLED_MS; search.isOn && passed < DIRECT_MS; passed += 100) await wait(100)
}

async function startPeer(options: NetworkOptions, directory = memoryDirectory()): Promise<Network> {
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  // Behind NAT64 too: such a node finds its way to helpers of IPv4. Asked only there, since a lab's name server is silent.
  const has4 = own.some(({ family }) => family === 'IPv4') || (await discoverNat64()).length > 0
  const has6 = own.some(({ family }) => family === 'IPv6')
  const [first = '', second = '', first6 = ''] = task.helperInfo.helpers
  const network: NetworkOptions = {
    host: has6 ? '::' : '0.0.0.0',
    port: task.port,
    helpers: has4 ? [first, second] : [first6],
    exhaustive,
    ...options,
  }
  return await startNetwork(network, directory)
}

async function startNetwork(options: NetworkOptions, directory: Directory): Promise<Network> {
  const network = new Network(createContext({ directory }), options)
  await network.start()
  return network
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
