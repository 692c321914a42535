// 20 s. Two machines behind one router that leads nowhere: no helper, no default route, no ticket. They find each other by
// multicast DNS, by IPv4 and IPv6, several on one machine, and after a change of address.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Lab } from '../../src/lab/index.ts'
import { loadOrCreatePrivateKey, nodeIdOf } from '../../src/network/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const limit = { skip, timeout: 120_000 }
const tsx = import.meta.resolve('tsx')
const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const program = fileURLToPath(new URL('mdns-node.ts', import.meta.url))

test('the command line, with --mdns on both: a forward by id, without a ticket', limit, async (t) => {
  await using lab = await offline()
  const [a, b] = [new User(t, lab, 'a1'), new User(t, lab, 'a2')]
  const idOfB = await b.id()
  const site = `require('node:http').createServer((_, out) => out.end('found')).listen(80, '127.0.0.1', () => console.log('{}'))`
  await new Spoken(lab.exec('a1', process.execPath, ['-e', site])).next()
  await a.configures(`mdns: true\nservices: { web: { target: 127.0.0.1:80, allow: [${idOfB}] } }\n`)
  const up = await a.start('up', '--no-port-map')
  const { id } = await up.hears('id')

  const { port } = await (await b.start('forward', '0', `${String(id)}/web`, '--mdns')).hears('port')
  const { stdout } = await lab.run('a2', process.execPath, [
    '-e',
    `fetch('http://127.0.0.1:${Number(port)}/').then((got) => got.text()).then(console.log)`,
  ])
  assert.equal(stdout.trim(), 'found')
  // Who only looks is not seen.
  const { nearby } = await (await a.start('status')).hears('nearby')
  assert.deepEqual(nearby, [])
})

test('nodes come, move and go: IPv4 and IPv6, two on one machine', limit, async () => {
  await using lab = await offline()
  const run = (host: string, at: string, mdns: boolean | 'browse' = true): Spoken =>
    new Spoken(
      lab.exec(host, process.execPath, [
        '--import',
        tsx,
        program,
        JSON.stringify({ host: at, port: 0, mdns }),
      ]),
    )
  const looking = run('a2', '::')
  await looking.hears('id')
  const [four, both] = [run('a1', '0.0.0.0'), run('a1', '::')]
  const [{ id: idOfFour }, { id: idOfBoth }] = await Promise.all([four.hears('id'), both.hears('id')])
  const [address, address6] = [lab.address('a1'), lab.address('a1', 6)]
  const seenFrom = (spoken: Spoken, id: unknown) =>
    spoken
      .sees((nearby) => nearby.some((one) => one.id === id))
      .then((nearby) => nearby.find((one) => one.id === id)!.addresses.map((at) => at.replace(/:\d+$/, '')))
  assert.deepEqual(await seenFrom(looking, idOfFour), [address])
  const places = await seenFrom(looking, idOfBoth)
  assert.ok(places.includes(address) && places.includes(`[${address6}]`), String(places))
  assert.ok(
    places.some((at) => /^\[fe80::.*%eth0\]$/.test(at)),
    String(places),
  )
  // Programs of one machine share the port of multicast DNS.
  assert.deepEqual(await seenFrom(both, idOfFour), [address])

  const reaches = async (id: string | undefined): Promise<void> => {
    looking.says({ connect: id })
    assert.equal((await looking.hears('reached')).reached, id)
  }
  await reaches(idOfFour)
  await reaches(idOfBoth)

  four.says({ stop: true })
  await looking.sees((nearby) => !nearby.some(({ id }) => id === idOfFour))

  const elsewhere = address.replace(/\d+$/, '77')
  await lab.rebind('a1', elsewhere)
  await looking.sees((nearby) =>
    nearby.some(({ id, addresses }) => id === idOfBoth && addresses.some((at) => at.startsWith(elsewhere))),
  )
})

