import type { ChildProcess, StdioOptions } from 'node:child_process'
import { open } from 'node:fs/promises'
import { isIP } from 'node:net'
import { familyOf } from '../core/address.ts'
import { Emulator, type Counters } from './emulator.ts'
import { LabSystemError, LabUsageError } from './errors.ts'
import { Keeper, collect, exitOf, setupFailed, type PipedProcess, type ProgramOutput } from './keeper.ts'
import { findProgram, helperProgram } from './native.ts'
import {
  planTopology,
  type Addresses,
  type Attachment,
  type Node,
  type Plan,
  type RouterNode,
} from './plan.ts'
import { routerRules } from './rules.ts'
import { addressLine, setupScript } from './script.ts'
import { Services, servicePrograms } from './services.ts'
import { parseTopology, type PathParameters, type Topology } from './topology.ts'

export interface LabOptions {
  /** Aborting closes the lab, and every program in it, at any time. */
  readonly signal?: AbortSignal
  /** Seen in the process list; `natwork lab exec` finds a lab by it. Default: one of its own. */
  readonly name?: string
}

export interface ExecOptions {
  readonly cwd?: string
  /** Default: this process's own environment. */
  readonly env?: NodeJS.ProcessEnv
  /** As node's `spawn`; default: all three are pipes. */
  readonly stdio?: StdioOptions
  /** Aborting kills the program. */
  readonly signal?: AbortSignal
}

/** What to keep from passing, in both directions. Without a field: whatever it may be. */
export interface Blocked {
  /** An address, or a host of the lab (each of its addresses). */
  readonly peer?: string
  readonly protocol?: 'udp' | 'tcp' | 'icmp'
  /** 1–65535, at either end. */
  readonly port?: number
}

export interface Capture {
  /** Writes what is still to write and closes the file. */
  stop(): Promise<void>
}

/** Somebody in a lab: where `exec`, `capture` and the others take a name. */
export interface LabHost {
  readonly name: string
  readonly role: Node['role']
  readonly addresses: readonly string[]
}

/**
 * A small internet in Linux namespaces: public hosts, sites behind routers, and a core with delay, hops and counters.
 * Everything is inside one process's namespaces: nothing appears on this machine, labs do not collide, and nothing
 * is left when the lab closes or this process dies in whatever way.
 */
export class Lab implements AsyncDisposable {
  readonly topology: Topology
  readonly name: string
  readonly #plan: Plan
  readonly #keeper: Keeper
  readonly #emulator: Emulator
  readonly #services: Services
  #serial = 0
  #closed = false
  #signal: AbortSignal | undefined
  readonly #onAbort = (): void => void this.close()

  private constructor(topology: Topology, name: string, plan: Plan, keeper: Keeper) {
    this.topology = topology
    this.name = name
    this.#plan = plan
    this.#keeper = keeper
    this.#emulator = new Emulator(keeper)
    this.#services = new Services(keeper, plan)
  }

