import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { formatAddress, type SocketAddress } from '../../../core/address.ts'
import type { Logger } from '../../../core/logger.ts'
import { systemClock, systemRng } from '../../../core/ports.ts'
import {
  Attribute,
  Method,
  StunClient,
  type ClientAuth,
  type StunClientEvent,
  type StunPeerError,
} from '../../../stun/index.ts'
import type { Allocation, TurnEvent } from '../../client/index.ts'
import { understoodInTurn } from '../../client/requests.ts'
import { TurnPeerError } from '../../errors.ts'
import { TurnFramer } from '../../protocol/index.ts'
import { dial } from './dial.ts'
import { abortedError } from './errors.ts'
import { forbidThrough, giveBack, permitThrough, requireAddress } from './link.ts'
import type { StreamLink } from './stream.ts'

export interface TcpRelayEvents {
  /** A permitted peer connected to the relayed port. */
  connection: [stream: Duplex, peer: SocketAddress]
  /** The relay lets nobody in from this IP address. */
  refused: [address: string, error: StunPeerError]
  /** The relayed port is gone; another one is asked for until there is one, or `close`. Open streams may live on. */
  lost: [error: StunPeerError | undefined]
  renewed: [allocation: Allocation]
  close: []
}

/** A relayed TCP port (RFC 6062): connections to peers and from them, each over a connection of its own to the relay. */
export class TcpRelayAllocation extends EventEmitter<TcpRelayEvents> {
  readonly #link: StreamLink
  readonly #logger: Logger
  #allocation: Allocation
  // Bounded by what the client allows to be asked for at once.
  readonly #connecting = new Map<string, Connecting>()
  readonly #closed = new AbortController()
  #closing: Promise<void> | undefined
  #onClosed: () => void = () => undefined

  /** @internal made by `connectTcpRelay` */
  constructor(link: StreamLink, allocation: Allocation, logger: Logger) {
    super()
    this.#link = link
    this.#allocation = allocation
    this.#logger = logger
  }

  /** Where peers connect to. */
  get relayed(): SocketAddress {
    const [first] = this.#allocation.relayed
    if (first === undefined) throw new TypeError('an allocation without a relayed address')
    return first
  }

  get allocation(): Allocation {
    return this.#allocation
  }

  /**
   * Lets these IP addresses connect to the relayed port, until {@link forbid} or {@link close}.
   *
   * @throws {TurnUsageError} `ERR_NATWORK_TURN_PEER`; `ERR_NATWORK_TURN_BUSY` beyond 256 addresses.
   */
  permit(addresses: readonly string[]): void {
    permitThrough(this.#link, addresses)
  }

  /** Takes {@link permit} back: closed within five minutes. */
  forbid(addresses: readonly string[]): void {
    forbidThrough(this.#link, addresses)
  }

  /**
   * Connects to a peer through the relay, one attempt per peer at a time.
   *
   * @throws {StunPeerError} what the relay says: 403 its policy, 447 the peer cannot be reached (for 10 s it is not tried again).
   * @throws {TurnUsageError} `ERR_NATWORK_TURN_PEER`, `ERR_NATWORK_TURN_BUSY`, `ERR_NATWORK_TURN_ABORTED`
   */
  connect(peer: SocketAddress, options: { readonly signal?: AbortSignal } = {}): Promise<Duplex> {
    const { signal } = options
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortedError(signal))
        return
      }
      requireAddress(peer.address)
      this.#link.client.connect(this.#link.now(), peer)
      const onAbort = (): void => {
        settle()
        reject(abortedError(signal))
      }
      const settle = (): void => {
        signal?.removeEventListener('abort', onAbort)
        this.#connecting.delete(formatAddress(peer))
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#connecting.set(formatAddress(peer), {
        done: (id) => {
          settle()
          this.#bind(id, signal).then(resolve, reject)
        },
        fail: (error) => {
          settle()
          reject(error)
        },
      })
      this.#link.wake()
    })
  }

  /** Gives the relayed port back, and closes every connection through it. Idempotent; never throws. */
  close(): Promise<void> {
    this.#closing ??= giveBack(this.#link, (resolve) => (this.#onClosed = resolve)).then(() => {
      this.#closed.abort()
      this.emit('close')
    })
    return this.#closing
  }

  /** @internal */
  handle(event: TurnEvent): void {
    switch (event.type) {
      case 'attempt':
        this.#bind(event.id, undefined).then(
          (stream) => {
            if (!this.emit('connection', stream, event.peer)) stream.destroy()
          },
          (error: unknown) => this.#logger.debug('a peer’s connection was not taken', { error }),
        )
        break
      case 'connected':
        this.#connecting.get(formatAddress(event.peer))?.done(event.id)
        break
      case 'unconnected':
        this.#connecting.get(formatAddress(event.peer))?.fail(event.error)
        break
      case 'refused':
        this.emit('refused', event.address, event.error)
        break
      case 'lost':
        this.emit('lost', event.error)
        break
      case 'renewed':
        this.#allocation = event.allocation
        this.emit('renewed', event.allocation)
        break
      case 'closed':
        this.#onClosed()
    }
  }

  /** A connection of its own to the relay, which becomes the one to the peer (RFC 6062 §4.3). */
  async #bind(id: number, signal: AbortSignal | undefined): Promise<Duplex> {
    const ended = this.#closed.signal
    const either = signal === undefined ? ended : AbortSignal.any([signal, ended])
    const socket = await dial(this.#link.target, either)
    await bindConnection(socket, id, this.#link.client.auth, either)
    return socket
  }
}

