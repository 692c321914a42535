import type { Socket } from 'node:net'
import type { SocketAddress } from '../../../core/address.ts'
import type { Logger } from '../../../core/logger.ts'
import type { Micros, Path } from '../../../core/machine.ts'
import { systemClock, systemRng } from '../../../core/ports.ts'
import { StunPeerError, type ClientAuth } from '../../../stun/index.ts'
import { TurnClient, type AllocationRequest, type TurnEvent } from '../../client/index.ts'
import { TurnFramer } from '../../protocol/index.ts'
import { dial, type DialTarget } from './dial.ts'
import type { OnTurnEvent, RelayLink } from './link.ts'

export interface StreamLinkOptions {
  readonly auth: ClientAuth | undefined
  readonly request: AllocationRequest
  readonly onEvent: OnTurnEvent
  readonly onData: (path: Path, bytes: Uint8Array) => void
  readonly logger: Logger
}

/**
 * An allocation over a TCP or TLS connection of its own. When the connection ends it makes another one, ever more
 * slowly, until {@link end}.
 *
 * Datagrams wait here for at most {@link MAX_QUEUED} bytes: beyond, they are dropped as a full router would, and the
 * protocol inside slows down.
 */
export class StreamLink implements RelayLink {
  readonly transport: 'tcp' | 'tls'
  readonly client: TurnClient
  #target: DialTarget
  readonly #onEvent: OnTurnEvent
  readonly #logger: Logger
  #socket: Socket | undefined
  #path: Path
  #timer: NodeJS.Timeout | undefined
  #redial: NodeJS.Timeout | undefined
  #failures = 0
  #redirects = 0
  /** Until there was an allocation, what goes wrong is told, not tried again. */
  #hasAllocation = false
  readonly #ended = new AbortController()
  /** Frames of this turn of the loop, written together. */
  #batch = Buffer.alloc(0)
  #filled = 0
  #flushing = false

  /** @param socket the first connection, made by {@link dial} with this target. */
  constructor(socket: Socket, target: DialTarget, options: StreamLinkOptions) {
    const { auth, request, onEvent, onData, logger } = options
    this.transport = target.tls === undefined ? 'tcp' : 'tls'
    this.#target = target
    this.#onEvent = onEvent
    this.#logger = logger
    this.#path = { remote: remoteOf(socket) }
    this.client = new TurnClient({
      rng: systemRng,
      server: this.#path,
      reliable: true,
      request,
      ...(auth && { auth }),
      output: (_now, frame) => this.#queue(frame),
      input: onData,
    })
    this.#use(socket)
  }

  /** Where data connections go (RFC 6062 §4.3): "the same destination transport address". */
  get target(): DialTarget {
    return this.#target
  }

  get isOver(): boolean {
    return this.#ended.signal.aborted
  }

  now(): Micros {
    return systemClock.now()
  }

  wake(): void {
    this.#drain()
  }

