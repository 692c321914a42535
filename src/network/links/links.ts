import { UsageError } from '../../core/errors.ts'
import type { Path } from '../../core/machine.ts'
import {
  IceAgent,
  type ExhaustiveBudget,
  type IceEvent,
  type IceSession,
  type LocalCandidate,
  type NatHints,
} from '../../ice/index.ts'
import type { UdpEndpoint } from '../../socket/index.ts'
import type { UtpStream } from '../../utp/driver/index.ts'
import { EarlyHandshake } from '../early-handshake.ts'
import type { NodeId } from '../node-id.ts'
import { localTowards } from '../local-addresses.ts'
import { verifyNodeInfo, type NodeInfo } from '../node-info.ts'
import type { Session } from '../session.ts'
import type { LinkMessage, SignalMessage } from '../signalling/message.ts'
import type { Signal, Signaller, SignalTarget } from '../signalling/signaller.ts'
import type { NodeConnection } from './connection.ts'
import type { LinkHost } from './link-host.ts'
import { PeerLink } from './peer-link.ts'

export interface LinksOptions {
  readonly signaller: Signaller<SignalMessage>
  /** This node's own candidates that are known at once. */
  readonly candidates: () => readonly LocalCandidate[]
  /** See {@link LinkHost.gatherMore}. */
  readonly gatherMore: LinkHost['gatherMore']
  readonly hints: () => NatHints
  readonly newestPort: LinkHost['newestPort']
  /** What a search through every port may cost, for all peers. */
  readonly exhaustive: ExhaustiveBudget | undefined
  readonly record: () => NodeInfo
  /** Something is wrong with the network. */
  readonly onInterrupted: () => void
  /** No path to some peer answers, and it is not yet certain that they are gone. */
  readonly onDoubt: () => void
}

/** Links that others began and on which nothing has come yet: more are refused. */
const maxUnused = 256
/** Handshakes that others began with an offer, and whose connection has not come: of more the rest of TLS comes later, too. */
const maxGreeted = 64
/** Milliseconds that a link nobody uses stays; and one that a stranger began and never used. */
const keepIdle = 60_000
/** Milliseconds that one is still shown which is over. */
const forgetAfter = 2_000
/** Milliseconds for what was written on a connection to arrive when the node stops. */
const lastWords = 2_000
/** Milliseconds between looks at the links. */
const watchInterval = 250