  /**
   * Builds the topology; works as root and, where the kernel allows user namespaces, as anybody.
   *
   * @throws {LabUsageError} for what cannot be built: an unknown kind, a wrong number.
   * @throws {LabSystemError} for what this machine lacks: a program, a permission. The message says what to do.
   */
  static async create(topology: Topology, options: LabOptions = {}): Promise<Lab> {
    const { signal } = options
    signal?.throwIfAborted()
    const plan = planTopology(parseTopology(topology))
    const helper = await helperProgram()
    requirePrograms(['sh', 'ip', 'nft', 'conntrack', ...servicePrograms(plan)])
    const name = options.name ?? `lab-${process.pid}-${(labs += 1)}`
    const keeper = await Keeper.start(helper, name)
    try {
      const setup = await keeper.run('-', 'sh', ['-s'], setupScript(plan, helper))
      signal?.throwIfAborted()
      if (setup.code !== 0) throw setupFailed(setup.stderr.trim().split('\n')[0] ?? 'no reason given')
      const lab = new Lab(topology, name, plan, keeper)
      await Promise.all([lab.#emulator.attach(plan), lab.#services.start()])
      signal?.throwIfAborted()
      signal?.addEventListener('abort', lab.#onAbort)
      lab.#signal = signal
      return lab
    } catch (error) {
      await keeper.close()
      throw error
    }
  }

  /** Everybody who can run programs. */
  get hosts(): LabHost[] {
    return [...this.#plan.nodes.values()].map((node) => ({
      name: node.name,
      role: node.role,
      addresses: addressesOf(node),
    }))
  }

  /** The pid of the process that holds the lab. */
  get pid(): number {
    return this.#keeper.pid
  }

  /** A host's first address of a family. */
  address(host: string, family: 4 | 6 = 4): string {
    const found = addressesOf(this.#node(host)).find((address) => address.includes(':') === (family === 6))
    if (found === undefined) throw usage('ERR_NATWORK_LAB_TOPOLOGY', `${host} has no IPv${family} address`)
    return found
  }

  /** Starts a program in a host. It dies with the lab, or with this process. */
  exec(
    host: string,
    program: string,
    args: readonly string[],
    options: ExecOptions & { stdio: StdioOptions },
  ): ChildProcess
  exec(host: string, program: string, args?: readonly string[], options?: ExecOptions): PipedProcess
  exec(host: string, program: string, args: readonly string[] = [], options: ExecOptions = {}): ChildProcess {
    this.#node(host)
    return this.#keeper.spawn(host, program, args, { stdio: 'pipe', ...options })
  }

  /** Runs a program in a host to its end. */
  async run(
    host: string,
    program: string,
    args: readonly string[] = [],
    options: ExecOptions = {},
  ): Promise<ProgramOutput> {
    const child = this.exec(host, program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    return collect(child as PipedProcess)
  }

  /**
   * Starts one of the helper's own jobs, outside of every host.
   * @internal
   */
  helper(job: string): PipedProcess {
    return this.#keeper.spawn('-', this.#keeper.helper, [job], { stdio: 'pipe' }) as PipedProcess
  }

  /** Writes every packet that a host (or `core`) sends or gets to a pcap file, from the moment this resolves. */
  async capture(host: string, file: string): Promise<Capture> {
    if (host !== 'core') this.#node(host)
    const output = await open(file, 'w')
    const child = this.#keeper.spawn(host, this.#keeper.helper, ['capture'], {
      stdio: ['ignore', output.fd, 'pipe'],
    })
    const ended = exitOf(child)
    await new Promise((resolve, reject) => {
      child.stderr?.once('data', resolve)
      ended.then(() => reject(setupFailed(`no capture in ${host}`)), reject)
    })
    child.stderr?.resume()
    await output.close()
    return {
      stop: async () => {
        child.kill('SIGTERM')
        await ended
      },
    }
  }

  /** A router's connection tracking table, one flow per line, as `conntrack -L -o extended` prints it. */
  async conntrack(router: string): Promise<string[]> {
    const { stdout } = await this.#must(this.#router(router).name, 'conntrack', ['-L', '-o', 'extended'])
    return stdout.split('\n').filter((line) => line !== '')
  }

  /** A router reboots: it forgets every flow and every mapping. */
  async flush(router: string): Promise<void> {
    await this.#loadRules(this.#router(router))
  }

  /**
   * A host gets another address in the network it is in (another DHCP lease, a laptop that wakes up), or a site's
   * outermost router gets another public one. Mappings of the old address die.
   */
  async rebind(host: string, newAddress: string): Promise<void> {
    const node = this.#node(host)
    const family = isIP(newAddress)
    if (family !== 4 && family !== 6)
      throw usage('ERR_NATWORK_LAB_TOPOLOGY', `"${newAddress}" is not an IP address`)
    const old = this.address(host, family)
    const wire = this.#plan.attachments.find((at) => at.node === host && at.interface !== 'lan0')
    if (wire) await this.#rewire(wire, old, newAddress)
    else await this.#renumber(node, family, old, newAddress)
    if (node.role === 'router') await this.#loadRules(node)
  }

  /** Lets nothing pass in a host; the answer lifts the block. */
  async block(host: string, blocked: Blocked = {}): Promise<() => Promise<void>> {
    const peers = blocked.peer === undefined ? [undefined] : this.#addressesNamed(blocked.peer)
    const rules = peers.flatMap((peer) => blockRules(peer, blocked))
    return this.#dropTable(host, rules)
  }

  /** Drops incoming packets of a host at random, by nft's `numgen random`; the answer lifts it. `loss` is 0–1. */
  async loss(host: string, loss: number): Promise<() => Promise<void>> {
    return this.#dropTable(
      host,
      [`numgen random mod 1000000 < ${Math.round(loss * 1_000_000)}`],
      ['prerouting'],
    )
  }