  end(): Promise<void> {
    this.#ended.abort()
    clearTimeout(this.#timer)
    clearTimeout(this.#redial)
    this.#socket?.destroy()
    this.#socket = undefined
    return Promise.resolve()
  }

  #use(socket: Socket): void {
    this.#socket = socket
    this.#path = { remote: remoteOf(socket) }
    const framer = new TurnFramer({
      onMessage: (message) => this.client.handleDatagram(systemClock.now(), this.#path, message),
    })
    let failure: Error | undefined
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => {
      if (framer.push(chunk) === -1) socket.destroy(new Error('the peer does not speak TURN'))
      this.#drain()
    })
    socket.on('error', (error) => {
      failure = error
    })
    // The relay ends the connection with the allocation: there is nothing left to be said.
    socket.on('end', () => socket.destroy())
    socket.on('close', () => {
      if (this.#socket === socket) this.#lost(failure)
    })
  }

  #lost(cause: Error | undefined): void {
    this.#socket = undefined
    if (this.#ended.signal.aborted) return
    this.client.disconnected(systemClock.now(), cause)
    this.#drain()
    this.#dialLater()
  }

  #dialLater(): void {
    if (this.#ended.signal.aborted || this.#redial !== undefined) return
    const pause = Math.min(FIRST_PAUSE * 2 ** this.#failures, MAX_PAUSE)
    this.#redial = setTimeout(() => {
      this.#redial = undefined
      void this.#dial()
    }, pause)
  }

  async #dial(): Promise<void> {
    try {
      const socket = await dial(this.#target, this.#ended.signal)
      this.#use(socket)
      this.#failures = 0
      this.client.connected(systemClock.now(), this.#path)
      this.#drain()
    } catch (error) {
      if (this.#ended.signal.aborted) return
      this.#failures++
      if (!this.#hasAllocation) this.#fail(error)
      this.#logger.debug('no connection to the relay yet', {
        host: this.#target.host,
        error: error instanceof Error ? error.message : String(error),
      })
      this.#dialLater()
    }
  }

  #drain(): void {
    const { client } = this
    for (let next = client.pollTransmit(); next !== undefined; next = client.pollTransmit()) {
      this.#flush()
      this.#socket?.write(next.data)
    }
    for (let event = client.pollEvent(); event !== undefined; event = client.pollEvent()) {
      this.#handle(event)
    }
    clearTimeout(this.#timer)
    const deadline = client.pollTimeout()
    if (deadline === undefined || this.#ended.signal.aborted) return
    const wait = Math.ceil((deadline.at - systemClock.now()) / 1_000)
    this.#timer = setTimeout(this.#onTimer, Math.min(Math.max(1, wait), 0x7fffffff))
  }

  readonly #onTimer = (): void => {
    this.client.handleTimeout(systemClock.now())
    this.#drain()
  }

  #handle(event: TurnEvent): void {
    if (event.type === 'silent') {
      // A dead connection: its end would be noticed minutes from now.
      this.#socket?.destroy(event.error)
    } else if (event.type === 'redirected') {
      this.#redirect(event.alternate, event.domain)
      return
    } else if (event.type === 'allocated' || event.type === 'renewed') {
      this.#redirects = 0
      this.#hasAllocation = true
    }
    this.#onEvent(event)
  }

  #fail(cause: unknown): void {
    const error =
      cause instanceof StunPeerError
        ? cause
        : new StunPeerError(
            'ERR_NATWORK_STUN_REDIRECT',
            'the TURN server sends us to one that cannot be reached',
            {
              cause,
            },
          )
    this.#onEvent({ type: 'failed', error, retryAfter: 0 })
  }

  #redirect(address: SocketAddress, domain: string | undefined): void {
    const before = this.#socket
    this.#socket = undefined
    before?.destroy()
    if (++this.#redirects > MAX_REDIRECTS) {
      if (!this.#hasAllocation) {
        this.#fail(new Error('they send us in a circle'))
        return
      }
      this.#failures = Math.max(this.#failures, MAX_REDIRECTS)
      this.#redirects = 0
      this.#dialLater()
      return
    }
    const { proxy, host } = this.#target
    this.#target = {
      ...this.#target,
      host: proxy !== undefined && domain === undefined ? address.address : (domain ?? host),
      port: address.port,
      address: proxy === undefined ? address : undefined,
    }
    void this.#dial()
  }

  /** Takes a frame for this turn of the loop; {@link #flush} at its end. */
  #queue(frame: Uint8Array): boolean {
    const socket = this.#socket
    if (socket === undefined || socket.writableLength + this.#filled > MAX_QUEUED) return false
    if (this.#filled + frame.length > this.#batch.length) {
      this.#flush()
      // The socket may hold on to a batch for as long as it takes: each is written to once.
      this.#batch = Buffer.allocUnsafeSlow(Math.max(BATCH, frame.length))
    }
    this.#batch.set(frame, this.#filled)
    this.#filled += frame.length
    if (!this.#flushing) {
      this.#flushing = true
      process.nextTick(this.#onFlush)
    }
    return true
  }

  readonly #onFlush = (): void => {
    this.#flushing = false
    this.#flush()
  }

  #flush(): void {
    if (this.#filled === 0) return
    this.#socket?.write(this.#batch.subarray(0, this.#filled))
    this.#batch = this.#batch.subarray(this.#filled)
    this.#filled = 0
  }
}

/** Bytes that wait for the socket: 20 ms of 50 Mbit/s. What waits longer is only delay. */
const MAX_QUEUED = 131_072
const BATCH = 65_536
/** ms between attempts to connect again. */
const FIRST_PAUSE = 500
const MAX_PAUSE = 30_000
const MAX_REDIRECTS = 5

function remoteOf(socket: Socket): SocketAddress {
  return { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 }
}
