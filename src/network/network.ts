import { EventEmitter, setMaxListeners } from 'node:events'
import type { SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import type { ExhaustiveBudget } from '../ice/index.ts'
import type { PublicAddress } from '../stun/index.ts'
import type { NetworkContext } from './context.ts'
import type { Dialler } from './dialler.ts'
import { Forward, type ForwardOptions } from './forward.ts'
import type { NodeConnection } from './links/connection.ts'
import type { NearbyNode } from './nearby.ts'
import { parseNodeId, type NodeId } from './node-id.ts'
import type { NodeInfo } from './node-info.ts'
import {
  defaultLimits,
  defaultTimeouts,
  readExhaustive,
  type NetworkLimits,
  type NetworkOptions,
  type NetworkTimeouts,
} from './options.ts'
import { checkPublicAddresses } from './one-to-one.ts'
import { Pinger } from './ping.ts'
import type { Pipe } from './pipe.ts'
import { MemoryRecords } from './records.ts'
import { openRun, type Run } from './run.ts'
import type { SecureStream } from './secure-stream.ts'
import { Services } from './services.ts'
import type { HelperStatus } from './signalling/helpers.ts'
import { Pipes, type NetworkEvents } from './session.ts'
import { maxTicketUses, parseTicket, signTicket, type Ticket } from './ticket.ts'
import { TicketStore, type TicketRecord } from './ticket-store.ts'

export interface ConnectOptions {
  readonly service: string
  /** A ticket's text, for a service that is not open to this node otherwise. */
  readonly ticket?: string
  /** Where the caller believes the node to be: tried besides what the directory and the ticket say. */
  readonly addresses?: readonly SocketAddress[]
  /** As in {@link NetworkOptions}, for this node alone: while the stream goes by a relay. */
  readonly exhaustive?: boolean | ExhaustiveBudget
  /**
   * What to say to the service first, where this side speaks first: asked for once the peer has proved its id, and sent
   * along with the request. The service's answer comes a round trip sooner; a peer that refuses has seen these bytes.
   */
  readonly first?: () => Uint8Array | undefined
  /** Gives up connecting, with its reason. Later it changes nothing: destroy the stream. */
  readonly signal?: AbortSignal
}

export interface TicketOptions {
  readonly service: string
  /** When it ends; 24 hours from now by default. */
  readonly expires?: Date
  /** How many different nodes may use it, 1–1,000; 1 by default. */
  readonly uses?: number
}

/**
 * A node: one UDP port, over which it reaches other nodes' services and shares its own.
 *
 * ```ts
 * const network = new Network(createContext({ directory: memoryDirectory() }), { port: 0 })
 * await network.start()
 * const stream = await network.connect(id, { service: 'ssh' })
 * ```
 */
export class Network extends EventEmitter<NetworkEvents> {
  /** What this node shares. Changes count at once, also while stopped. */
  readonly services = new Services()
  readonly #context: NetworkContext
  readonly #options: NetworkOptions
  readonly #limits: NetworkLimits
  readonly #timeouts: NetworkTimeouts
  readonly #tickets: TicketStore
  readonly #pipes = new Pipes()
  /** Set from start() on until stop(). */
  #starting: Starting | undefined
  #run: Run | undefined
  #stopping: Promise<void> = Promise.resolve()

  /** @throws {UsageError} `ERR_NATWORK_SERVICE`, `ERR_NATWORK_EXHAUSTIVE`, `ERR_NATWORK_PUBLIC_ADDRESS` */
  constructor(context: NetworkContext, options: NetworkOptions = {}) {
    super()
    this.#context = context
    readExhaustive(options.exhaustive)
    checkPublicAddresses(options.publicAddresses)
    this.#options = options
    this.#limits = { ...defaultLimits, ...options.limits }
    this.#timeouts = { ...defaultTimeouts, ...options.timeouts }
    this.#tickets = options.tickets ?? new TicketStore(new MemoryRecords())
    for (const service of options.services ?? []) this.services.set(service)
  }

  /**
   * Resolves when the UDP port is bound and the traversal service is up; when it rejects, nothing is left open.
   * Idempotent: while started or starting it gives the same answer. After or during a stop() it starts anew.
   *
   * @throws {SystemError} the socket's own codes when the port is taken or forbidden; `ERR_NATWORK_CONTEXT`.
   * @throws {UsageError} `ERR_NATWORK_KEY`; `ERR_NATWORK_STUN_URI` and `ERR_NATWORK_STUN_CONFIG` for `stun`; `ERR_NATWORK_STOPPED` when stop() came in between.
   */
  async start(): Promise<void> {
    this.#starting ??= this.#begin()
    await this.#starting.run
  }

  /**
   * Ends the traversal service, then the uTP server, then every pipe, then empties the record. Idempotent; a start
   * under way is broken off. Never rejects; resolves when no handle is left.
   */
  async stop(): Promise<void> {
    const starting = this.#starting
    if (starting !== undefined) {
      this.#starting = undefined
      this.#run = undefined
      starting.abort.abort(stopped('the network was stopped'))
      this.#stopping = starting.run.then(
        (run) => run.close(),
        () => undefined,
      )
    }
    await this.#stopping
  }

  /** Between the end of start() and the call of stop(). */
  get running(): boolean {
    return this.#run !== undefined
  }

  /** This node's id. @throws {UsageError} `ERR_NATWORK_STOPPED` before the first start. */
  get id(): NodeId {
    return this.#current().session.identity.id
  }

  /** This node's own record, as others get it. */
  get self(): NodeInfo {
    return this.#current().self
  }

  /** The record of pipes: every one that is opening or open, in both directions, by id. */
  get pipes(): ReadonlyMap<string, Pipe> {
    return this.#pipes
  }

  /**
   * The UDP address that others can use: the public one where {@link publicAddress} knows it, else the first of
   * {@link addresses}.
   */
  address(): SocketAddress {
    const run = this.#current()
    return run.addresses()[0] ?? run.session.utp.address
  }

  /**
   * The public address and port of this node's UDP port, and which STUN servers see it; or why it is not known. The
   * event `publicAddress` says when it changes.
   */
  get publicAddress(): PublicAddress {
    return this.#current().publicAddress()
  }

  /** The UDP address that is bound, as this machine sees it. */
  get boundAddress(): SocketAddress {
    return this.#current().session.utp.address
  }

  /** The TCP address where this node takes TLS, as a helper of nodes whose networks block UDP; undefined when it does not. */
  get tlsAddress(): SocketAddress | undefined {
    return this.#current().tlsAddress
  }

  /**
   * Whether this node's network lets no UDP out, as far as its helpers show: they answer by TLS alone, and every other
   * node is reached through their relays.
   */
  get udpBlocked(): boolean {
    return this.#current().meeting.helpers.udpBlocked
  }

  /** Which driver moves the datagrams, for people to read. */
  get udpDriver(): string {
    return this.#current().session.utp.endpoint.driver
  }

  /** The helpers through which others can signal to this node now. The event `helpers` says when that changes. */
  get helpers(): readonly HelperStatus[] {
    return this.#current().meeting.helpers.status
  }

  /**
   * The nodes on this machine's networks that multicast DNS tells of, at most 256: what anybody there may claim, and nobody has
   * proven yet. Empty without {@link NetworkOptions.mdns}. The event `nearby` says when it changes.
   */
  get nearby(): readonly NearbyNode[] {
    return this.#current().nearby.nodes
  }

  /** How this node is connected with others, a snapshot of each. The event `connection` says what changes. */
  get connections(): readonly NodeConnection[] {
    return this.#current().meeting.links.connections
  }

  /** Every UDP address where others may reach this node, most promising first. */
  addresses(): SocketAddress[] {
    return this.#current().addresses()
  }

  /**
   * A byte stream to a service of another node, once that node has agreed and its local port is connected. Ends and
   * resets at either end appear at the other as what they were.
   *
   * @throws {RefusedError} with the peer's own answer.
   * @throws {PeerError} `ERR_NATWORK_NODE_UNKNOWN`, `_NODE_UNREACHABLE`, `_IDENTITY`, `_TIMEOUT`.
   * @throws {UsageError} `ERR_NATWORK_STOPPED`, `_NODE_ID`, `_TICKET`, `_EXHAUSTIVE`.
   */
  async connect(id: NodeId, options: ConnectOptions): Promise<SecureStream> {
    const { service } = options
    const { dialler } = this.#current().meeting
    const ticket = options.ticket === undefined ? undefined : ticketFor(id, service, options.ticket)
    const pipe = this.#pipes.create({
      direction: 'out',
      peer: parseNodeId(id),
      service,
      ticketId: ticket?.ticketId,
    })
    try {
      return await this.#open(pipe, dialler, ticket, options)
    } catch (error) {
      this.#pipes.delete(pipe.id)
      throw error
    }
  }

  /**
   * Opens a local TCP port that leads to another node's service.
   *
   * @throws {SystemError} `ERR_NATWORK_BIND`
   */
  async forward(options: ForwardOptions): Promise<Forward> {
    const run = this.#current()
    const { id, service, ticket } = options.to
    if (ticket !== undefined) ticketFor(id, service, ticket)
    parseNodeId(id)
    const forward = await Forward.open(options, (signal, first) =>
      this.connect(id, { ...options.to, signal, first }),
    )
    if (this.#run !== run) {
      await forward.close()
      throw stopped('the network was stopped')
    }
    run.forwards.add(forward)
    return forward.once('close', () => run.forwards.delete(forward))
  }

  /** Connects to a node without using a service of it. Errors as {@link connect}. */
  async ping(id: NodeId, options: Omit<ConnectOptions, 'service'> = {}): Promise<Pinger> {
    const { dialler } = this.#current().meeting
    const ticket = options.ticket === undefined ? undefined : parseTicket(options.ticket)
    const addresses = [...(options.addresses ?? []), ...(ticket?.addresses ?? [])]
    const stream = await dialler.dial(
      parseNodeId(id),
      { op: 'ping' },
      {
        addresses,
        helpers: ticket?.helpers ?? [],
        exhaustive: readExhaustive(options.exhaustive),
        signals: [options.signal],
      },
    )
    return new Pinger(stream, this.#timeouts.connect)
  }

  /**
   * Makes a ticket for one of this node's services. Its text is all that another person needs, and as good as a
   * password until it expires.
   *
   * @throws {UsageError} `ERR_NATWORK_TICKET`, `ERR_NATWORK_SERVICE`; the ticket store's own errors.
   */
  async createTicket(options: TicketOptions): Promise<Ticket> {
    const { session, addresses, meeting } = this.#current()
    const { service, uses = 1 } = options
    const now = Date.now()
    const expires = Math.floor((options.expires?.getTime() ?? now + 24 * 3_600_000) / 1_000)
    if (this.services.get(service) === undefined) {
      throw new UsageError('ERR_NATWORK_SERVICE', `no service "${service}" is shared here`)
    }
    if (!Number.isInteger(uses) || uses < 1 || uses > maxTicketUses) {
      throw new UsageError('ERR_NATWORK_TICKET', `a ticket is for 1 to ${maxTicketUses} nodes, not ${uses}`)
    }
    if (!(expires * 1_000 > now)) {
      throw new UsageError('ERR_NATWORK_TICKET', 'a ticket must expire in the future')
    }
    const { references: helpers } = meeting.helpers
    const ticket = signTicket(session.identity, { service, uses, expires, addresses: addresses(), helpers })
    await this.#tickets.add(ticket, now / 1_000)
    return ticket
  }

  /** The ticket opens nothing more, and the pipes that it opened are reset. @returns whether it was there. */
  async revokeTicket(ticketId: string): Promise<boolean> {
    const known = await this.#tickets.revoke(ticketId)
    for (const pipe of this.#pipes.values()) {
      if (pipe.direction === 'in' && pipe.ticketId === ticketId) pipe.close()
    }
    return known
  }

  /** The tickets that this node remembers, without their secrets. */
  tickets(): Promise<TicketRecord[]> {
    return this.#tickets.list()
  }

  #begin(): Starting {
    const abort = new AbortController()
    setMaxListeners(0, abort.signal) // One for each operation under way.
    const run = this.#stopping.then(() =>
      openRun({
        context: this.#context,
        options: this.#options,
        limits: this.#limits,
        timeouts: this.#timeouts,
        services: this.services,
        tickets: this.#tickets,
        pipes: this.#pipes,
        signal: abort.signal,
        emit: (event, ...values) => this.#emitSafely(event, values),
      }),
    )
    const starting = { run, abort }
    run.then(
      (opened) => {
        if (this.#starting === starting) this.#run = opened
      },
      () => {
        if (this.#starting === starting) this.#starting = undefined
      },
    )
    return starting
  }

  async #open(
    pipe: Pipe,
    dialler: Dialler,
    ticket: Ticket | undefined,
    { addresses = [], exhaustive, first, signal }: ConnectOptions,
  ): Promise<SecureStream> {
    let spoken = 0
    const stream = await dialler.dial(
      pipe.peer,
      { op: 'pipe', service: pipe.service, ...(ticket && { ticket: ticket.text }) },
      {
        addresses: [...addresses, ...(ticket?.addresses ?? [])],
        helpers: ticket?.helpers ?? [],
        exhaustive: readExhaustive(exhaustive),
        first: () => {
          const bytes = first?.()
          spoken = bytes?.length ?? 0
          return bytes
        },
        signals: [signal, pipe.signal],
      },
    )
    pipe.opened(stream, spoken)
    stream.once('close', () => {
      this.#pipes.delete(pipe.id)
      this.#emitSafely('pipeClosed', [pipe, stream.errored ?? undefined])
    })
    this.#emitSafely('pipe', [pipe])
    return stream
  }

  // A listener's exception is its owner's affair: it must not end in the middle of a handshake.
  #emitSafely<K extends keyof NetworkEvents>(event: K, values: NetworkEvents[K]): void {
    try {
      ;(this as EventEmitter).emit(event, ...values)
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }

  #current(): Run {
    if (this.#run === undefined) throw stopped('the network is not running: await start() first')
    return this.#run
  }
}

function ticketFor(id: NodeId, service: string, text: string): Ticket {
  const ticket = parseTicket(text)
  if (ticket.id !== id || ticket.service !== service) {
    throw new UsageError(
      'ERR_NATWORK_TICKET',
      `the ticket is for "${ticket.service}" of ${ticket.id}, not for "${service}" of ${id}`,
    )
  }
  return ticket
}

function stopped(message: string): UsageError {
  return new UsageError('ERR_NATWORK_STOPPED', message)
}

interface Starting {
  readonly run: Promise<Run>
  readonly abort: AbortController
}
