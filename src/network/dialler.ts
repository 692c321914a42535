import type { Duplex } from 'node:stream'
import { formatAddress, sameAddress, type SocketAddress } from '../core/address.ts'
import { NatworkError, PeerError } from '../core/errors.ts'
import type { ControlPool } from './control-pool.ts'
import { Scope } from './deadline.ts'
import { asError, hasCode } from './errors.ts'
import { handshake } from './handshake.ts'
import type { NodeId } from './node-id.ts'
import type { NodeInfo } from './node-info.ts'
import { writeMessage, type Request } from './protocol.ts'
import { ask, closed, RefusedError } from './refusal.ts'
import type { SecureStream } from './secure-stream.ts'
import type { Session } from './session.ts'
import { raceAddresses } from './race.ts'

/** What is asked of the peer; its id is added here. */
type Question = Request extends infer R ? (R extends Request ? Omit<R, 'to'> : never) : never

export interface DialOptions {
  /** Addresses that the caller has from elsewhere (a ticket), tried besides the directory's. */
  readonly addresses?: readonly SocketAddress[]
  readonly signals?: readonly (AbortSignal | undefined)[]
}

/** The calling side: from a node id to a stream that the peer's service has accepted. */
export class Dialler {
  readonly #session: Session
  /** To ask other nodes. */
  readonly #pool: ControlPool

  constructor(session: Session, pool: ControlPool) {
    this.#session = session
    this.#pool = pool
  }

  /**
   * @throws {PeerError} `ERR_NATWORK_NODE_UNKNOWN`, `_NODE_UNREACHABLE`, `_IDENTITY`, `_TIMEOUT`, or a
   * {@link RefusedError}.
   */
  async dial(id: NodeId, question: Question, options: DialOptions = {}): Promise<SecureStream> {
    const { timeouts, signal } = this.#session
    const scope = new Scope(timeouts.connect, [...(options.signals ?? []), signal], () => {
      return new PeerError('ERR_NATWORK_TIMEOUT', `${id} did not answer within ${timeouts.connect} ms`)
    })
    let stream: SecureStream | undefined
    try {
      stream = await scope.run(this.#reach(id, options.addresses ?? [], scope.signal))
      await scope.run(ask(stream, { ...question, to: id }))
      return stream.off('error', ignore)
    } catch (error) {
      if (stream !== undefined) this.#drop(stream, error)
      throw error
    } finally {
      scope.close()
    }
  }

  /**
   * A control stream as `connectToNode`'s `dial` gives it: no help of other nodes, since it is how they are asked.
   */
  async dialControl(id: NodeId, given: readonly SocketAddress[], signal: AbortSignal): Promise<Duplex> {
    const known = await this.#known(id, given.length > 0, signal)
    const stream = await this.#connect(id, distinct([...given, ...known]), signal)
    try {
      await ask(stream, { op: 'control', to: id })
      return stream.off('error', ignore)
    } catch (error) {
      this.#drop(stream, error)
      throw error
    }
  }

  // First what is known; when that is nothing, or old, what the nodes that we know know.
  async #reach(id: NodeId, given: readonly SocketAddress[], signal: AbortSignal): Promise<SecureStream> {
    const known = distinct([...given, ...(await this.#known(id, given.length > 0, signal))])
    let failure: NatworkError | undefined
    if (known.length > 0) {
      try {
        return await this.#connect(id, known, signal)
      } catch (error) {
        if (signal.aborted || !(error instanceof NatworkError)) throw error
        failure = error
      }
    }
    const found = (await this.#lookUp(id, signal))?.addresses ?? []
    const fresh = found.filter((address) => !known.some((other) => sameAddress(address, other)))
    if (fresh.length > 0) return await this.#connect(id, fresh, signal)
    throw (
      failure ??
      new PeerError(
        'ERR_NATWORK_NODE_UNKNOWN',
        `no address of ${id} is known: use a ticket of that node, or add its record`,
      )
    )
  }

  async #known(id: NodeId, optional: boolean, signal: AbortSignal): Promise<readonly SocketAddress[]> {
    const { context } = this.#session
    try {
      return (await context.getNode(id, signal))?.addresses ?? []
    } catch (error) {
      if (!optional || signal.aborted) throw error
      context.logger.warn('going on without the directory', { node: id, error: asError(error).message })
      return []
    }
  }

  async #connect(
    id: NodeId,
    addresses: readonly SocketAddress[],
    signal: AbortSignal,
  ): Promise<SecureStream> {
    if (addresses.length === 0) {
      throw new PeerError('ERR_NATWORK_NODE_UNKNOWN', `no address of ${id} is known`)
    }
    const { context, utp, identity, timeouts } = this.#session
    const attempt = async (address: SocketAddress, ended: AbortSignal): Promise<SecureStream> => {
      context.logger.debug('connecting', { node: id, address: formatAddress(address) })
      const raw = await utp.connect(address, { signal: ended })
      const stream = await handshake(raw, 'client', identity, { timeout: timeouts.handshake, signal: ended })
      stream.on('error', ignore)
      if (stream.peer === id) return stream
      this.#tellWrongNode(stream, id)
      throw new PeerError(
        'ERR_NATWORK_IDENTITY',
        `the node at ${formatAddress(address)} is not the one that was asked for: expected ${id}, found ${stream.peer}`,
      )
    }
    try {
      return await raceAddresses(addresses, attempt, signal)
    } catch (error) {
      if (signal.aborted || !(error instanceof AggregateError)) throw error
      throw worst(id, addresses, error)
    }
  }

  // Nothing but this is said to a node that is not the right one.
  #tellWrongNode(stream: SecureStream, expected: NodeId): void {
    writeMessage(stream, { op: 'wrong-node', to: expected } satisfies Request)
    this.#end(stream)
  }

  // Each helper in its own time, the first to know wins.
  async #lookUp(id: NodeId, signal: AbortSignal): Promise<NodeInfo | undefined> {
    const { context, identity } = this.#session
    const helpers = await context.listNodes(signal).catch((error: unknown) => {
      context.logger.warn('no other node can be asked', { error: asError(error).message })
      return []
    })
    const asked = helpers
      .filter((helper) => helper !== id && helper !== identity.id)
      .map(async (helper) => {
        const info = await this.#askHelper(helper, id, signal)
        if (info === undefined)
          throw new PeerError('ERR_NATWORK_NODE_UNKNOWN', `${helper} does not know ${id}`)
        return info
      })
    const info = await Promise.any(asked).catch(() => undefined)
    signal.throwIfAborted()
    if (info !== undefined) {
      this.#session.emit('nodeUpdated', info)
      context.updateNode(info, signal).catch((error: unknown) => {
        context.logger.warn('a record was not kept', { node: id, error: asError(error).message })
      })
    }
    return info
  }

