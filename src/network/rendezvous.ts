import { ControlDesk } from './control-desk.ts'
import { ControlPool } from './control-pool.ts'
import { Dialler } from './dialler.ts'
import type { ConfiguredHelper } from './helper-reference.ts'
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
    this.dialler = new Dialler(session, this.pool)
    this.helpers = new Helpers(session, this.pool, options.helpers, options.onHelpers)
    this.signaller = new Signaller({
      identity: session.identity,
      pool: this.pool,
      helpers: () => this.helpers.channels,
      schema: linkMessageSchema,
      onSignal: () => undefined,
      onDropped: (why, { peer }) => logger.debug('a signal was dropped', { by: peer, why }),
    })
  }

  /** Waits a little for the first helper. */
  async start(): Promise<void> {
    await this.helpers.start(PATIENCE)
  }

  async stop(): Promise<void> {
    await this.helpers.stop()
    await this.pool.stop()
  }
}
