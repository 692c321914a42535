import type { SocketAddress } from '../core/address.ts'
import { PeerError } from '../core/errors.ts'
import type { ControlAnswer, ControlChannel, ControlQuestion, RelayGrant } from './control.ts'
import { asError } from './errors.ts'
import type { NodeId } from './node-id.ts'
import { verifyNodeInfo, type NodeInfo } from './node-info.ts'
import { RefusedError } from './refusal.ts'
import type { Session } from './session.ts'
import type { Exchange } from './signalling/exchange.ts'

export interface ControlDeskOptions {
  /** This node's own: says where else it can be reached. */
  readonly record: () => NodeInfo
  /** A sealed signal for this node. */
  readonly onSignal: (body: string, channel: ControlChannel) => void
  /** Set when this node helps others. */
  readonly exchange?: Exchange
  /** Set when it relays for others too. */
  readonly grantRelay?: (peer: NodeId, at: SocketAddress | undefined) => RelayGrant | undefined
}

/** Answers what other nodes ask on control streams, whichever side opened them. */
export class ControlDesk {
  readonly #session: Session
  readonly #options: ControlDeskOptions

  constructor(session: Session, options: ControlDeskOptions) {
    this.#session = session
    this.#options = options
  }

  /** Whether that node may open a control stream at all: strangers only to be helped. */
  async admits(peer: NodeId): Promise<boolean> {
    return this.#options.exchange !== undefined || (await this.#knows(peer))
  }

  readonly answer = async (question: ControlQuestion, channel: ControlChannel): Promise<ControlAnswer> => {
    const { exchange, grantRelay, onSignal } = this.#options
    const { peer } = channel
    switch (question.type) {
      case 'announce':
        await this.announced(peer, question.info)
        return {}
      case 'find': {
        const attached = exchange?.find(question.id)
        if (attached !== undefined) return { info: attached }
        if (!(await this.#knows(peer))) return {}
        return { info: await this.#session.context.getNode(question.id).catch(() => undefined) }
      }
      case 'attach':
        if (exchange === undefined) throw denied(peer)
        exchange.attach(channel, ownRecord(peer, question.info))
        return { info: this.#options.record() }
      case 'signal':
        if (exchange === undefined) throw denied(peer)
        await exchange.forward(channel, question.to, question.body, question.for)
        return {}
      case 'deliver':
        onSignal(question.body, channel)
        return {}
      case 'relay':
        return { relay: granted(peer, grantRelay?.(peer, channel.remote)) }
      case 'ping':
        return {}
    }
  }

  /**
   * A node says where it is, on its control stream or in a signal of its own.
   *
   * @throws {RefusedError} this node does not know it.
   * @throws {PeerError} `ERR_NATWORK_NODE_INFO`: no valid record, or another node's.
   */
  async announced(peer: NodeId, record: unknown): Promise<void> {
    if (!(await this.#knows(peer))) throw denied(peer)
    const info = ownRecord(peer, record)
    const { context, signal, emit } = this.#session
    const known = await context.getNode(info.id).catch(() => undefined)
    if (known !== undefined && known.sequence >= info.sequence) return
    emit('nodeUpdated', info)
    await context.updateNode(info, signal).catch((error: unknown) => {
      context.logger.warn('a record was not kept', { node: info.id, error: asError(error).message })
    })
  }

  /** Whether this node speaks of others, and hears of itself, with that one. */
  async #knows(peer: NodeId): Promise<boolean> {
    const { services, context } = this.#session
    if (services.names(peer)) return true
    return (await context.getNode(peer).catch(() => undefined)) !== undefined
  }
}

/** A verified record by the very node that speaks: nobody can announce another one. */
function ownRecord(peer: NodeId, record: unknown): NodeInfo {
  const info = verifyNodeInfo(record)
  if (info.id === peer) return info
  throw new PeerError('ERR_NATWORK_NODE_INFO', `${peer} announced the record of ${info.id}`)
}

function denied(peer: NodeId): RefusedError {
  return new RefusedError('ERR_NATWORK_CONTROL_DENIED', `${peer} is not helped here`)
}

function granted(peer: NodeId, grant: RelayGrant | undefined): RelayGrant {
  if (grant === undefined) throw denied(peer)
  return grant
}
