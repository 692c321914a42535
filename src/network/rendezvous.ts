import type { LocalCandidate, NatHints } from '../ice/index.ts'
import { ControlDesk } from './control-desk.ts'
import { ControlPool } from './control-pool.ts'
import { Dialler } from './dialler.ts'
import type { ConfiguredHelper } from './helper-reference.ts'
import { Links } from './links/links.ts'
import type { NodeInfo } from './node-info.ts'
import type { Session } from './session.ts'
import { Exchange } from './signalling/exchange.ts'
import { Helpers } from './signalling/helpers.ts'
import { linkMessageSchema, type LinkMessage } from './signalling/message.ts'
import { Signaller } from './signalling/signaller.ts'

export interface RendezvousOptions {
  readonly helpers: readonly ConfiguredHelper[]
  /** Whether this node helps others. */
  readonly help: boolean
  /** This node's own. */
  readonly record: () => NodeInfo
  /** This node's own candidates that are known at once. */
  readonly candidates: () => readonly LocalCandidate[]
  /** What is known of its NAT. */
  readonly hints: () => NatHints
  /** The helpers on which this node hangs have changed. */
  readonly onHelpers: () => void
}

/** Milliseconds that a start waits for the first helper: a record without one is worth little behind a NAT. */
const PATIENCE = 2_000

/** How this node meets others: control streams, helpers, signals, and what is dialled with their aid. */
export class Rendezvous {
  readonly desk: ControlDesk
  readonly pool: ControlPool
  readonly dialler: Dialler
  readonly helpers: Helpers
  readonly links: Links
  readonly signaller: Signaller<LinkMessage>

  constructor(session: Session, options: RendezvousOptions) {
    const { logger } = session.context
    const exchange = options.help ? new Exchange({ neighbours: () => this.helpers.channels }) : undefined
    this.desk = new ControlDesk(session, {
      onSignal: (body, channel) => this.signaller.receive(body, channel),
      ...(exchange && { exchange }),
    })
    this.pool = new ControlPool(session, {
      dial: (id, addresses, signal) => this.dialler.dialControl(id, addresses, signal),
      handler: this.desk.answer,
      record: options.record,
    })
    this.helpers = new Helpers(session, this.pool, options.helpers, options.onHelpers)
    this.signaller = new Signaller({
      identity: session.identity,
      pool: this.pool,
      helpers: () => this.helpers.channels,
      schema: linkMessageSchema,
      onSignal: (signal) => this.links.hear(signal),
      onDropped: (why, { peer }) => logger.debug('a signal was dropped', { by: peer, why }),
    })
    this.links = new Links(session, {
      signaller: this.signaller,
      candidates: options.candidates,
      gatherMore: () => Promise.resolve(),
      hints: options.hints,
      record: options.record,
      onInterrupted: () => this.helpers.check(),
    })
    this.dialler = new Dialler(session, {
      pool: this.pool,
      links: this.links,
      helpers: () => this.helpers.channels.map(({ peer }) => peer),
    })
  }

  /** Waits a little for the first helper. */
  async start(): Promise<void> {
    await this.helpers.start(PATIENCE)
  }

  async stop(): Promise<void> {
    // While there is still a way to say good-bye.
    await this.links.stop()
    await this.helpers.stop()
    await this.pool.stop()
  }
}