  /**
   * Changes the way between a host's site (or a public host) and the core: `up` towards it, `down` from it, or both.
   */
  async setPath(
    host: string,
    parameters: PathParameters,
    way: 'up' | 'down' | 'both' = 'both',
  ): Promise<void> {
    const { port } = this.#uplink(host)
    for (const each of way === 'both' ? (['up', 'down'] as const) : [way]) {
      await this.#emulator.set(port, each, parameters)
    }
  }

  /** Every packet the emulator carried or dropped, by attachment (a public host's or outermost router's name). */
  counters(): Promise<Counters> {
    return this.#emulator.counters()
  }

  /**
   * Packets that went through the core between the two hosts' sites, both ways together: what "direct" means, however
   * sure a program is of it. Undefined when the two share a router, so that their packets need not meet the core.
   */
  async packetsBetween(a: string, b: string): Promise<number | undefined> {
    const [one, other] = [this.#uplink(a).port, this.#uplink(b).port]
    if (one === other) return undefined
    const { pairs } = await this.counters()
    return pairs
      .filter(({ from, to }) => (from === one && to === other) || (from === other && to === one))
      .reduce((sum, { packets }) => sum + packets, 0)
  }

  /** Ends every program and removes everything. Harmless when repeated. */
  async close(): Promise<void> {
    this.#closed = true
    // The signal may outlive many labs.
    this.#signal?.removeEventListener('abort', this.#onAbort)
    await this.#keeper.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #node(name: string): Node {
    if (this.#closed) throw usage('ERR_NATWORK_LAB_CLOSED', 'this lab is closed')
    const node = this.#plan.nodes.get(name)
    if (node) return node
    const names = [...this.#plan.nodes.keys()].join(', ')
    throw usage('ERR_NATWORK_LAB_UNKNOWN_HOST', `this lab has no host "${name}"; it has: ${names}`)
  }

  #router(name: string): RouterNode {
    const node = this.#node(name)
    if (node.role === 'router') return node
    throw usage('ERR_NATWORK_LAB_UNKNOWN_HOST', `${name} is not a router`)
  }

  /** The attachment to the core that a host's packets use. */
  #uplink(host: string): Attachment {
    const node = this.#node(host)
    const from = node.role === 'client' ? node.router : host
    const wire = this.#plan.attachments.find((at) => at.node === from && at.interface !== 'lan0')
    if (!wire) throw usage('ERR_NATWORK_LAB_UNKNOWN_HOST', `${host} is not attached to the core`)
    return wire.segment === 'core' ? wire : this.#uplink(wire.segment)
  }

  #addressesNamed(peer: string): readonly string[] {
    return isIP(peer) ? [peer] : addressesOf(this.#node(peer))
  }

  async #must(
    host: string,
    program: string,
    args: readonly string[],
    input?: string,
  ): Promise<ProgramOutput> {
    const output = await this.#keeper.run(host, program, args, input)
    if (output.code === 0) return output
    throw new LabSystemError('ERR_NATWORK_LAB_SETUP', `${program} in ${host}: ${output.stderr.trim()}`)
  }

