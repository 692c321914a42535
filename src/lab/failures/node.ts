// A node of a failure scenario, as users of the package would write it: `helper`, `sink` (hashes what it gets) or
// `source` (sends, for as long as it is told to and at least so many bytes). Everything it says is a JSON line; the
// commands of the source are lines, too.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { createContext, memoryDirectory } from '../../directory/index.ts'
import { Network, parseNodeId, type NetworkOptions } from '../../network/index.ts'
import type { NodeTask, Said } from './program.ts'

const KiB = 1_024
/** Milliseconds without data that are worth a word. */
const GAP = 40
/** Milliseconds between two words on what has moved. */
const INTERVAL = 50

const task = JSON.parse(process.argv[2] ?? '') as NodeTask
const say = (said: Said): void => void process.stdout.write(`${JSON.stringify(said)}\n`)
/** A clock that all programs of one machine share. */
const clock = (): number => performance.timeOrigin + performance.now()

// What ends it is the end of whoever started it.
process.stdin.on('end', () => process.exit())

switch (task.role) {
  case 'helper': {
    // The relay takes only addresses of the internet, and the lab's are for documentation.
    const network = await start({ help: { relay: { allow: ['0.0.0.0/0'] } } })
    process.stdin.resume()
    say({ says: 'ready', id: network.id, at: clock() })
    break
  }
  case 'sink':
    await sink()
    break
  case 'source':
    await source(task)
}

async function sink(): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, receive).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const network = await start({ services: [{ name: 'sink', host: '127.0.0.1', port, allow: '*' }] })
  // Where one helper is lost, the other one is to be known.
  while (network.helpers.length < task.helpers.length) await once(network, 'helpers')
  process.stdin.resume()
  say({ says: 'ready', id: network.id, at: clock() })
}

/** Says how much has come, and for how long nothing did. */
function receive(socket: Socket): void {
  const hash = createHash('sha256')
  let bytes = 0
  let last = clock()
  const timer = setInterval(() => say({ says: 'received', bytes, at: clock() }), INTERVAL)
  socket.on('data', (chunk: Buffer) => {
    const now = clock()
    if (now - last >= GAP) say({ says: 'gap', from: last, to: now, at: now })
    last = now
    bytes += chunk.length
    hash.update(chunk)
  })
  socket.on('end', () => {
    clearInterval(timer)
    socket.end(hash.digest('hex'))
  })
  socket.on('error', (error) => say({ says: 'error', message: error.message, at: clock() }))
}

async function source({ peer, bytes: least, rate }: NodeTask & { role: 'source' }): Promise<void> {
  const id = parseNodeId(peer)
  const network = await start({})
  network.on('connection', ({ peer: to, state, path }) => {
    if (to !== id) return
    const ends = path && { local: path.local.address, remote: path.remote.address }
    say({ says: 'path', state, ...(path && { path: path.kind, ...ends }), at: clock() })
  })
  const stream = await network.connect(id, { service: 'sink' })
  let answer = ''
  stream.on('data', (chunk: Buffer) => (answer += chunk.toString()))
  stream.on('error', (error) => {
    say({ says: 'error', message: error.message, at: clock() })
    process.exit(1)
  })
  const ended = once(stream, 'end')
  const orders = { pause: false, finish: false }
  createInterface(process.stdin).on('line', (line) => {
    if (line === 'pause') orders.pause = true
    if (line === 'resume') orders.pause = false
    if (line === 'finish') orders.finish = true
  })

  const hash = createHash('sha256')
  // Bytes that repeat nowhere, without the cost of making each.
  const noise = randomBytes(64 * KiB)
  const started = clock()
  let sent = 0
  let owed = started
  for (let n = 0; !(orders.finish && sent >= least); n++) {
    const block = Buffer.from(noise)
    block.writeUInt32BE(n)
    hash.update(block)
    sent += block.length
    if (!stream.write(block)) await once(stream, 'drain')
    while (orders.pause) await sleep(INTERVAL)
    if (rate === 0) continue
    owed = Math.max(owed, clock() - INTERVAL) + (block.length / rate) * 1_000
    if (owed > clock()) await sleep(owed - clock())
  }
  stream.end()
  await ended
  const found = network.connections.find((one) => one.peer === id)
  say({
    says: 'done',
    same: answer === hash.digest('hex'),
    bytes: sent,
    ms: clock() - started,
    history: found?.history.map(({ kind }) => kind) ?? [],
    at: clock(),
  })
  await network.stop()
  process.exit()
}

async function start(options: NetworkOptions): Promise<Network> {
  const network = new Network(createContext({ directory: memoryDirectory() }), {
    ...{ host: task.host, port: task.port, helpers: task.helpers },
    ...options,
  })
  await network.start()
  return network
}
