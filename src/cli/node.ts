import { join } from 'node:path'
import { formatAddress, NatworkError, UsageError } from '../core/index.ts'
import { createContext, openLevelDirectory, type Directory } from '../directory/index.ts'
import {
  Network,
  parseNodeId,
  type HelpOptions,
  type NodeConnection,
  type Service,
  type Ticket,
} from '../network/index.ts'
import type { Config } from './config.ts'
import { startControlServer, type Answer, type ControlServer } from './control/server.ts'
import type { Request } from './control/protocol.ts'
import { startDemoPage, type DemoPage } from './demo.ts'
import { controlPath, keyPath, makePrivateFolder } from './folders.ts'
import { explainPeer, pingPeer, startForwarding } from './forwarding.ts'
import { parsePeer } from './goal.ts'
import { writeHostPort } from './names.ts'
import { SharedFile } from './shared-file.ts'
import type { Settings } from './shell.ts'
import { version } from './version.ts'

export interface NodeStatus {
  readonly id: string
  readonly version: string
  readonly pid: number
  /** Seconds. */
  readonly uptime: number
  /** The UDP address that is bound. */
  readonly listens: string
  /** What moves the datagrams. */
  readonly udpDriver: string
  /** UDP addresses where others may reach it. */
  readonly addresses: readonly string[]
  readonly services: readonly { name: string; target: string; allow: readonly string[] }[]
  readonly pipes: readonly PipeStatus[]
  /** Nodes through which others can signal to this one. */
  readonly helpers: readonly {
    id: string
    address: string
    transport: 'udp' | 'tls'
    tls: number | undefined
  }[]
  /** The helpers answer by TLS alone: everybody else is reached through their relays. */
  readonly udpBlocked: boolean
  /** The TCP address where it takes TLS, as a helper. */
  readonly tls: string | undefined
  readonly links: readonly LinkStatus[]
  /** Who says by multicast DNS to be on the same network. */
  readonly nearby: readonly { id: string; addresses: readonly string[] }[]
}

/** How it is connected with another node. */
export interface LinkStatus {
  readonly peer: string
  readonly state: 'connecting' | 'connected' | 'interrupted' | 'idle'
  readonly path: 'direct' | 'relayed' | undefined
  readonly remote: string | undefined
  /** Milliseconds. */
  readonly rtt: number | undefined
  /** 0–1. */
  readonly loss: number
  readonly bytesIn: number
  readonly bytesOut: number
  /** Seconds that this path has been in use. */
  readonly age: number | undefined
}

export interface PipeStatus {
  readonly id: string
  readonly direction: 'in' | 'out'
  readonly peer: string
  readonly service: string
  readonly state: string
  readonly bytesIn: number
  readonly bytesOut: number
  /** Milliseconds. */
  readonly age: number
}

export interface TicketTerms {
  /** How many different nodes may use it. */
  readonly uses: number
  /** How long it is good. */
  readonly seconds: number
}

export interface NodeOptions {
  /** Share the demo page when nothing else is shared. */
  readonly demo: boolean
  /** Shared besides what the configuration and `expose` say, for as long as the node runs. */
  readonly services: readonly Service[]
}

/** What `natwork up` runs: a network whose key, directory and shares are on disk, and which the other commands use. */
export class LocalNode {
  readonly network: Network
  readonly #settings: Settings
  readonly #shared: SharedFile
  readonly #since = Date.now()

  private constructor(network: Network, settings: Settings, shared: SharedFile) {
    this.network = network
    this.#settings = settings
    this.#shared = shared
  }

  /**
   * Starts it, and gives a function that stops it. When it fails, nothing stays open.
   *
   * @throws {NatworkError} a line that says what to do.
   */
  static async start(
    settings: Settings,
    options: NodeOptions,
    signal: AbortSignal,
  ): Promise<{ node: LocalNode; stop: () => Promise<void> }> {
    const { folders, config, logger } = settings
    const closers: (() => Promise<void>)[] = []
    const stop = async (): Promise<void> => {
      for (let close = closers.pop(); close !== undefined; close = closers.pop()) await close()
    }
    try {
      makePrivateFolder(folders.state)
      // First of all: it is also what keeps a second node away from the files.
      const running: { node?: LocalNode } = {}
      const control: ControlServer = await startControlServer(
        controlPath(folders),
        (request, aborted, tell) => {
          if (running.node !== undefined) return running.node.#answer(request, aborted, tell)
          throw new NatworkError('ERR_NATWORK_NO_NODE', 'the node here is only starting: try again')
        },
        logger,
      )
      closers.push(() => control.close())
      const shared = SharedFile.read(join(folders.state, 'shared.json'))
      const directory: Directory = await openLevelDirectory(join(folders.state, 'directory'))
      closers.push(() => directory.close())
      const context = createContext({ directory, privateKey: keyPath(folders), logger })
      const services = new Map<string, Service>()
      for (const service of [...shared.services, ...configured(settings), ...options.services]) {
        services.set(service.name, service)
      }
      const network = new Network(context, {
        host: config.host,
        port: config.port,
        stun: config.stun,
        publicAddresses: config.publicAddresses,
        portMapping: config.portMapping,
        mdns: config.mdns,
        helpers: config.helpers,
        help: config.help && tlsOf(config),
        exhaustive: config.exhaustive,
        utp: { connection: { congestion: config.congestion } },
        services: services.values(),
        tickets: directory.tickets,
      })
      signal.throwIfAborted()
      closers.push(() => network.stop())
      await network.start()
      if (options.demo && services.size === 0) {
        const demo: DemoPage = await startDemoPage(network.id)
        closers.push(() => demo.close())
        network.services.set({ name: 'demo', ...demo.address })
      }
      running.node = new LocalNode(network, settings, shared)
      return { node: running.node, stop }
    } catch (error) {
      await stop()
      throw error
    }
  }