/** The links to all other nodes, and the ICE sessions of the port. */
export class Links {
  readonly #session: Session
  readonly #options: LinksOptions
  /** By peer. Bounded by who this node calls, by the streams that are open, and by {@link maxUnused}. */
  readonly #links = new Map<NodeId, PeerLink>()
  readonly #owners = new WeakMap<IceSession, PeerLink>()
  #endpoint: UdpEndpoint | undefined
  #agent: IceAgent | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(session: Session, options: LinksOptions) {
    this.#session = session
    this.#options = options
  }

  /** Takes its place on the port: behind uTP, before STUN's server, which answers every Binding request. */
  start(endpoint: UdpEndpoint): void {
    this.#endpoint = endpoint
    const { logger } = this.#session.context
    this.#agent = new IceAgent(endpoint, { onEvent: (event) => this.#onIce(event), logger })
    this.#timer = setInterval(() => this.#watch(), watchInterval)
    this.#timer.unref()
  }

  /**
   * Ends what goes by a path that was found: a good-bye would have the peer close the port or the relay that the ends of those
   * connections go through, as closing our own sessions does.
   */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    const found = [...this.#links.values()].filter(({ session }) => session !== undefined)
    await this.#session.utp.end(
      found.flatMap(({ streams }) => [...streams]),
      { timeout: lastWords },
    )
    for (const link of this.#links.values()) link.close('the node is stopping')
    this.#links.clear()
    await this.#agent?.close()
  }

  /** A snapshot of all. */
  get connections(): NodeConnection[] {
    return [...this.#links.values()].map(({ connection }) => connection)
  }

  get(peer: NodeId): PeerLink | undefined {
    return this.#links.get(peer)
  }

  /** The link to that node, made if need be. */
  to(peer: NodeId): PeerLink {
    let link = this.#links.get(peer)
    if (link === undefined) {
      link = new PeerLink(peer, this.#host())
      this.#links.set(peer, link)
    }
    return link
  }

  /**
   * A connection came in by this path: whose it most likely is, before TLS has told. Not whose check came from there alone:
   * a peer that invents the address of another one would lead that one's connections astray.
   */
  ownerOf(path: Path): PeerLink | undefined {
    for (const link of this.#links.values()) if (link.owns(path)) return link
    return undefined
  }

  /** A peer's check came by this path, which is not verified yet: see {@link IceSession.believes}. */
  believes(path: Path): boolean {
    for (const { session } of this.#links.values()) if (session?.believes(path) === true) return true
    return false
  }

  /** The connection is with that node: it follows its link from now on. */
  adopt(stream: UtpStream, peer: NodeId): void {
    const link = this.to(peer)
    for (const other of this.#links.values()) if (other !== link) other.remove(stream)
    link.add(stream)
  }

  hear(signal: Signal<LinkMessage>): void {
    const { from, message } = signal
    if (message.type !== 'offer') {
      this.#links.get(from)?.hear(signal, undefined)
      return
    }
    const target = targetIn(message.record, from)
    if (target === undefined) return
    if (this.#links.get(from) === undefined) {
      const unused = [...this.#links.values()].filter((link) => link.idleFor() > 0)
      if (unused.length >= maxUnused) {
        this.#session.context.logger.debug('an offer was dropped: too many links', { peer: from })
        return
      }
    }
    this.to(from).hear(signal, target)
  }

  /** The handshake that began with the signals of the link of that name. */
  greetingOf(name: string): EarlyHandshake | undefined {
    for (const link of this.#links.values()) if (link.name === name) return link.greeting.take('server')
    return undefined
  }

  /** Addresses of this machine, or what the world sees of them, have changed. */
  networkChanged(): void {
    const candidates = this.#options.candidates()
    for (const link of this.#links.values()) link.networkChanged(candidates)
  }

  /** What is known of the NAT here has changed. */
  hintsChanged(): void {
    for (const link of this.#links.values()) link.hintsChanged()
  }

  /** The helpers on which this node hangs have changed. */
  helpersChanged(): void {
    for (const link of this.#links.values()) link.helpersChanged()
  }

  #host(): LinkHost {
    const { signaller, gatherMore, record, hints, newestPort, candidates, exhaustive } = this.#options
    const now = (): number => this.#endpoint?.now() ?? 0
    return {
      now,
      open: (link, controlling, known) => {
        const local = { candidates: candidates(), nat64: this.#endpoint?.nat64 }
        if (this.#agent === undefined)
          throw new UsageError('ERR_NATWORK_STOPPED', 'the network is not running')
        const session = this.#agent.open({
          controlling,
          local,
          hints: known,
          ...(exhaustive && { exhaustive }),
        })
        this.#owners.set(session, link)
        return session
      },
      wake: () => this.#agent?.wake(),
      gatherMore,
      hints,
      newestPort,
      record,
      localTowards: (remote) => localTowards(this.#session.utp.address, remote),
      send: (target, message, options) => signaller.send(target, message, options),
      beginTls: (role) => this.#beginTls(role),
      debug: (message, fields) => this.#session.context.logger.debug(message, fields),
      changed: (link) => {
        const { connection } = link
        if (connection.state === 'interrupted') this.#options.onInterrupted()
        this.#session.emit('connection', connection)
      },
    }
  }

  #beginTls(role: 'client' | 'server'): EarlyHandshake | undefined {
    const open = [...this.#links.values()].filter(({ greeting }) => greeting.isOpen)
    if (role === 'server' && open.length >= maxGreeted) return undefined
    const { identity, timeouts, signal } = this.#session
    return new EarlyHandshake(role, identity, { timeout: timeouts.handshake, signal })
  }

  #onIce(event: IceEvent): void {
    const link = this.#owners.get(event.session)
    if (link === undefined) return
    if (event.type === 'trace') this.#session.emit('trace', link.peer, event.entry)
    else link.onIce(event)
    if (event.type === 'doubted') this.#options.onDoubt()
  }

  #watch(): void {
    for (const [peer, link] of this.#links) {
      link.watch()
      // What has no session and no stream is the memory of a link.
      const isOver = link.session === undefined && !link.hasStreams
      if (link.idleFor() < (isOver ? forgetAfter : keepIdle)) continue
      link.close('nobody uses it')
      this.#links.delete(peer)
    }
  }
}

/** Where the offer's answer goes: by the record of the very node that made it. */
function targetIn(record: unknown, from: NodeId): SignalTarget | undefined {
  try {
    return targetOf(verifyNodeInfo(record), from)
  } catch {
    return undefined
  }
}

/** @returns undefined when the record is another node's, or of a version that cannot be signalled to. */
export function targetOf(info: NodeInfo, id: NodeId): SignalTarget | undefined {
  if (info.id !== id || info.sealKey === undefined) return undefined
  return { id, sealKey: Buffer.from(info.sealKey, 'base64'), helpers: info.helpers ?? [] }
}
