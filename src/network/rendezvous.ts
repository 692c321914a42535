import { setImmediate } from 'node:timers/promises'
import type { SocketAddress } from '../core/address.ts'
import type { UdpEndpoint } from '../socket/index.ts'
import type { ExhaustiveBudget, LocalCandidate, NatHints } from '../ice/index.ts'
import { ControlDesk } from './control-desk.ts'
import { ControlPool } from './control-pool.ts'
import { Dialler } from './dialler.ts'
import { asError } from './errors.ts'
import type { ConfiguredHelper, HelperReference } from './helper-reference.ts'
import { Links, targetOf } from './links/links.ts'
import type { PeerLink } from './links/peer-link.ts'
import { relayPlaces } from './one-to-one.ts'
import type { NodeInfo } from './node-info.ts'
import type { NodeId } from './node-id.ts'
import type { HelpOptions } from './options.ts'
import { RefusedError } from './refusal.ts'
import { RelayService } from './relay-service.ts'
import { Relays, unlessFoundSoon, type RelayUser } from './relays.ts'
import type { Session } from './session.ts'
import { Exchange } from './signalling/exchange.ts'
import { Helpers } from './signalling/helpers.ts'
import { signalMessageSchema, type SignalMessage } from './signalling/message.ts'
import { Signaller, type Signal, type SignalTarget } from './signalling/signaller.ts'
import { TlsListener } from './tls/listener.ts'
import type { TcpStream } from './tls/tcp-stream.ts'

export interface RendezvousOptions {
  readonly helpers: readonly ConfiguredHelper[]
  /** Whether this node helps others. */
  readonly help: boolean | HelpOptions | undefined
  /** See {@link NetworkOptions.publicAddresses}. */
  readonly publicAddresses: readonly string[]
  /** This node's own; one for a helper names that one, too. */
  readonly record: (helper?: HelperReference) => NodeInfo
  /** This node's own candidates that are known at once. */
  readonly candidates: () => readonly LocalCandidate[]
  /** What is known of its NAT. */
  readonly hints: () => NatHints
  /** Where a node of the same network says that it is. */
  readonly nearby: (id: NodeId, signal: AbortSignal) => Promise<readonly SocketAddress[]>
  /** Whether somebody answers by UDP, as far as STUN shows. */
  readonly udpWorks: () => boolean
  /** The outer port of a flow that is opened just now, where the NAT's next ones follow from it. */
  readonly newestPort: () => Promise<number | undefined>
  /** What a search through every port may cost. */
  readonly exhaustive: ExhaustiveBudget | undefined
  /** The helpers on which this node hangs have changed. */
  readonly onHelpers: () => void
  /** No path to some peer answers, and it is not yet certain that they are gone. */
  readonly onDoubt: () => void
}

/** Milliseconds that a start waits for the first helper: a record without one is worth little behind a NAT. */
const PATIENCE = 2_000
/** Milliseconds in which a caller's relay, or a direct path, is there most of the time. */
const CALLEE_PATIENCE = 1_000

/** How this node meets others: control streams, helpers, signals, and what is dialled with their aid. */
export class Rendezvous {
  readonly #session: Session
  readonly #help: HelpOptions | undefined
  readonly #publicAddresses: readonly string[]
  #relayService: RelayService | undefined
  readonly desk: ControlDesk
  readonly pool: ControlPool
  readonly dialler: Dialler
  readonly helpers: Helpers
  readonly links: Links
  readonly relays: Relays
  readonly signaller: Signaller<SignalMessage>

  constructor(session: Session, options: RendezvousOptions) {
    const { logger } = session.context
    this.#help = options.help === true ? {} : options.help === false ? undefined : options.help
    this.#publicAddresses = options.publicAddresses
    this.#session = session
    const exchange = this.helps ? new Exchange({ neighbours: () => this.helpers.channels }) : undefined
    this.desk = new ControlDesk(session, {
      record: options.record,
      onSignal: (body, channel) => this.signaller.receive(body, channel),
      ...(exchange && { exchange }),
      grantRelay: (peer, at) => this.#relayService?.grant(peer, at),
    })
    this.pool = new ControlPool(session, {
      dial: (id, places, signal) => this.dialler.dialControl(id, places, signal),
      handler: this.desk.answer,
      record: options.record,
    })
    this.helpers = new Helpers(session, this.pool, options.helpers, {
      onChange: () => {
        this.relays.prepare(this.helpers.sources)
        this.links.helpersChanged()
        options.onHelpers()
      },
      udpWorks: options.udpWorks,
    })
    this.signaller = new Signaller({
      identity: session.identity,
      pool: this.pool,
      helpers: () => this.helpers.channels,
      schema: signalMessageSchema,
      onSignal: (signal) => this.#hear(signal),
      onDropped: (why, { peer }) => logger.debug('a signal was dropped', { by: peer, why }),
    })
    this.links = new Links(session, {
      signaller: this.signaller,
      candidates: options.candidates,
      gatherMore: (link, target, user, instead) => this.#gatherMore(link, target, user, instead),
      hints: options.hints,
      newestPort: options.newestPort,
      exhaustive: options.exhaustive,
      record: options.record,
      onInterrupted: () => this.helpers.check(),
      onDoubt: options.onDoubt,
    })
    this.relays = new Relays(session)
    this.dialler = new Dialler(session, {
      pool: this.pool,
      links: this.links,
      helpers: () => this.helpers.channels.map(({ peer }) => peer),
      nearby: options.nearby,
      udpBlocked: () => this.helpers.udpBlocked,
    })
  }