  get status(): NodeStatus {
    const { network } = this
    return {
      id: network.id,
      version,
      pid: process.pid,
      uptime: (Date.now() - this.#since) / 1_000,
      listens: formatAddress(network.boundAddress),
      udpDriver: network.udpDriver,
      addresses: network.addresses().map(formatAddress),
      services: [...network.services].map((service) => ({
        name: service.name,
        target: writeHostPort(service),
        allow: allowed(service),
      })),
      pipes: [...network.pipes.values()].map(
        ({ id, direction, peer, service, state, bytesIn, bytesOut, age }) => ({
          ...{ id, direction, peer, service, state, bytesIn, bytesOut, age },
        }),
      ),
      helpers: network.helpers.map(({ id, address, transport, tls }) => ({
        ...{ id, address: formatAddress(address), transport, tls },
      })),
      udpBlocked: network.udpBlocked,
      tls: network.tlsAddress && formatAddress(network.tlsAddress),
      links: network.connections.map(describeLink),
      nearby: network.nearby.map(({ id, addresses }) => ({ id, addresses: addresses.map(formatAddress) })),
    }
  }

  createTicket(service: string, { uses, seconds }: TicketTerms): Promise<Ticket> {
    return this.network.createTicket({ service, uses, expires: new Date(Date.now() + seconds * 1_000) })
  }

  async #answer(request: Request, signal: AbortSignal, tell: (event: object) => void): Promise<Answer> {
    const { network } = this
    switch (request.request) {
      case 'status':
        return { result: this.status }
      case 'expose':
        return { result: await this.#expose(request) }
      case 'unexpose':
        this.#unexpose(request.name)
        return { result: {} }
      case 'connect':
        return { stream: await network.connect(request.goal.id, { ...request.goal, signal }) }
      case 'forward': {
        const held = await startForwarding(network, request.goal, request.at, tell)
        return { result: held.address, held }
      }
      case 'ping':
        return { result: await pingPeer(network, request.peer, signal) }
      case 'why':
        return { result: await explainPeer(network, request.peer, signal) }
    }
  }

  async #expose({ name, target, allow, ticket }: Request & { request: 'expose' }): Promise<object> {
    const { services } = this.network
    const known = services.get(name)
    const ids = [
      ...new Set([...(target === undefined && known !== undefined ? allowed(known) : []), ...allow]),
    ].map(parseNodeId)
    const at = target ?? known
    if (at === undefined) {
      throw new UsageError(
        'ERR_NATWORK_SERVICE',
        `no service "${name}" is shared here: write ${name}=HOST:PORT to share it`,
      )
    }
    if (target !== undefined || allow.length > 0) {
      this.#refuseConfigured(name)
      const service: Service = { name, host: at.host, port: at.port, allow: ids }
      services.set(service)
      try {
        this.#shared.set(service)
      } catch (error) {
        // What cannot be kept is not shared: it would be gone after a restart without a word.
        if (known === undefined) services.delete(name)
        else services.set(known)
        throw error
      }
    }
    const made = ticket && (await this.createTicket(name, ticket))
    return {
      name,
      target: writeHostPort({ host: at.host, port: at.port }),
      allow: ids,
      ...(made && { ticket: made.text, expires: new Date(made.expires * 1_000), uses: made.uses }),
    }
  }

  #unexpose(name: string): void {
    if (this.network.services.get(name) === undefined) {
      throw new UsageError('ERR_NATWORK_SERVICE', `no service "${name}" is shared here`)
    }
    this.#refuseConfigured(name)
    this.#shared.delete(name)
    this.network.services.delete(name)
    // Whoever uses it now is not wanted any more either.
    for (const pipe of this.network.pipes.values()) {
      if (pipe.direction === 'in' && pipe.service === name) pipe.close()
    }
  }

  #refuseConfigured(name: string): void {
    if (!Object.hasOwn(this.#settings.config.services, name)) return
    throw new UsageError(
      'ERR_NATWORK_SERVICE',
      `"${name}" is set in the configuration file: change it there and start the node again`,
    )
  }
}

function describeLink({ peer, state, path, rtt, loss, bytesIn, bytesOut }: NodeConnection): LinkStatus {
  const age = path && (Date.now() - path.since.getTime()) / 1_000
  const remote = path && formatAddress(path.remote)
  return { peer, state, path: path?.kind, remote, rtt, loss, bytesIn, bytesOut, age }
}

function tlsOf({ tlsPort }: Config): HelpOptions {
  return tlsPort === 'auto' ? {} : { tls: tlsPort === 'off' ? false : tlsPort }
}

// Nothing here shares with everybody ('*').
const allowed = ({ allow = [] }: Service): readonly string[] => (allow === '*' ? [] : allow)

function configured({ config }: Settings): Service[] {
  return Object.entries(config.services).map(([name, { target, allow }]) => ({
    name,
    ...target,
    allow: allow.map((peer) => parseNodeId(parsePeer(peer, config).id)),
  }))
}
