// 15 s. Nodes behind real nft routers meet through helpers; failures.test.ts breaks more in the middle of a transfer.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { SocketAddress } from '../../src/core/index.ts'
import { Lab, type PathParameters } from '../../src/lab/index.ts'
import { kinds, type KindName } from '../../src/sim/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const program = fileURLToPath(new URL('traversal-node.ts', import.meta.url))

test('NAT64 × port-restricted: direct, by helpers of IPv4 alone', { skip }, async () => {
  await using stage = await open('nat64', 'port-restricted')
  const { source, sink } = stage
  await source.until(({ path }) => path === 'direct')
  await sink.receives()
  const { same } = await source.finish()
  assert.equal(same, true)
})

test('the caller gets another address in mid-transfer: direct again, nothing lost', { skip }, async () => {
  await using stage = await open('port-restricted', 'port-restricted', { loss: 0.03 })
  const { lab, source, sink } = stage
  await source.until(({ path }) => path === 'direct')
  await sink.receives()
  await lab.rebind('a1', lab.address('a1').replace(/\d+$/, '77'))
  // The relay may carry it until the new address is through its checks.
  await sink.receives()
  await source.until(({ path }) => path === 'direct')
  const { same, connection } = await source.finish()
  assert.equal(same, true)
  checkConnection(connection!, lab)
})

test(
  'the peer names the address of another node as its own: the caller, which tries there first, gets through',
  { skip },
  async () => {
    await using stage = await open('full-cone', 'symmetric', {}, true)
    const { source, sink } = stage
    await source.until(({ path }) => path === 'direct')
    // A caller that gives up ends.
    await Promise.race([sink.receives(), source.until(() => false)])
    const { same, connection } = await source.finish()
    assert.equal(same, true)
    assert.equal(connection?.path?.remote.address, stage.lab.address('b-home'))
  },
)

/** What `network.connections` says of it. */
function checkConnection(connection: Connection, lab: Lab): void {
  const { path, rtt, loss, bytesIn, bytesOut, since, history } = connection
  assert.deepEqual([path?.kind, path?.remote], ['direct', { address: lab.address('b-home'), port: 1315 }])
  assert.equal(path?.local.address, lab.address('a-home'))
  // Four ways of 10 ms, of which two lose 3 %: of some six hundred packets.
  assert.ok(rtt !== undefined && rtt >= 40, `round trip ${rtt} ms`)
  assert.ok(loss > 0 && loss < 0.3, `loss ${loss}`)
  assert.ok(bytesOut > 800_000 && bytesIn > 64)
  // Each way begins where the one before ends; the last one is in use.
  assert.deepEqual(history.at(-1), path)
  assert.ok(history.length >= 2, JSON.stringify(history))
  const times = [since, ...history.flatMap(({ since: begun, until }) => [begun, until])]
  const said = times.filter((time) => time !== undefined).map((time) => Date.parse(time))
  assert.equal(said.length, 2 * history.length)
  assert.deepEqual(
    said,
    said.toSorted((one, other) => one - other),
  )
}

interface Use {
  readonly kind: string
  readonly local: SocketAddress
  readonly remote: SocketAddress
  readonly since: string
  readonly until?: string
}

interface Connection {
  readonly path?: Use
  readonly rtt?: number
  readonly loss: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly since: string
  readonly history: readonly Use[]
}

interface Said {
  readonly id?: string
  readonly state?: string
  readonly path?: string
  readonly arrived?: number
  readonly error?: string
  readonly same?: boolean
  readonly history?: readonly string[]
  readonly connection?: Connection
}

/** What a node says, and what holds now by all of it. */
class Node {
  readonly #child: ChildProcess
  readonly #now: Said = {}
  #failed?: Error
  #look?: () => void

  constructor(child: ChildProcess) {
    this.#child = child
    createInterface(child.stdout!)
      .on('line', (line) => {
        Object.assign(this.#now, JSON.parse(line))
        if (this.#now.error !== undefined) this.#failed ??= new Error(this.#now.error)
        this.#look?.()
      })
      .on('close', () => {
        this.#failed ??= new Error('the node ended')
        this.#look?.()
      })
  }

  /** Until this holds, which it may do already. */
  until(holds: (now: Said) => boolean): Promise<Said> {
    return new Promise((resolve, reject) => {
      this.#look = () => {
        if (holds(this.#now)) resolve(this.#now)
        else if (this.#failed) reject(this.#failed)
      }
      this.#look()
    })
  }

  /** More arrives than can be under way: the path of now carries it. */
  async receives(): Promise<void> {
    const { arrived: before = 0 } = this.#now
    await this.until(({ arrived = 0 }) => arrived > before + 400_000)
  }

  async finish(): Promise<Said> {
    this.#child.stdin!.write('stop\n')
    return this.until(({ same }) => same !== undefined)
  }
}

/** `isLying`: b names a helper's address among its own. */
async function open(a: KindName, b: KindName, path: PathParameters = {}, isLying = false) {
  const sites = { a, b: { routers: [b], path } }
  const lab = await Lab.create({ hosts: { helper: { addresses: 2 } }, sites })
  const addresses = lab.hosts
    .find(({ name }) => name === 'helper')!
    .addresses.filter((address) => !address.includes(':'))
  const run = (host: string, ...args: string[]): ChildProcess =>
    lab.exec(host, process.execPath, ['--import', 'tsx', program, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
  // The relay takes only addresses of the internet, and the lab's are for documentation.
  const help = { relay: { allow: ['0.0.0.0/0'] } }
  const helpers = addresses.map((host) => run('helper', 'helper', JSON.stringify({ host, port: 1315, help })))
  const ids = await Promise.all(helpers.map((child) => new Node(child).until(({ id }) => id !== undefined)))
  const optionsOf = (kind: KindName, more: object = {}): string =>
    JSON.stringify({
      ...more,
      host: kinds[kind].families.includes(6) ? '::' : '0.0.0.0',
      port: 1315,
      helpers: ids.map(({ id }, index) => `${id}@${addresses[index]}:1315`),
      timeouts: { keepAlive: 2_000 },
    })
  const sink = new Node(run('b1', 'sink', optionsOf(b, isLying ? { publicAddresses: [addresses[0]] } : {})))
  const { id = '' } = await sink.until((said) => said.id !== undefined)
  const source = new Node(run('a1', 'source', optionsOf(a), id))
  return { lab, helpers, source, sink, [Symbol.asyncDispose]: () => lab.close() }
}