test('where multicast is impossible a node starts all the same, and says so once', limit, async () => {
  await using lab = await offline()
  // Somebody has the port and does not share it.
  const taken = `require('node:dgram').createSocket('udp4').bind(5353, () => console.log('{}'))`
  await new Spoken(lab.exec('a1', process.execPath, ['-e', taken])).next()
  const node = new Spoken(
    lab.exec('a1', process.execPath, [
      ...['--import', tsx, program, JSON.stringify({ host: '0.0.0.0', port: 0, mdns: true })],
    ]),
  )
  const { warnings } = await node.hears('id')
  assert.deepEqual(warnings?.length, 1)
  assert.match(String(warnings), /multicast DNS does not work here/)
})

/** Two machines and a router; nothing leads out. */
async function offline(): Promise<Lab> {
  const site = { routers: ['port-restricted' as const], clients: 2, families: [4, 6] as const }
  const lab = await Lab.create({ hosts: {}, sites: { a: site } })
  for (const host of ['a1', 'a2']) {
    await lab.run(host, 'ip', ['route', 'del', 'default'])
    await lab.run(host, 'ip', ['-6', 'route', 'del', 'default'])
  }
  return lab
}

interface Said {
  readonly id?: string
  readonly port?: number
  readonly nearby?: readonly { readonly id: string; readonly addresses: readonly string[] }[]
  readonly reached?: string
  readonly warnings?: readonly string[]
  readonly error?: unknown
}

type Nearby = NonNullable<Said['nearby']>

/** What a program says, a JSON value a line. */
class Spoken {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  #nearby: Nearby = []
  #log = ''

  constructor(child: ChildProcess) {
    this.#child = child
    child.stderr!.on('data', (text) => (this.#log += String(text)))
    this.#lines = createInterface(child.stdout!)[Symbol.asyncIterator]()
  }

  async next(): Promise<Said> {
    const line = await this.#lines.next()
    if (line.done === true) throw new Error(`the program ended: ${this.#log}`)
    const said = JSON.parse(line.value) as Said
    this.#nearby = said.nearby ?? this.#nearby
    return said
  }

  /** The list as it is, once it is so: it may have been told while something else was waited for. */
  async sees(is: (nearby: Nearby) => boolean): Promise<Nearby> {
    while (!is(this.#nearby)) await this.until(({ nearby }) => nearby !== undefined)
    return this.#nearby
  }

  async until(is: (said: Said) => boolean): Promise<Said> {
    for (;;) {
      const said = await this.next()
      if (said.error !== undefined) throw new Error(JSON.stringify(said.error))
      if (is(said)) return said
    }
  }

  hears(field: keyof Said): Promise<Said> {
    return this.until((said) => said[field] !== undefined)
  }

  says(value: object): void {
    this.#child.stdin!.write(`${JSON.stringify(value)}\n`)
  }
}

/** Somebody with a home of their own on a machine of the lab. */
class User {
  readonly #lab: Lab
  readonly #host: string
  readonly #home: Promise<string>

  constructor(t: TestContext, lab: Lab, host: string) {
    this.#lab = lab
    this.#host = host
    this.#home = mkdtemp(join(tmpdir(), 'natwork-mdns-'))
    t.after(async () => rm(await this.#home, { recursive: true, force: true }))
  }

  /** Makes the key that the command line will find. */
  async id(): Promise<string> {
    const folder = join(await this.#home, '.local/state/natwork')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    return nodeIdOf(await loadOrCreatePrivateKey(join(folder, 'key.pem')))
  }

  async configures(text: string): Promise<void> {
    const folder = join(await this.#home, '.config/natwork')
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'config.yaml'), text)
  }

  async start(...args: string[]): Promise<Spoken> {
    const env = { PATH: process.env['PATH'] ?? '', HOME: await this.#home }
    return new Spoken(
      this.#lab.exec(this.#host, process.execPath, ['--import', tsx, main, ...args, '--json'], { env }),
    )
  }
}