  /** Whether this node helps others. */
  get helps(): boolean {
    return this.#help !== undefined
  }

  /** Takes the places on the port that come before STUN's server. */
  attach(endpoint: UdpEndpoint): void {
    this.links.start(endpoint)
    const { relay = true } = this.#help ?? { relay: false }
    if (relay === false) return
    const places = relayPlaces(this.#publicAddresses, endpoint.address)
    this.#relayService = new RelayService(this.#session, endpoint, places, relay === true ? {} : relay)
  }

  /** Opens the TCP port where nodes come whose networks block UDP, unless it is switched off or cannot be had. */
  async listen(endpoint: UdpEndpoint, onNode: (stream: TcpStream) => void): Promise<TlsListener | undefined> {
    const { tls } = this.#help ?? { tls: false }
    if (tls === false) return undefined
    const relay = this.#relayService
    const { address, port } = endpoint.address
    const listener = await TlsListener.open({
      host: address,
      port: tls,
      fallback: port,
      onNode,
      onRelay: relay?.overTls(this.#session.identity),
      logger: this.#session.context.logger,
    })
    if (listener !== undefined) relay?.addListening(listener.address)
    return listener
  }

  /** Waits a little for the first helper. */
  async start(): Promise<void> {
    await this.helpers.start(PATIENCE)
    if (this.helpers.udpBlocked) await this.relays.ready(PATIENCE)
  }

  /**
   * Says this node's record to one that the directory knows. A node that hangs on helpers hears it through them: a datagram
   * which comes to its NAT uninvited may spoil the very port by which a path to it would be found a moment later.
   *
   * @throws {NatworkError} why it could not be told; the signal's reason.
   */
  async announce(id: NodeId, record: NodeInfo, signal: AbortSignal): Promise<void> {
    const info = await this.#session.context.getNode(id, signal)
    const target = info && targetOf(info, id)
    if (target !== undefined && target.helpers.length > 0 && !info?.helps) {
      try {
        await this.signaller.send(target, { type: 'announce', record }, { signal })
        return
      } catch (error) {
        // When no helper of it answers, it may still be near.
        if (error instanceof RefusedError || signal.aborted) throw error
      }
    }
    const { channel, release } = await this.pool.open(id, undefined, signal)
    try {
      await channel.announce(record, { signal })
    } finally {
      release()
    }
  }

  /** This machine's own addresses have changed: what hangs on the old ones is looked at now. */
  networkChanged(): void {
    this.relays.recheck()
    this.helpers.check()
  }

  async stop(): Promise<void> {
    // While there is still a way to say good-bye.
    await this.links.stop()
    await this.relays.stop()
    await this.#relayService?.stop()
    await this.helpers.stop()
    await this.pool.stop()
  }

  #hear(signal: Signal<SignalMessage>): void {
    const { from, message } = signal
    if (message.type === 'announce') {
      this.desk.announced(from, message.record).catch((error: unknown) => {
        this.#session.context.logger.debug('an announcement was dropped', {
          by: from,
          why: asError(error).message,
        })
      })
    } else {
      this.links.hear({ ...signal, message })
    }
  }

  /**
   * The caller's relay carries the first bytes; the side that was called needs its own only when that does not come. Where UDP
   * is blocked nobody's relay can be reached but through one's own: there each helper's is taken, at once.
   */
  async #gatherMore(
    link: PeerLink,
    target: SignalTarget | undefined,
    user: RelayUser,
    instead: readonly string[] = [],
  ): Promise<void> {
    if (this.helpers.udpBlocked) {
      await Promise.all(this.helpers.sources.map((source) => this.relays.borrow([source], user)))
      return
    }
    if (link.session?.controlling === false && instead.length === 0) {
      // Once the offer is heard out: with a caller of the other family there is no path to wait for.
      await setImmediate()
      const patience = link.session.pairs.length > 0 ? CALLEE_PATIENCE : 0
      const isNeeded = await unlessFoundSoon(() => link.path !== undefined, patience, user.ended)
      if (!isNeeded) return
    }
    const others = (target?.helpers ?? []).flatMap(({ id, address }) => {
      const known = this.pool.get(id)
      return known === undefined ? [] : [{ ...known, address }]
    })
    const sources = [...this.helpers.sources, ...others]
    await this.relays.borrowUntil(
      // Nor is there a need before the peer has answered.
      () => link.path !== undefined || link.session?.pairs.length === 0,
      sources.filter(({ address }) => !instead.includes(address.address)),
      user,
    )
  }
}
