import { setMaxListeners } from 'node:events'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatAddress, sameAddress, type SocketAddress } from '../core/address.ts'
import { PeerError, type NatworkError } from '../core/errors.ts'
import { samePath, type Path } from '../core/machine.ts'
import { UtpStream } from '../utp/driver/index.ts'
import type { ExhaustiveBudget } from '../ice/index.ts'
import type { ControlPool } from './control-pool.ts'
import { Scope } from './deadline.ts'
import { asError, hasCode } from './errors.ts'
import type { EarlyHandshake } from './early-handshake.ts'
import { handshake } from './handshake.ts'
import type { HelperReference } from './helper-reference.ts'
import { targetOf, type Links } from './links/links.ts'
import type { PeerLink } from './links/peer-link.ts'
import type { NodeId } from './node-id.ts'
import type { NodeInfo } from './node-info.ts'
import { writeGreeting, writeMessage, type Request } from './protocol.ts'
import { ask, closed, hear, RefusedError } from './refusal.ts'
import type { SecureStream } from './secure-stream.ts'
import type { Session } from './session.ts'
import type { SignalTarget } from './signalling/signaller.ts'
import { raceAddresses } from './race.ts'
import {
  dialTcp,
  distinctTlsPlaces,
  formatTlsPlace,
  placesOfReference,
  tlsPlacesOf,
  type Places,
  type TlsPlace,
} from './tls/place.ts'

/** What is asked of the peer; its id is added here. */
type Question = Request extends infer R ? (R extends Request ? Omit<R, 'to'> : never) : never

export interface DialOptions {
  /** Addresses and helpers that the caller has from elsewhere (a ticket), tried besides the directory's. */
  readonly addresses?: readonly SocketAddress[]
  readonly helpers?: readonly HelperReference[]
  /** What a search through every port may cost, where nothing else gets through. */
  readonly exhaustive?: ExhaustiveBudget | undefined
  /** What to say to the service with the request, before the answer: asked for once the peer has proved its id. */
  readonly first?: (() => Uint8Array | undefined) | undefined
  readonly signals?: readonly (AbortSignal | undefined)[]
}

/** What a dialler works with. */
export interface DiallerParts {
  /** To ask other nodes. */
  readonly pool: ControlPool
  readonly links: Links
  /** The helpers on which this node hangs: they know others that do. */
  readonly helpers: () => readonly NodeId[]
  /** Where a node of the same network says that it is, if such are looked for. */
  readonly nearby: (id: NodeId, signal: AbortSignal) => Promise<readonly SocketAddress[]>
  /** Nothing that this node sends by UDP is answered: TLS it is where there is a choice. */
  readonly udpBlocked: () => boolean
}

/** Milliseconds for an answer along a path that worked a moment ago, before the path is doubted. */
const answerTime = 500

/** The calling side: from a node id to a stream that the peer's service has accepted. */
export class Dialler {
  readonly #session: Session
  readonly #parts: DiallerParts