  async #loadRules(router: RouterNode): Promise<void> {
    // Nothing passes meanwhile: a packet of an old flow would be remembered by the new rules.
    const lift = await this.#dropTable(router.name, [''], ['prerouting'])
    await this.#must(router.name, 'nft', ['-f', '-'], routerRules(router))
    await this.#must(router.name, 'conntrack', ['-F'])
    await lift()
    await this.#services.restart(router)
  }

  async #rewire(wire: Attachment, old: string, address: string): Promise<void> {
    await this.#must(
      wire.node,
      'ip',
      ['-batch', '-'],
      [
        addressLine(address, wire.interface),
        addressLine(old, wire.interface).replace('address add', 'address del').replace(' nodad', ''),
      ].join('\n'),
    )
    await this.#emulator.route(wire.segment, old, undefined)
    await this.#emulator.route(wire.segment, address, wire.port)
    replaceAddress(wire, this.#node(wire.node), old, address)
  }

  async #renumber(node: Node, family: 4 | 6, old: string, address: string): Promise<void> {
    const gateway = node.role === 'client' ? node.gateway[family]?.split('/') : undefined
    const [router = '', length = ''] = gateway ?? []
    // The default route dies with the last address of its network: it is set again.
    await this.#must(
      node.name,
      'ip',
      ['-batch', '-'],
      [
        `address del ${old}/${length} dev eth0`,
        `address add ${address}/${length} dev eth0${family === 6 ? ' nodad' : ''}`,
        `route replace default via ${router} dev eth0`,
      ].join('\n'),
    )
    replaceAddress(undefined, node, old, address)
  }

  async #dropTable(
    host: string,
    matches: readonly string[],
    hooks: readonly ('prerouting' | 'output')[] = ['prerouting', 'output'],
  ): Promise<() => Promise<void>> {
    const table = `inet lab${this.#serial++}`
    const chains = hooks.flatMap((hook) => [
      `add chain ${table} ${hook} { type filter hook ${hook} priority -310 ; }`,
      ...matches.map((match) => `add rule ${table} ${hook} ${NOT_LOOPBACK[hook]} ${match} drop`),
    ])
    this.#node(host)
    await this.#must(host, 'nft', ['-f', '-'], [`add table ${table}`, ...chains, ''].join('\n'))
    return async () => {
      await this.#must(host, 'nft', ['delete', 'table', ...table.split(' ')])
    }
  }
}

let labs = 0

function usage(code: LabUsageError['code'], message: string): LabUsageError {
  return new LabUsageError(code, message)
}

const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  nft: 'nftables',
  conntrack: 'conntrack',
  miniupnpd: 'miniupnpd-nftables',
}

function requirePrograms(names: readonly string[]): void {
  const missing = names.filter((name) => findProgram(name) === undefined)
  if (missing.length === 0) return
  const packages = missing.map((name) => DEBIAN_PACKAGES[name] ?? name)
  throw new LabSystemError(
    'ERR_NATWORK_LAB_MISSING_PROGRAM',
    `the lab needs ${missing.join(', ')}: apt-get install ${packages.join(' ')}`,
  )
}

function addressesOf(node: Node): string[] {
  if (node.role === 'public') return [...node.addresses]
  return families(node.role === 'client' ? node.addresses : node.external)
}

function families(addresses: Addresses): string[] {
  return [addresses[4], addresses[6]].filter((address) => address !== undefined)
}

const NOT_LOOPBACK = { prerouting: 'iifname != "lo"', output: 'oifname != "lo"' } as const

function blockRules(peer: string | undefined, { protocol, port }: Blocked): string[] {
  const network = peer?.includes(':') ? 'ip6' : 'ip'
  const l4 = protocol === 'icmp' ? 'meta l4proto { icmp, icmpv6 }' : protocol && `meta l4proto ${protocol}`
  const ends = ['saddr', 'daddr'].map((end) => (peer === undefined ? '' : `${network} ${end} ${peer}`))
  const ports = port === undefined ? [''] : [`th sport ${port}`, `th dport ${port}`]
  const protocols = l4 ?? (port === undefined ? '' : 'meta l4proto { tcp, udp }')
  return [...new Set(ends)].flatMap((end) => ports.map((at) => `${end} ${protocols} ${at}`))
}

/** The plan keeps up with what the kernel was told. */
function replaceAddress(wire: Attachment | undefined, node: Node, old: string, address: string): void {
  const swap = (all: readonly string[]): string[] => all.map((each) => (each === old ? address : each))
  if (wire) wire.addresses = swap(wire.addresses)
  const family = familyOf(address)
  if (node.role === 'public') node.addresses = swap(node.addresses)
  else if (node.role === 'client') node.addresses = { ...node.addresses, [family]: address }
  else node.external = { ...node.external, [family]: address }
}
