// 25 s. A router restarts, or gets another address, in the middle of two pipes: the node knows its new public address
// within one keep-alive interval, and both pipes go on without a byte lost.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { SocketAddress } from '../../src/core/address.ts'
import { Lab } from '../../src/lab/index.ts'
import { AGENT_PORT, kinds, type KindName, type RouterSpec } from '../../src/sim/index.ts'
import { root } from '../e2e/natwork.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const built = (path: string): string => JSON.stringify(pathToFileURL(join(root, 'dist', path)).href)

/** One mapping per socket, on a new port after each restart. */
const forgetful: RouterSpec = {
  ...kinds['full-cone'].routers[0]!,
  behaviour: { ...kinds['port-restricted'].behaviour!, ports: 'random', lifetime: 300 },
}

interface Site {
  readonly router: KindName | RouterSpec
  readonly event: (lab: Lab) => Promise<void>
  /** The router whose outer address the world sees; without it no address can be told. */
  readonly outermost?: string
}

const sites: Readonly<Record<string, Site>> = {
  restart: { router: forgetful, event: (lab) => lab.flush('restart-home'), outermost: 'restart-home' },
  renumber: {
    router: 'port-restricted',
    event: (lab) => lab.rebind('renumber-home', '198.51.100.99'),
    outermost: 'renumber-home',
  },
  carrier: {
    router: 'cgn-cone',
    event: (lab) => lab.rebind('carrier-carrier', '198.51.100.98'),
    outermost: 'carrier-carrier',
  },
  symmetric: { router: 'symmetric', event: (lab) => lab.flush('symmetric-home') },
}

/** Milliseconds: the keeper's interval, and what its questions and a busy machine may take besides. */
const INTERVAL = 25_000
const MARGIN = 5_000

describe('in the middle of a pipe', { skip, concurrency: true }, () => {
  let lab: Lab
  let serverId: string

  before(async () => {
    const places = Object.entries(sites).map(([name, { router }]) => [name, { routers: [router] }] as const)
    lab = await Lab.create({ hosts: { server: { addresses: 2 } }, sites: Object.fromEntries(places) })
    serverId = await startServer(lab)
  })
  after(() => lab.close())

  for (const [name, site] of Object.entries(sites)) {
    test(name, () => check(lab, serverId, name, site))
  }
})

async function check(lab: Lab, serverId: string, name: string, site: Site): Promise<void> {
  const client = startClient(lab, `${name}1`, serverId, site.outermost !== undefined)
  const first = await client.line()
  const before = site.outermost && (await outer(lab, site.outermost))
  assert.deepEqual(first.address, before, 'known from the start')
  await site.event(lab)
  client.tell('it happened')
  const { address, knownAfter, onAfter } = await client.line()
  assert.ok(onAfter! < INTERVAL + MARGIN, `both pipes went on after ${onAfter} ms`)
  if (site.outermost === undefined) return
  const now = await outer(lab, site.outermost)
  assert.deepEqual(address, now)
  assert.notDeepEqual(now, before)
  assert.ok(knownAfter! < INTERVAL + MARGIN, `the new address was known after ${knownAfter} ms`)
}

/** Where the router shows the node on the agent's port, by its own table. */
async function outer(lab: Lab, router: string): Promise<SocketAddress> {
  const address = lab.address(router)
  const own = new RegExp(
    `sport=${AGENT_PORT} dport=3478 .* dst=${address.replaceAll('.', '\\.')} sport=3478 dport=(\\d+)`,
  )
  for (const flow of await lab.conntrack(router)) {
    const port = own.exec(flow)?.[1]
    if (port !== undefined) return { address, port: Number(port) }
  }
  throw new Error(`no flow of the node in ${router}`)
}

interface Said {
  readonly address?: SocketAddress
  readonly knownAfter?: number
  readonly onAfter?: number
}

