// 25 s. The real miniupnpd on real nft routers: a port is mapped by each of the three protocols, strangers come in, the
// router's rules show it, a reboot is survived, and nothing is left after the end.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { Lab } from '../../src/lab/index.ts'
import type { GatewayReport, MappingProtocol, NoMapping, PortMapping } from '../../src/portmap/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const source = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)
const portmap = source('portmap/index.ts')
const asModule = ['--import', 'tsx', '--input-type=module', '-e']
const PORT = 4321

/** What the router does not hear on port 5351, so that it seems to speak the other protocols only. */
const deafTo: Readonly<Record<MappingProtocol, string | undefined>> = {
  pcp: undefined,
  'nat-pmp': 'udp dport 5351 @th,64,8 2 drop',
  'upnp-igd': 'udp dport 5351 drop',
}

type News =
  | { readonly event: 'mapped'; readonly value: PortMapping }
  | { readonly event: 'lost'; readonly value: PortMapping }
  | { readonly event: 'unavailable'; readonly value: NoMapping }
  | { readonly event: 'got'; readonly value: string }
  | { readonly event: 'stopped' }

const sites = { a: 'pcp', b: 'nat-pmp', c: 'upnp-igd' } as const

test('in by each protocol, through a reboot, and out again', { skip, timeout: 120_000 }, async () => {
  const upnp = { routers: ['upnp' as const], families: [4 as const, 6 as const] }
  await using lab = await Lab.create({ sites: { a: upnp, b: upnp, c: upnp } })
  // A restart shows by an uptime that is shorter than before, by 2 seconds at least (RFC 6887 §8.5).
  const uptime = setTimeout(4_000)
  await Promise.all(
    Object.entries(sites).map(async ([site, protocol]) => {
      const [host, router] = [`${site}1`, `${site}-home`]
      const deaf = deafTo[protocol]
      if (deaf !== undefined) await block(lab, router, deaf)
      const client = new Client(lab, host)
      const { external, useful, lifetime, ...made } = await client.mapped(4)
      assert.equal(made.protocol, protocol)
      assert.deepEqual(external, { address: lab.address(router), port: PORT })
      assert.equal(useful, true)
      assert.equal(lifetime, 7_200)
      assert.match(
        await rules(lab, router),
        new RegExp(`th dport ${PORT} dnat ip to ${lab.address(host)}:${PORT}`),
      )
      await uptime
      client.tell('recheck')
      await client.hears(external, 'before')

      await lab.flush(router)
      assert.doesNotMatch(await rules(lab, router), /dnat ip/)
      // The clients of a router spread over 5 seconds (RFC 6886 §3.7); one that looks finds out at once.
      client.tell('recheck')
      await waitFor(async () => /dnat ip/.test(await rules(lab, router)))
      await client.hears(external, 'after')

      if (protocol === 'pcp') {
        const hole = await client.mapped(6)
        assert.deepEqual(hole.external, { address: lab.address(host, 6), port: PORT })
        await client.hears(hole.external, 'by IPv6')
        // What STUN servers say is believed more than the router.
        client.tell('seen 203.0.113.99')
        const judged = await client.mapped(4)
        assert.equal(judged.useful, false)
        assert.match(judged.reason ?? '', /internet sees \(203\.0\.113\.99\)/)
        client.tell(`seen ${external.address}`)
        assert.equal((await client.mapped(4)).useful, true)
      }
      client.tell('stop')
      await client.next('stopped')
      assert.doesNotMatch(await rules(lab, router), new RegExp(String(PORT)))
    }),
  )
})

test(
  'netcheck’s look, and a mapping behind a carrier’s NAT, which is of no use',
  { skip, timeout: 120_000 },
  async () => {
    await using lab = await Lab.create({ sites: { b: 'upnp-behind-cgn', c: 'port-restricted' } })
    const client = new Client(lab, 'b1')
    const { useful, reason, external } = await client.mapped(4)
    assert.equal(useful, false)
    assert.match(reason ?? '', /inside the carrier’s network/)
    assert.match(external.address, /^100\.64\./)
    client.tell('stop')
    await client.next('stopped')

    const [report] = await look(lab, 'b1')
    assert.match(report!.reason ?? '', /inside the carrier’s network/)
    for (const protocol of ['pcp', 'nat-pmp', 'upnp-igd'] as const) {
      const { available, external: seen } = report!.protocols[protocol]
      assert.deepEqual({ protocol, available, seen }, { protocol, available: true, seen: external.address })
    }
    assert.doesNotMatch(await rules(lab, 'b-home'), /dport \d+ dnat/)

    const [none] = await look(lab, 'c1')
    assert.deepEqual(
      Object.values(none!.protocols).map(({ available }) => available),
      [false, false, false],
    )
  },
)