interface Connecting {
  readonly done: (id: number) => void
  readonly fail: (error: StunPeerError) => void
}

/** ConnectionBind: from its success on, the bytes of the connection are the peer's. */
function bindConnection(
  socket: Socket,
  id: number,
  auth: ClientAuth | undefined,
  signal: AbortSignal,
): Promise<void> {
  const stun = new StunClient({ rng: systemRng })
  const path = { remote: { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 } }
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => onClose(), BIND_TIMEOUT)
    const settle = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      socket.off('readable', onReadable).off('error', fail).off('close', onClose)
    }
    const fail = (error: unknown): void => {
      settle()
      socket.on('error', () => undefined).destroy()
      reject(error instanceof Error ? error : new Error(String(error)))
    }
    const onClose = (): void =>
      fail(new TurnPeerError('ERR_NATWORK_TURN_CONNECTION', 'the relay closed the connection to the peer'))
    const onAbort = (): void => fail(abortedError(signal))
    let ended: StunClientEvent | undefined
    const framer = new TurnFramer({
      onMessage: (message) => {
        stun.handleDatagram(systemClock.now(), path, message)
        send()
        ended = stun.pollEvent()
        if (ended !== undefined) framer.stop()
      },
    })
    const send = (): void => {
      for (let next = stun.pollTransmit(); next !== undefined; next = stun.pollTransmit()) {
        socket.write(next.data)
      }
    }
    const onReadable = (): void => {
      for (let chunk: unknown = socket.read(); chunk !== null; chunk = socket.read()) {
        const bytes = chunk as Buffer
        const understood = framer.push(bytes)
        if (ended?.type === 'failed') {
          fail(ended.error)
          return
        }
        if (ended !== undefined) {
          settle()
          // The first bytes of the peer may have come with the answer.
          if (understood < bytes.length) socket.unshift(bytes.subarray(understood))
          resolve()
          return
        }
        if (understood === -1) {
          fail(new TurnPeerError('ERR_NATWORK_TURN_CONNECTION', 'the relay does not speak TURN'))
          return
        }
      }
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('readable', onReadable).once('error', fail).once('close', onClose)
    stun.request(systemClock.now(), {
      method: Method.ConnectionBind,
      path,
      reliable: true,
      understood: understoodInTurn,
      attributes: (builder) => builder.uint32(Attribute.ConnectionId, id),
      ...(auth && { auth }),
    })
    send()
  })
}

/** ms. The relay waits 30 s (RFC 6062 §5.2). */
const BIND_TIMEOUT = 30_000