/** Two STUN servers and a node with two services: one says back what it hears, one counts for ever. */
async function startServer(lab: Lab): Promise<string> {
  const server = lab.exec('server', process.execPath, [
    ...['--input-type=module', '-e'],
    `
    import { createServer } from 'node:net'
    import { createContext, memoryDirectory } from ${built('directory/index.js')}
    import { Network } from ${built('network/index.js')}
    import { StunService } from ${built('stun/index.js')}
    for (const host of ${JSON.stringify(stunHosts(lab))}) await StunService.listen({ host, tcp: false })
    const echo = createServer((socket) => socket.pipe(socket).on('error', () => {}))
    const count = createServer((socket) => {
      let n = 0
      const timer = setInterval(() => socket.write(n++ + '\\n'), 20)
      socket.on('error', () => {}).on('close', () => clearInterval(timer))
    })
    const services = []
    for (const [name, tcp] of Object.entries({ echo, count })) {
      await new Promise((resolve) => tcp.listen(0, '127.0.0.1', resolve))
      services.push({ name, host: '127.0.0.1', port: tcp.address().port, allow: '*' })
    }
    const network = new Network(createContext({ directory: memoryDirectory() }), { services })
    await network.start()
    console.log(network.id)`,
  ])
  server.stderr.pipe(process.stderr)
  const [id] = (await once(server.stdout, 'data')) as [Buffer]
  return id.toString().trim()
}

function stunHosts(lab: Lab): string[] {
  return lab.hosts.find(({ name }) => name === 'server')!.addresses.filter((one) => !one.includes(':'))
}

/** A node with both pipes open. It says its address; when told that it happened, it says when all was well again. */
function startClient(
  lab: Lab,
  client: string,
  serverId: string,
  hasAddress: boolean,
): { line: () => Promise<Said>; tell: (text: string) => void } {
  const child = lab.exec(client, process.execPath, [
    ...['--input-type=module', '-e'],
    `
    import { once } from 'node:events'
    import { createInterface } from 'node:readline'
    import { createContext, memoryDirectory } from ${built('directory/index.js')}
    import { Network } from ${built('network/index.js')}
    const stun = ${JSON.stringify(stunHosts(lab).map((host) => `stun:${host}`))}
    const network = new Network(createContext({ directory: memoryDirectory() }), { port: ${AGENT_PORT}, stun })
    await network.start()
    while (network.publicAddress.reason === 'pending') await once(network, 'publicAddress')
    const addresses = [{ address: '${lab.address('server')}', port: 1315 }]
    const open = (service) => network.connect('${serverId}', { service, addresses })
    const [echo, count] = await Promise.all([open('echo'), open('count')])
    let sent = 0
    setInterval(() => echo.write(sent++ + '\\n'), 20)
    // Every line is the number after the last one, or bytes were lost.
    const seen = [0, 0]
    for (const [i, pipe] of [echo, count].entries()) {
      createInterface({ input: pipe }).on('line', (line) => {
        if (Number(line) !== seen[i]++) throw new Error('lost: ' + line + ' in place of ' + (seen[i] - 1))
      })
    }
    const both = (least) => new Promise((resolve) => {
      const timer = setInterval(() => {
        if (seen.some((n, i) => n < least[i])) return
        clearInterval(timer)
        resolve()
      }, 10)
    })
    await both([10, 10])
    const { known, address } = network.publicAddress
    console.log(JSON.stringify(known ? { address } : {}))
    const changed = once(network, 'publicAddress')
    await once(process.stdin, 'data')
    const start = performance.now()
    // What was on its way when it happened may still come in: far beyond that.
    const wellAgain = both(seen.map((n) => n + 200)).then(() => performance.now() - start)
    const knownAfter = ${hasAddress} ? await changed.then(() => performance.now() - start) : undefined
    const onAfter = await wellAgain
    console.log(JSON.stringify({ address: network.publicAddress.address, knownAfter, onAfter }))
    process.exit()`,
  ])
  child.stderr.pipe(process.stderr)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    line: async () => {
      const line = await lines.next()
      assert.ok(line.done !== true, 'the node ended')
      return JSON.parse(line.value) as Said
    },
    tell: (text) => void child.stdin.write(`${text}\n`),
  }
}