test(
  'a node behind a router that maps ports is dialled by its own record',
  { skip, timeout: 120_000 },
  async () => {
    await using lab = await Lab.create({ sites: { a: 'upnp' } })
    const modules = `
    import { createContext, memoryDirectory } from ${source('directory/index.ts')}
    import { Network } from ${source('network/index.ts')}
    const directory = memoryDirectory()
    const logger = { debug() {}, warn() {}, error() {}, info: (text) => console.error(text) }
    const context = { ...createContext({ directory }), logger }`
    // No STUN server and no helper: nothing but the router tells it where it can be reached.
    const node = lab.exec(
      'a1',
      process.execPath,
      [
        ...asModule,
        `${modules}
      const network = new Network(context, { portMapping: true })
      await network.start()
      while (network.address().address !== '${lab.address('a-home')}') await new Promise((go) => setTimeout(go, 50))
      console.log(JSON.stringify(network.self))
      process.once('SIGTERM', () => network.stop())`,
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    )
    const [record] = (await once(createInterface({ input: node.stdout! }), 'line')) as [string]
    const { code, stderr } = await lab.run('helper', process.execPath, [
      ...asModule,
      `${modules}
    const network = new Network(context, { port: 0 })
    await network.start()
    const self = ${record}
    await directory.put(self)
    await network.ping(self.id)
    await network.stop()`,
    ])
    assert.equal(code, 0, stderr)
    assert.match(await rules(lab, 'a-home'), /dnat ip to/)
    node.kill('SIGTERM')
    await once(node, 'exit')
    assert.doesNotMatch(await rules(lab, 'a-home'), /dnat ip to/)
  },
)

/** A program on a host of the lab that maps its port and tells what happens. */
class Client {
  readonly #lab: Lab
  readonly #input: NodeJS.WritableStream
  readonly #lines: AsyncIterator<string, undefined>
  readonly #news: News[] = []

  constructor(lab: Lab, host: string) {
    const child = lab.exec(
      host,
      process.execPath,
      [
        ...asModule,
        `
        import { createSocket } from 'node:dgram'
        import { once } from 'node:events'
import { createInterface } from 'node:readline'
        import { PortMapper } from ${portmap}
        const tell = (event, value) => console.log(JSON.stringify({ event, value }))
        for (const type of ['udp4', 'udp6']) {
          const socket = createSocket({ type, ipv6Only: type === 'udp6' })
          socket.on('message', (bytes) => tell('got', bytes.toString())).bind(${PORT})
        }
        const mapper = new PortMapper()
        for (const event of ['mapped', 'lost', 'unavailable']) mapper.on(event, (value) => tell(event, value))
        await mapper.start({ port: ${PORT} })
        for await (const line of createInterface({ input: process.stdin })) {
          if (line === 'recheck') mapper.recheck()
          else if (line.startsWith('seen ')) mapper.observe(4, line.slice(5))
          else break
        }
        await mapper.stop()
        tell('stopped')
        process.exit()`,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    )
    this.#lab = lab
    this.#input = child.stdin!
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  }

  tell(word: 'recheck' | 'stop' | `seen ${string}`): void {
    this.#input.write(`${word}\n`)
  }

  /** The news of this kind that is still unread, or the next. */
  async next<Event extends News['event']>(
    event: Event,
    fits: (news: News & { event: Event }) => boolean = () => true,
  ): Promise<News & { event: Event }> {
    const isIt = (news: News): news is News & { event: Event } =>
      news.event === event && fits(news as News & { event: Event })
    for (;;) {
      const found = this.#news.findIndex(isIt)
      if (found >= 0) return this.#news.splice(found, 1)[0] as News & { event: Event }
      const { value, done } = await this.#lines.next()
      assert.ok(done !== true, `the client ended without "${event}"; it said ${JSON.stringify(this.#news)}`)
      const news = JSON.parse(value) as News
      assert.ok(news.event !== 'unavailable' || news.value.family === 6, value)
      this.#news.push(news)
    }
  }

  async mapped(family: 4 | 6): Promise<PortMapping> {
    const isOf = ({ value }: { value: PortMapping }): boolean =>
      value.external.address.includes(':') === (family === 6)
    return (await this.next('mapped', isOf)).value
  }

  /** A stranger, whom the client has sent nothing, reaches it at this address. */
  async hears(at: PortMapping['external'], word: string): Promise<void> {
    const type = at.address.includes(':') ? 'udp6' : 'udp4'
    // Sent until it is heard: a datagram may be lost anywhere.
    const stranger = this.#lab.exec('helper', process.execPath, [
      '-e',
      `const s = require('node:dgram').createSocket('${type}')
       setInterval(() => s.send('${word}', ${at.port}, '${at.address}'), 100)`,
    ])
    await this.next('got', ({ value }) => value === word)
    stranger.kill()
  }
}

async function block(lab: Lab, router: string, rule: string): Promise<void> {
  const script = `add table inet deaf
    add chain inet deaf input { type filter hook input priority -5 ; }
    add rule inet deaf input iifname "lan0" ${rule}`
  const { code, stderr } = await lab.run(router, 'nft', [script])
  assert.equal(code, 0, stderr)
}

async function rules(lab: Lab, router: string): Promise<string> {
  const { stdout } = await lab.run(router, 'nft', ['list', 'ruleset'])
  return stdout
}

/** The test's own timeout ends it. */
async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await setTimeout(100)
}

async function look(lab: Lab, host: string): Promise<GatewayReport[]> {
  const { stdout, stderr } = await lab.run(host, process.execPath, [
    ...asModule,
    `import { discoverGateways } from ${portmap}
     console.log(JSON.stringify(await discoverGateways()))`,
  ])
  assert.ok(stdout !== '', stderr)
  return JSON.parse(stdout) as GatewayReport[]
}