  async #askHelper(helper: NodeId, id: NodeId, signal: AbortSignal): Promise<NodeInfo | undefined> {
    try {
      const { channel, release } = await this.#pool.open(helper, [], signal)
      try {
        return await channel.find(id, { signal })
      } finally {
        release()
      }
    } catch (error) {
      this.#session.context.logger.debug('a node could not be asked', {
        helper,
        error: asError(error).message,
      })
      throw error
    }
  }

  // A refusal ends in good order; after anything else there is nothing to wait for.
  #drop(stream: SecureStream, error: unknown): void {
    if (error instanceof RefusedError) this.#end(stream)
    else stream.destroy(asError(error))
  }

  #end(stream: SecureStream): void {
    stream.end()
    stream.resume()
    void closed(stream, this.#session.timeouts.linger)
  }
}

/** The failure that tells most: that another node is there, else that none of them is reachable. */
function worst(id: NodeId, addresses: readonly SocketAddress[], { errors }: AggregateError): NatworkError {
  const identity = errors.find((error): error is NatworkError => hasCode(error, 'ERR_NATWORK_IDENTITY'))
  if (identity !== undefined) return identity
  const tried = addresses.map((address, index) => `${formatAddress(address)}: ${messageOf(errors[index])}`)
  return new PeerError('ERR_NATWORK_NODE_UNREACHABLE', `${id} cannot be reached (${tried.join('; ')})`, {
    cause: errors.length === 1 ? errors[0] : new AggregateError(errors),
  })
}

function messageOf(error: unknown): string {
  return asError(error).message
}

function distinct(addresses: readonly SocketAddress[]): SocketAddress[] {
  return addresses.filter(
    (address, index) => addresses.findIndex((other) => sameAddress(address, other)) === index,
  )
}

// Whoever waits on a stream hears of its errors there; between two waits nobody does.
function ignore(): void {
  // See above.
}