  constructor(session: Session, parts: DiallerParts) {
    this.#session = session
    this.#parts = parts
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
    const request: Request = { ...question, to: id }
    const asked = new WeakSet<SecureStream>()
    const speak = (to: SecureStream): void => {
      asked.add(to)
      writeMessage(to, request)
    }
    try {
      const { addresses = [], helpers = [], exhaustive } = options
      if (exhaustive !== undefined) this.#parts.links.to(id).searchEverything(exhaustive)
      stream = await scope.run(this.#reach(id, { addresses, helpers }, speak, scope.signal))
      const first = options.first?.()
      if (asked.has(stream)) {
        if (first !== undefined && first.length > 0) stream.write(first)
        await scope.run(hear(stream, request))
      } else {
        await scope.run(ask(stream, request, first))
      }
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
  async dialControl(id: NodeId, given: Places, signal: AbortSignal): Promise<Duplex> {
    const known = await this.#known(id, given.addresses.length + given.tls.length > 0, signal)
    const places = {
      ...given,
      addresses: distinct([...given.addresses, ...(known?.addresses ?? [])]),
      tls: given.only === 'udp' ? [] : distinctTlsPlaces([...given.tls, ...tlsPlacesOf(known)]),
    }
    const stream = await this.#connect(id, places, signal)
    try {
      await ask(stream, { op: 'control', to: id })
      return stream.off('error', ignore)
    } catch (error) {
      this.#drop(stream, error)
      throw error
    }
  }

  // The link that is there; else what is known, and this network; when that leads nowhere soon, what other nodes know.
  async #reach(id: NodeId, given: Whereabouts, speak: Speak, signal: AbortSignal): Promise<SecureStream> {
    const link = this.#parts.links.get(id)
    if (link?.session !== undefined && link.path !== undefined) {
      const stream = await this.#over(link, link.path, signal).catch(ignore)
      signal.throwIfAborted()
      if (stream !== undefined) return stream
    }
    const info = await this.#known(id, given.addresses.length + given.helpers.length > 0, signal)
    const places = {
      addresses: distinct([...given.addresses, ...(info?.addresses ?? [])]),
      helpers: distinctHelpers([...(info?.helpers ?? []), ...given.helpers]),
    }
    const isKnown = places.addresses.length + places.helpers.length > 0
    const losers = new AbortController()
    setMaxListeners(0, losers.signal)
    const either = AbortSignal.any([signal, losers.signal])
    const known = isKnown ? this.#try(id, places, info, speak, either) : undefined
    const near = this.#tryNearby(id, places, either)
    const ways = [...(known ? [known] : []), near, this.#tryAnew(id, places, known, speak, either)]
    try {
      return await firstOf(ways, losers)
    } catch (error) {
      signal.throwIfAborted()
      // What became of that which was known says more than that nobody knows better.
      throw known === undefined ? (tellingOf(error) ?? unknown(id)) : firstError(error)
    }
  }

  /** Where it says that it is on this network: not where it is dialled already, but at once where signals go first. */
  async #tryNearby(id: NodeId, known: Whereabouts, signal: AbortSignal): Promise<SecureStream> {
    const found = await this.#parts.nearby(id, signal)
    const isTried = (one: SocketAddress): boolean =>
      known.helpers.length === 0 && known.addresses.some((other) => sameAddress(one, other))
    const addresses = found.filter((one) => !isTried(one))
    if (addresses.length === 0) throw unknown(id)
    return await this.#connect(id, { addresses, tls: [], only: 'udp' }, signal)
  }

  /** What is known may be old: when that leads nowhere, or not soon, others are asked. */
  async #tryAnew(
    id: NodeId,
    known: Whereabouts,
    attempt: Promise<SecureStream> | undefined,
    speak: Speak,
    signal: AbortSignal,
  ): Promise<SecureStream> {
    if (attempt !== undefined) {
      const failed = attempt.then(() => new Promise<never>(ignore), ignore)
      await Promise.race([failed, sleep(this.#session.timeouts.headStart, undefined, { signal, ref: false })])
    }
    const losers = new AbortController()
    setMaxListeners(0, losers.signal)
    const either = AbortSignal.any([signal, losers.signal])
    // One of those who are asked may lie, with a record of long ago: what says more comes on top.
    const ways = (await this.#lookUp(id, signal)).map(async (found): Promise<SecureStream> => {
      const { addresses, helpers = [] } = await found
      const isNew = {
        addresses: addresses.filter((one) => !known.addresses.some((other) => sameAddress(one, other))),
        helpers: helpers.filter((one) => !known.helpers.some((other) => one.id === other.id)),
      }
      if (isNew.addresses.length + isNew.helpers.length === 0) throw unknown(id)
      return await this.#try(id, isNew, await found, speak, either)
    })
    try {
      return await firstOf(ways, losers)
    } catch (error) {
      signal.throwIfAborted()
      throw tellingOf(error) ?? unknown(id)
    }
  }

  /** By signals where there is a helper, and at the addresses. */
  async #try(
    id: NodeId,
    { addresses, helpers }: Whereabouts,
    info: NodeInfo | undefined,
    speak: Speak,
    signal: AbortSignal,
  ): Promise<SecureStream> {
    const places = { addresses, tls: tlsPlacesOf(info) }
    if (helpers.length === 0) return await this.#connect(id, places, signal)
    const losers = new AbortController()
    setMaxListeners(0, losers.signal)
    const either = AbortSignal.any([signal, losers.signal])
    const meeting = this.#meet(id, helpers, info, speak, either)
    const direct = async (): Promise<SecureStream> => {
      const failed = meeting.then(() => new Promise<never>(ignore), ignore)
      await Promise.race([
        failed,
        sleep(this.#session.timeouts.headStart, undefined, { signal: either, ref: false }),
      ])
      return await this.#connect(id, places, either)
    }
    try {
      return await firstOf(addresses.length === 0 ? [meeting] : [meeting, direct()], losers)
    } catch (error) {
      signal.throwIfAborted()
      throw telling(error)
    }
  }

  async #meet(
    id: NodeId,
    helpers: readonly HelperReference[],
    info: NodeInfo | undefined,
    speak: Speak,
    signal: AbortSignal,
  ): Promise<SecureStream> {
    const target = (info && targetOf(info, id)) ?? (await this.#targetBy(helpers, id, signal))
    const link = this.#parts.links.to(id)
    const to = { ...target, helpers }
    const path = await link.meet(to, signal)
    const handshake = link.greeting.take('client')
    const begun = handshake && { handshake, name: link.name, speak }
    try {
      return await this.#over(link, path, signal, begun)
    } catch (error) {
      handshake?.destroy()
      signal.throwIfAborted()
      if (begun === undefined && link.path !== undefined && samePath(link.path, path)) throw error
      // It only seemed to be the way, and somebody else is there; or the peer has forgotten how it began.
      return await this.#over(link, await link.meet(to, signal, true), signal)
    }
  }

  /** A stranger's key, from the first of its helpers that knows it. */
  async #targetBy(
    helpers: readonly HelperReference[],
    id: NodeId,
    signal: AbortSignal,
  ): Promise<SignalTarget> {
    const asked = helpers.map(async (helper) => {
      const { channel, release } = await this.#parts.pool.attach(helper.id, placesOfReference(helper), signal)
      try {
        const info = await channel.find(id, { signal })
        const target = info && targetOf(info, id)
        if (target === undefined) {
          throw new PeerError(
            'ERR_NATWORK_NODE_UNKNOWN',
            `${id} does not hang on its helper ${helper.id} now`,
          )
        }
        return target
      } finally {
        release()
      }
    })
    return await Promise.any(asked).catch((error: unknown) => {
      signal.throwIfAborted()
      throw telling(error)
    })
  }

  /** One more connection along a link; the first goes on with what its signals have begun. */
  async #over(link: PeerLink, path: Path, signal: AbortSignal, begun?: Begun): Promise<SecureStream> {
    let raw: UtpStream | undefined
    const impatience = setTimeout(() => link.suspect(), answerTime)
    try {
      const stream = await this.#openAtOnce(path, {
        signal,
        connecting: AbortSignal.any([signal, link.up]),
        onStream: (connecting) => {
          raw = connecting
          link.add(connecting)
        },
        onConnected: () => clearTimeout(impatience),
        begun,
      })
      stream.on('error', ignore)
      if (stream.peer === link.peer) return stream
      this.#tellWrongNode(stream, link.peer)
      throw new PeerError('ERR_NATWORK_IDENTITY', `expected ${link.peer}, found ${stream.peer}`)
    } catch (error) {
      if (raw !== undefined) link.remove(raw)
      throw error
    } finally {
      clearTimeout(impatience)
    }
  }

  /**
   * Connection and TLS in one go, to a peer that has verified the path: the first words of TLS travel with the SYN. Or its last
   * ones, where the first were said with the signals.
   */
  async #openAtOnce(
    path: Path,
    {
      signal,
      connecting = signal,
      onStream,
      onConnected,
      begun,
    }: {
      signal: AbortSignal
      /** Gives up before the peer has answered; later `signal` alone does. */
      connecting?: AbortSignal
      onStream?: (raw: UtpStream) => void
      onConnected?: () => void
      begun?: Begun | undefined
    },
  ): Promise<SecureStream> {
    const { utp, identity, timeouts } = this.#session
    let onRaw: (raw: UtpStream) => void = ignore
    const secured = new Promise<SecureStream>((resolve, reject) => {
      onRaw = (raw) => {
        onStream?.(raw)
        const going =
          begun === undefined
            ? handshake(raw, 'client', identity, { timeout: timeouts.handshake, signal })
            : goOn(raw, begun)
        going.then(resolve, reject)
      }
    })
    const connected = utp.connect(path, { signal: connecting, withData: true, onStream: onRaw })
    return (await Promise.all([secured, connected.then(onConnected)]))[0]
  }

  async #known(id: NodeId, optional: boolean, signal: AbortSignal): Promise<NodeInfo | undefined> {
    const { context } = this.#session
    try {
      return await context.getNode(id, signal)
    } catch (error) {
      if (!optional || signal.aborted) throw error
      context.logger.warn('going on without the directory', { node: id, error: asError(error).message })
      return undefined
    }
  }

  async #connect(id: NodeId, { addresses, tls, only }: Places, signal: AbortSignal): Promise<SecureStream> {
    // Where UDP is known to be blocked it would only hold up the next try; another look at it is taken now and then.
    const isTlsOnly = this.#parts.udpBlocked() && tls.length > 0 && only !== 'udp'
    const places = isTlsOnly ? tls : takingTurns<Place>(addresses, tls)
    if (places.length === 0) {
      throw new PeerError('ERR_NATWORK_NODE_UNKNOWN', `no address of ${id} is known`)
    }
    const { context, utp, identity, timeouts } = this.#session
    const open = async (place: Place, ended: AbortSignal): Promise<SecureStream> => {
      const path = openPath(this.#parts.links.get(id), place)
      if (path !== undefined) return this.#openAtOnce(path, { signal: ended })
      const raw = 'host' in place ? await dialTcp(place, ended) : await utp.connect(place, { signal: ended })
      return handshake(raw, 'client', identity, { timeout: timeouts.handshake, signal: ended })
    }
    const attempt = async (place: Place, ended: AbortSignal): Promise<SecureStream> => {
      context.logger.debug('connecting', { node: id, address: formatPlace(place) })
      const stream = await open(place, ended)
      stream.on('error', ignore)
      if (stream.peer === id) {
        if (stream.raw instanceof UtpStream) this.#parts.links.adopt(stream.raw, id)
        return stream
      }
      this.#tellWrongNode(stream, id)
      throw new PeerError(
        'ERR_NATWORK_IDENTITY',
        `the node at ${formatPlace(place)} is not the one that was asked for: expected ${id}, found ${stream.peer}`,
      )
    }
    try {
      return await raceAddresses(places, attempt, signal)
    } catch (error) {
      if (signal.aborted || !(error instanceof AggregateError)) throw error
      throw worst(id, places.map(formatPlace), error)
    }
  }

  // Nothing but this is said to a node that is not the right one.
  #tellWrongNode(stream: SecureStream, expected: NodeId): void {
    writeMessage(stream, { op: 'wrong-node', to: expected } satisfies Request)
    this.#end(stream)
  }

  /** Each node that can be asked in its own time. Of their records those count that are newer than all that came before. */
  async #lookUp(id: NodeId, signal: AbortSignal): Promise<Promise<NodeInfo>[]> {
    const { context, identity } = this.#session
    let newest = -1
    const known = await context.listNodes(signal).catch((error: unknown) => {
      context.logger.warn('no other node can be asked', { error: asError(error).message })
      return []
    })
    return [...new Set([...this.#parts.helpers(), ...known])]
      .filter((helper) => helper !== id && helper !== identity.id)
      .map(async (helper) => {
        // Whatever keeps one of them from answering, it knows nothing.
        const info = await this.#askHelper(helper, id, signal).catch(() => undefined)
        if (info === undefined || info.sequence <= newest) throw unknown(id)
        newest = info.sequence
        this.#session.emit('nodeUpdated', info)
        context.updateNode(info, signal).catch((error: unknown) => {
          context.logger.warn('a record was not kept', { node: id, error: asError(error).message })
        })
        return info
      })
  }

  async #askHelper(helper: NodeId, id: NodeId, signal: AbortSignal): Promise<NodeInfo | undefined> {
    try {
      const { channel, release } = await this.#parts.pool.open(helper, undefined, signal)
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

/** The first stream to be there; the other ways are given up, and what comes late is closed. */
async function firstOf(
  ways: readonly Promise<SecureStream>[],
  losers: AbortController,
): Promise<SecureStream> {
  let won: SecureStream | undefined
  try {
    return (won = await Promise.any(ways))
  } finally {
    losers.abort(new PeerError('ERR_NATWORK_RESET', 'another way was faster'))
    for (const way of ways) way.then((late) => late !== won && late.destroy(), ignore)
  }
}

/** Where a node may be found. */
interface Whereabouts {
  readonly addresses: readonly SocketAddress[]
  readonly helpers: readonly HelperReference[]
}

function unknown(id: NodeId): PeerError {
  return new PeerError(
    'ERR_NATWORK_NODE_UNKNOWN',
    `no address of ${id} is known: use a ticket of that node, or add its record`,
  )
}

function firstError(thrown: unknown): Error {
  return asError(thrown instanceof AggregateError ? thrown.errors[0] : thrown)
}

/** The failure of a way that was tried, if one was. */
function tellingOf(thrown: unknown): Error | undefined {
  if (!(thrown instanceof AggregateError)) return asError(thrown)
  const tried = thrown.errors.map(asError).filter((error) => !hasCode(error, 'ERR_NATWORK_NODE_UNKNOWN'))
  return tried.length === 0 ? undefined : telling(new AggregateError(tried))
}

/** Of several ways that failed, the error that says most. */
function telling(thrown: unknown): Error {
  if (!(thrown instanceof AggregateError)) return asError(thrown)
  const errors = thrown.errors.map(asError)
  const identity = errors.find((error) => hasCode(error, 'ERR_NATWORK_IDENTITY'))
  const [first] = errors
  if (identity !== undefined) return identity
  if (errors.length === 1 && first !== undefined) return first
  return new PeerError('ERR_NATWORK_NODE_UNREACHABLE', errors.map(({ message }) => message).join('; '), {
    cause: thrown,
  })
}

function distinctHelpers(helpers: readonly HelperReference[]): HelperReference[] {
  return helpers.filter(({ id }, index) => helpers.findIndex((other) => other.id === id) === index)
}

/** The failure that tells most: that another node is there, else that none of them is reachable. */
function worst(id: NodeId, places: readonly string[], { errors }: AggregateError): NatworkError {
  const identity = errors.find((error): error is NatworkError => hasCode(error, 'ERR_NATWORK_IDENTITY'))
  if (identity !== undefined) return identity
  const tried = places.map((place, index) => `${place}: ${messageOf(errors[index])}`)
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

type Place = SocketAddress | TlsPlace

/** The path by which open connections reach the peer at that place. */
function openPath(link: PeerLink | undefined, place: Place): Path | undefined {
  if (link?.path === undefined || !link.hasStreams || 'host' in place) return undefined
  return sameAddress(link.path.remote, place) ? link.path : undefined
}

/** UDP is the better carrier wherever it works, so that it is tried first; TLS gets its turn soon. */
function takingTurns<T>(first: readonly T[], second: readonly T[]): T[] {
  const turns = Array.from({ length: Math.max(first.length, second.length) }, (_, n) => [first[n], second[n]])
  return turns.flat().filter((one) => one !== undefined)
}

function formatPlace(place: Place): string {
  return 'host' in place ? `${formatTlsPlace(place)} by TLS` : formatAddress(place)
}

/** What is asked of the peer, said on a stream that nobody has won with yet. */
type Speak = (stream: SecureStream) => void

/** TLS that began with the signals of a link. */
interface Begun {
  readonly handshake: EarlyHandshake
  /** The link's. */
  readonly name: string
  readonly speak: Speak
}

/** With the last of TLS and the request in the SYN. */
async function goOn(raw: UtpStream, { handshake, name, speak }: Begun): Promise<SecureStream> {
  const stream = await handshake.complete(raw, writeGreeting(name))
  stream.on('error', ignore)
  speak(stream)
  return stream
}

// Whoever waits on a stream hears of its errors there; between two waits nobody does.
function ignore(): undefined {
  // See above.
}
