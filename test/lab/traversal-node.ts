// A node in a lab, as traversal.test.ts and helper-relay.test.ts play them: `helper`, `sink` (says how much arrives, hashes it
// and answers with the hash), `source` (sends slowly until a line comes on stdin) or `bulk` (sends so many bytes as fast as they go, and
// more until a line comes). Says everything as JSON lines.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createContext, memoryDirectory } from '../../src/directory/index.ts'
import { Network, parseNodeId, type NetworkOptions } from '../../src/network/index.ts'

const [role, options = '{}', peer = ''] = process.argv.slice(2)
const { key, ...given } = JSON.parse(options) as NetworkOptions & { key?: string }
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`)

if (role === 'sink') await sink()
else if (role === 'source') await source()
else if (role === 'bulk') await bulk(Number(process.argv[5]))
else say({ id: (await start(given)).id })

async function sink(): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256')
    let arrived = 0
    const progress = setInterval(() => say({ arrived }), 100)
    socket
      .on('data', (bytes) => {
        hash.update(bytes)
        arrived += bytes.length
      })
      .on('close', () => clearInterval(progress))
      .on('end', () => socket.end(hash.digest('hex')))
      .on('error', () => undefined)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const network = await start({
    ...given,
    services: [{ name: 'sink', host: '127.0.0.1', port, allow: '*' }],
  })
  say({ id: network.id })
}

async function source(): Promise<void> {
  const network = await start(given)
  network.on('connection', ({ peer: id, state, path }) => {
    if (id === peer) say({ state, path: path?.kind })
  })
  network.on('trace', (id, entry) => {
    if (id === peer && entry.what === 'search') say({ search: entry.search })
  })
  const stream = await network.connect(parseNodeId(peer), { service: 'sink' })
  stream.on('error', (error) => say({ error: error.message }))
  const stop = new AbortController()
  process.stdin.once('data', () => stop.abort())
  const hash = createHash('sha256')
  const block = randomBytes(4_096)
  const progress = setInterval(() => say({ moved: stream.bytesOut - stream.writableLength }), 100)
  for (let count = 0; !stop.signal.aborted; count++) {
    block.writeUInt32BE(count)
    const bytes = Buffer.from(block)
    hash.update(bytes)
    if (!stream.write(bytes)) await once(stream, 'drain')
    // Slow enough for a lab on a busy machine, fast enough to have packets under way at any time.
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  stream.end()
  const answer: Buffer[] = []
  for await (const bytes of stream) answer.push(bytes as Buffer)
  clearInterval(progress)
  const found = network.connections.find((one) => one.peer === peer)
  say({
    same: Buffer.concat(answer).toString() === hash.digest('hex'),
    history: found?.history.map(({ kind }) => kind),
    connection: found && { ...found, pairs: [], trace: [] },
  })
  await network.stop()
}

async function bulk(bytes: number): Promise<void> {
  const network = await start(given)
  network.on('connection', ({ peer: id, state, path }) => {
    if (id === peer) say({ state, path: path?.kind })
  })
  const called = performance.now()
  const stream = await network.connect(parseNodeId(peer), { service: 'sink' })
  say({ connected: Math.round(performance.now() - called), blocked: network.udpBlocked })
  stream.on('error', (error) => say({ error: error.message }))
  const stop = new AbortController()
  process.stdin.once('data', () => stop.abort())
  const progress = setInterval(() => say({ moved: stream.bytesOut - stream.writableLength }), 100)
  const hash = createHash('sha256')
  const block = randomBytes(65_536)
  const began = performance.now()
  let sent = 0
  for (let count = 0; sent < bytes || !stop.signal.aborted; count++) {
    const chunk = Buffer.from(block)
    chunk.writeUInt32BE(count)
    hash.update(chunk)
    sent += chunk.length
    if (!stream.write(chunk)) await once(stream, 'drain')
  }
  stream.end()
  const answer: Buffer[] = []
  for await (const part of stream) answer.push(part as Buffer)
  clearInterval(progress)
  const found = network.connections.find((one) => one.peer === peer)
  say({
    same: Buffer.concat(answer).toString() === hash.digest('hex'),
    history: found?.history.map(({ kind }) => kind),
    sent,
    seconds: (performance.now() - began) / 1_000,
  })
  await network.stop()
}

async function start(all: NetworkOptions): Promise<Network> {
  const network = new Network(
    createContext({ directory: memoryDirectory(), ...(key && { privateKey: key }) }),
    { host: '0.0.0.0', ...all },
  )
  await network.start()
  return network
}
