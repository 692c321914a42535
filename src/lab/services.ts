import type { ChildProcess } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { setupFailed, type Keeper } from './keeper.ts'
import { findProgram } from './native.ts'
import type { Plan, RouterNode } from './plan.ts'
import { NAT64_POOL } from './rules.ts'
import { TRANSLATOR, TRANSLATOR_PEER } from './script.ts'

interface Service {
  readonly program: string
  readonly args: readonly string[]
  /** What it says, on whichever output, once it works. */
  readonly ready: RegExp
}

/** Programs that some routers need besides the kernel. */
export function servicePrograms(plan: Plan): string[] {
  const mapping = routersOf(plan).some(({ spec }) => spec.portMapping)
  return mapping ? ['miniupnpd'] : []
}

/** The daemons on the routers: miniupnpd (NAT-PMP, PCP, UPnP-IGD), the NAT64 translator, its name server. */
export class Services {
  readonly #keeper: Keeper
  readonly #plan: Plan
  readonly #running = new Map<string, ChildProcess[]>()
  #starts = 0

  constructor(keeper: Keeper, plan: Plan) {
    this.#keeper = keeper
    this.#plan = plan
  }

  async start(): Promise<void> {
    if (servicePrograms(this.#plan).length > 0) await this.#installMiniupnpd()
    await Promise.all(routersOf(this.#plan).map((router) => this.#startAll(router)))
  }

  async restart(router: RouterNode): Promise<void> {
    const running = this.#running.get(router.name) ?? []
    await Promise.all(
      running.map(async (child) => {
        // Not 'exit': the helper ends a moment before the program in it, which holds the outputs (and its port).
        const ended = new Promise((resolve) => child.once('close', resolve))
        child.kill('SIGKILL')
        await ended
      }),
    )
    await this.#startAll(router)
  }

  async #startAll(router: RouterNode): Promise<void> {
    const services = this.#servicesOf(router)
    this.#running.set(
      router.name,
      await Promise.all(services.map((service) => this.#start(router.name, service))),
    )
  }

  /**
   * Debian's miniupnpd maps no ports while its outer address is a reserved one. The lab runs a copy of it that does not
   * know the documentation ranges as such, which are the public internet here, nor the carriers' range: many routers
   * map ports there, for nothing.
   */
  async #installMiniupnpd(): Promise<void> {
    const original = findProgram('miniupnpd')
    const program = original === undefined ? Buffer.alloc(0) : await readFile(original)
    let changed = 0
    for (const { network, length } of UNRESERVED) {
      const entry = reservedEntry(network, length)
      for (let at = program.indexOf(entry); at >= 0; at = program.indexOf(entry, at + 1)) {
        reservedEntry('0.0.0.0', 24).copy(program, at)
        changed += 1
      }
    }
    if (changed < UNRESERVED.length)
      throw setupFailed('this version of miniupnpd is not known: no table of reserved addresses in it')
    const { code, stderr } = await this.#keeper.run(
      '-',
      'sh',
      ['-c', `cat > ${MINIUPNPD} && chmod 755 ${MINIUPNPD}`],
      program,
    )
    if (code !== 0) throw setupFailed(stderr.trim())
  }

  #start(router: string, { program, args, ready }: Service): Promise<ChildProcess> {
    const child = this.#keeper.spawn(router, program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    return new Promise((resolve, reject) => {
      let said = ''
      const hear = (chunk: Buffer): void => {
        // Heard to the end, or a full pipe would stop it; kept only until it is ready.
        if (ready.test((said = (said + String(chunk)).slice(-4096)))) resolve(child)
      }
      child.stdout?.on('data', hear)
      child.stderr?.on('data', hear)
      child.once('error', reject)
      child.once('close', () =>
        reject(setupFailed(`${program} on ${router} ended: ${said.trim().split('\n').at(-1) ?? ''}`)),
      )
    })
  }

  #servicesOf({ name, spec, lan }: RouterNode): Service[] {
    const { helper } = this.#keeper
    const services: Service[] = []
    if (spec.portMapping) {
      // It does not start over the pid file of one that was killed, as a reboot does.
      const pidFile = `/run/lab/${name}.miniupnpd.${(this.#starts += 1)}.pid`
      const args = ['-d', '-f', `/run/lab/${name}.miniupnpd.conf`, '-P', pidFile]
      services.push({ program: MINIUPNPD, args, ready: /Listening for NAT-PMP/ })
    }
    if (spec.translation === 'nat64') {
      const gateway = lan.gateway[6]?.split('/')[0] ?? ''
      services.push(
        { program: helper, args: ['nat64', TRANSLATOR, TRANSLATOR_PEER, NAT64_POOL], ready: /^ready/m },
        { program: helper, args: ['dns64', gateway, ...this.#names()], ready: /^ready/m },
      )
    }
    return services
  }

  /** Every public host under `lab`, and under `v4.` and `v6.` with one family's addresses only. */
  #names(): string[] {
    const hosts = [...this.#plan.nodes.values()].filter((node) => node.role === 'public')
    return [
      'ipv4only.arpa=192.0.0.170', // RFC 7050 §8.2
      'ipv4only.arpa=192.0.0.171',
      ...hosts.flatMap(({ name, addresses }) =>
        addresses.flatMap((address) => [
          `${name}.lab=${address}`,
          `${address.includes(':') ? 'v6' : 'v4'}.${name}.lab=${address}`,
        ]),
      ),
    ]
  }
}

/** Inside the lab. */
const MINIUPNPD = '/run/lab/miniupnpd'

const UNRESERVED = [
  { network: '192.0.2.0', length: 24 },
  { network: '198.51.100.0', length: 24 },
  { network: '203.0.113.0', length: 24 },
  { network: '100.64.0.0', length: 10 },
] as const

/** An entry of miniupnpd's table of reserved networks: the address, then 32 minus the prefix length. */
function reservedEntry(network: string, length: number): Buffer {
  const entry = Buffer.alloc(8)
  const [a = 0, b = 0, c = 0] = network.split('.').map(Number)
  entry.writeUInt32LE(((a << 24) | (b << 16) | (c << 8)) >>> 0)
  entry.writeUInt32LE(32 - length, 4)
  return entry
}

function routersOf(plan: Plan): RouterNode[] {
  return [...plan.nodes.values()].filter((node) => node.role === 'router')
}
