// The matrix adapter for hyperdht: a private bootstrap on the helper host, no relay (hyperdht uses none by itself).
import type { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import {
  play,
  readTask,
  receivePayload,
  requireFor,
  say,
  sendPayload,
  startClock,
  type Channel,
  type Stop,
} from './program.ts'

const task = readTask<Bootstrap, { publicKey: string }>()

/** hyperdht's own default. */
const DHT_PORT = 49737

play(task, { helper, a, b })

/** One bootstrap node per address: hyperdht judges its NAT by four samples, and a real network has many nodes. */
async function helper(): Promise<void> {
  const HyperDht = loadHyperDht()
  const bootstrap: string[] = []
  for (const host of task.helper(4)) {
    const node = new HyperDht({
      host,
      port: DHT_PORT,
      bootstrap: [...bootstrap],
      ephemeral: false,
      firewalled: false,
    })
    await node.fullyBootstrapped()
    bootstrap.push(`${host}:${DHT_PORT}`)
  }
  say({ event: 'ready', info: { bootstrap } })
}

async function b(onStop: (stop: Stop) => void): Promise<void> {
  const dht = await startNode(onStop)
  const server = dht.createServer((connection) => {
    receivePayload(channelOf(connection), task.payload)
  })
  await server.listen()
  say({ event: 'ready', info: { publicKey: server.publicKey.toString('hex') } })
}

async function a(onStop: (stop: Stop) => void): Promise<void> {
  const dht = await startNode(onStop)
  const clock = startClock()
  const connection = dht.connect(Buffer.from(task.peerInfo.publicKey, 'hex'))
  connection.on('error', (error: Error & { code?: string }) => {
    say({ event: 'failed', reason: `${error.code ?? 'error'}: ${error.message}` })
  })
  const ms = await sendPayload(channelOf(connection), task.payload, clock)
  const { remoteHost, remotePort, socket } = connection.rawStream
  const local = socket.address()
  say({
    event: 'done',
    ms,
    path: 'direct',
    local: `${local.host}:${local.port}`,
    remote: `${remoteHost}:${remotePort}`,
    details: { punches: dht.stats.punches },
  })
}

async function startNode(onStop: (stop: Stop) => void): Promise<Node> {
  const node = new (loadHyperDht())({ port: task.port, bootstrap: task.helperInfo.bootstrap })
  onStop(() => node.destroy({ force: true }))
  await node.fullyBootstrapped()
  return node
}

function channelOf(connection: Connection): Channel {
  const channel: Channel = {
    send: (bytes) => {
      connection.write(bytes)
    },
    onData: () => undefined,
  }
  connection.on('data', (bytes: Buffer) => {
    channel.onData(bytes)
  })
  connection.on('error', () => undefined) // B: A has gone
  return channel
}

/** hyperdht never talks to addresses it takes for bogons, and the lab's whole internet is documentation addresses. */
function loadHyperDht(): HyperDhtConstructor {
  const require = requireFor('hyperdht')
  const bogon = createRequire(require.resolve('hyperdht'))('bogon') as Bogon
  // hyperdht takes the functions out of the module when it is loaded: change them before.
  bogon.isReserved = () => false
  bogon.isBogon = (host) => bogon.isPrivate(host)
  return require('hyperdht') as HyperDhtConstructor
}

interface Bootstrap {
  readonly bootstrap: readonly string[]
}

interface Bogon {
  isPrivate: (host: unknown) => boolean
  isReserved: (host: unknown) => boolean
  isBogon: (host: unknown) => boolean
}

// hyperdht brings no types: what is used here.
type HyperDhtConstructor = new (options: {
  host?: string
  port: number
  bootstrap: readonly string[]
  ephemeral?: boolean
  firewalled?: boolean
}) => Node

interface Node {
  readonly stats: { readonly punches: Record<string, number> }
  fullyBootstrapped(): Promise<void>
  destroy(options: { force: boolean }): Promise<void>
  connect(publicKey: Buffer): Connection
  createServer(onConnection: (connection: Connection) => void): Server
}

interface Server {
  readonly publicKey: Buffer
  listen(): Promise<void>
}

interface Connection extends EventEmitter {
  readonly rawStream: {
    readonly remoteHost: string
    readonly remotePort: number
    readonly socket: { address(): { host: string; port: number } }
  }
  write(bytes: Uint8Array): boolean
}
