import { isIP } from 'node:net'
import { formatAddress, type SocketAddress } from '../../core/address.ts'
import { silentLogger, type Logger } from '../../core/logger.ts'
import { MILLISECOND, type Path } from '../../core/machine.ts'
import { systemRng } from '../../core/ports.ts'
import { UdpEndpoint, type Attachment } from '../../socket/index.ts'
import type { UtpConnection } from '../connection.ts'
import type { UtpEvent } from '../events.ts'
import { UtpMachine, type UtpMachineStats } from '../machine.ts'
import type { UtpLimits } from '../options.ts'
import { addressError, notStartedError, stoppedError } from './errors.ts'
import { UtpStream, type StreamHost } from './stream.ts'

export interface UtpServerOptions {
  /** The address to bind: `0.0.0.0` (all IPv4, the default), `::` (all IPv6 and IPv4) or one of this machine's. */
  readonly host?: string
  /** 0–65535; 0 takes a free one. Default 1315. */
  readonly port?: number
  /**
   * Called with each connection that a peer opened, once the peer has proved that it gets our answers. Without it
   * connections are refused.
   */
  readonly onConnection?: (stream: UtpStream) => void
  /**
   * Whether the peer at the other end of a path is known to be there: a connection from it is handed over with the bytes
   * that came with its SYN, before the peer has proved that it gets our answers. Default: never.
   */
  readonly isVerified?: (path: Path) => boolean
  /** See `UtpMachineOptions.isBelieved`: of a path that is not verified, whether it is believed for one connection. */
  readonly isBelieved?: (path: Path) => boolean
  /** Called when a peer is not heard any more while it should be: its address or this port's own may have changed. */
  readonly onStalled?: () => void
  /** Whether a stream stays writable after its peer ended. Default true, other than in node:net. */
  readonly allowHalfOpen?: boolean
  /** Bounds of memory, and the timeouts and buffers of connections. */
  readonly limits?: UtpLimits
  readonly logger?: Logger
}

export interface UtpConnectOptions {
  /** Gives up connecting; {@link UtpServer.connect} then throws its reason. */
  readonly signal?: AbortSignal
  /** Milliseconds; default 15,000. */
  readonly timeout?: number
  /** Gets the stream at once, while it is connecting: its path may change before it is open. */
  readonly onStream?: (stream: UtpStream) => void
  /**
   * The SYN waits for the first bytes that are written to the stream, and takes them along: a round trip less with a natwork
   * peer that has verified the path. Default false, as other programs may not expect it.
   */
  readonly withData?: boolean
}

/**
 * uTP on one UDP port, both ways: incoming connections and {@link connect} share it, and whatever else speaks there
 * (STUN, hole punching) attaches itself to the {@link endpoint} between `start` and `stop`.
 */
export class UtpServer {
  readonly #options: UtpServerOptions
  readonly #logger: Logger
  /** Bounded by `limits.maxConnections`. */
  readonly #connections = new Map<number, UtpStream>()
  #nextId = 1
  /** Called whenever a connection has closed. One for each {@link end} and {@link stop} under way. */
  readonly #onClosed = new Set<() => void>()
  #running: Running | undefined
  /** start and stop run one after the other, in the order they were called. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: UtpServerOptions = {}) {
    this.#options = options
    this.#logger = options.logger ?? silentLogger
  }

  /**
   * Binds the port. Returns at once when it is bound already; waits for a stop under way first.
   *
   * @throws {SystemError} `ERR_NATWORK_SOCKET_…`: the port cannot be had; nothing is open then.
   */
  start(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#inTurn(() => this.#start(options.signal))
  }

  /**
   * Ends every connection in order: what was written still arrives. After `timeout` ms (default 5,000), or when the
   * peer has everything but does not end its own side, it is reset and closes without `'end'`. Then closes the port. Never throws; a second
   * call waits for the first.
   */
  stop(options: { readonly timeout?: number } = {}): Promise<void> {
    return this.#inTurn(() => this.#stop(options.timeout ?? 5_000))
  }

  /**
   * Ends these connections as {@link stop} does, and leaves the others alone: for what carries them is about to go. After
   * `timeout` ms they are reset.
   */
  async end(streams: Iterable<UtpStream>, { timeout }: { readonly timeout: number }): Promise<void> {
    const meant = new Set(streams)
    await this.#endAll((stream) => meant.has(stream), timeout)
  }

  /**
   * The bound port, for whatever else speaks on it.
   *
   * @throws {UsageError} `ERR_NATWORK_UTP_NOT_STARTED`
   */
  get endpoint(): UdpEndpoint {
    if (this.#running === undefined) throw notStartedError()
    return this.#running.endpoint
  }

  /** What was bound. @throws {UsageError} `ERR_NATWORK_UTP_NOT_STARTED` */
  get address(): SocketAddress {
    return this.endpoint.address
  }

  /** Of all connections together. @throws {UsageError} `ERR_NATWORK_UTP_NOT_STARTED` */
  get stats(): UtpMachineStats {
    if (this.#running === undefined) throw notStartedError()
    return this.#running.machine.stats
  }

  /** Every connection from its birth until its last datagram, by {@link UtpStream.id}. */
  get connections(): ReadonlyMap<number, UtpStream> {
    return this.#connections
  }

  /**
   * Opens a connection to an address, or along a path that something else has opened (a relay, a punched hole);
   * resolves when the peer has answered.
   *
   * @throws {PeerError} `ERR_NATWORK_UTP_REFUSED`, `ERR_NATWORK_UTP_CONNECT_TIMEOUT`
   * @throws {UsageError} `ERR_NATWORK_UTP_NOT_STARTED`; `ERR_NATWORK_UTP_ADDRESS` for a name instead of an address;
   * `ERR_NATWORK_UTP_LIMIT` when there are as many connections as the limits allow.
   * @throws the signal's reason.
   */
  async connect(to: SocketAddress | Path, options: UtpConnectOptions = {}): Promise<UtpStream> {
    const { signal, timeout, onStream, withData = false } = options
    signal?.throwIfAborted()
    const remote = 'remote' in to ? to.remote : to
    if (isIP(remote.address) === 0) throw addressError(remote)
    const running = this.#running
    if (running === undefined) throw notStartedError()
    const { endpoint, machine } = running
    const connection = machine.connect(
      endpoint.now(),
      'remote' in to ? to : endpoint.path(to),
      timeout === undefined ? undefined : { connectTimeout: timeout * MILLISECOND },
      { withData },
    )
    const stream = this.#track(running, connection, 'connecting')
    onStream?.(stream)
    running.wake()
    return connected(running, stream, signal)
  }

  /**
   * Lets every peer that is silent hear from this port, whose public address may have changed: peers go on with a
   * connection at the address it speaks from. Does nothing while not started.
   */
  announce(): void {
    const running = this.#running
    running?.machine.announce(running.endpoint.now())
    running?.wake()
  }

  #inTurn(step: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(step)
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #start(signal: AbortSignal | undefined): Promise<void> {
    if (this.#running !== undefined) return
    const { host = '0.0.0.0', port = 1315, limits = {}, onConnection, isVerified, isBelieved } = this.#options
    const endpoint = await UdpEndpoint.bind({
      host,
      port,
      logger: this.#logger,
      ...(signal !== undefined && { signal }),
    })
    let machine: UtpMachine
    try {
      machine = new UtpMachine({
        accept: onConnection !== undefined,
        socketBuffer: endpoint.recvBufferSize,
        ...limits,
        rng: systemRng,
        ...(isVerified !== undefined && { isVerified }),
        ...(isBelieved !== undefined && { isBelieved }),
      })
    } catch (error) {
      await endpoint.close()
      throw error
    }
    const running: Running = {
      endpoint,
      machine,
      attachment: endpoint.attach(machine, (event) => {
        this.#onEvent(running, event)
      }),
      connecting: new Map(),
      now: () => endpoint.now(),
      wake: () => {
        running.attachment.wake()
      },
    }
    this.#running = running
    this.#logger.info('uTP server started', { address: formatAddress(endpoint.address) })
  }

  async #stop(timeout: number): Promise<void> {
    const running = this.#running
    if (running === undefined) return
    this.#running = undefined
    await this.#endAll(() => true, timeout)
    await running.endpoint.close()
    this.#connections.clear()
    this.#logger.info('uTP server stopped', { address: formatAddress(running.endpoint.address) })
  }

  async #endAll(isMeant: (stream: UtpStream) => boolean, timeout: number): Promise<void> {
    const left = (): UtpStream[] => [...this.#connections.values()].filter(isMeant)
    for (const stream of left()) stream.finish(stoppedError())
    await this.#closing(() => left().length === 0, timeout)
    for (const stream of left()) stream.abandon()
    // What was reset is told to the peers in the drain that follows.
    await new Promise(setImmediate)
  }

  /** Resolves when enough connections have closed, or after `timeout` ms. */
  #closing(isEnough: () => boolean, timeout: number): Promise<void> {
    if (isEnough()) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#onClosed.delete(look)
        resolve()
      }
      const look = (): void => {
        if (isEnough()) done()
      }
      const timer = setTimeout(done, timeout)
      this.#onClosed.add(look)
    })
  }

  #onEvent(running: Running, event: UtpEvent): void {
    const { connection } = event
    if (event.type === 'incoming') {
      this.#onIncoming(running, connection)
      return
    }
    const stream = connection.user
    if (!(stream instanceof UtpStream)) return
    switch (event.type) {
      case 'connected':
        stream.onConnected()
        running.connecting.get(stream)?.()
        break
      case 'readable':
        stream.onReadable()
        break
      case 'writable':
        stream.onWritable()
        break
      case 'ended':
        stream.onEnded()
        break
      case 'stalled':
        this.#options.onStalled?.()
        break
      case 'moved':
        this.#logger.debug('uTP peer has a new address', describe(stream))
        break
      case 'closed':
        connection.user = undefined
        this.#connections.delete(stream.id)
        this.#logger.debug('uTP connection closed', { ...describe(stream), error: event.error?.code })
        stream.onClosed(event.error)
        for (const look of this.#onClosed) look()
    }
  }

  #onIncoming(running: Running, connection: UtpConnection): void {
    const { onConnection } = this.#options
    if (onConnection === undefined || running !== this.#running) {
      connection.reset(running.now())
      running.wake()
      return
    }
    const stream = this.#track(running, connection, 'open')
    this.#logger.debug('uTP connection from a peer', describe(stream))
    onConnection(stream)
  }

  #track(running: Running, connection: UtpConnection, state: 'connecting' | 'open'): UtpStream {
    const stream = new UtpStream(
      this.#nextId++,
      connection,
      running,
      state,
      this.#options.allowHalfOpen ?? true,
    )
    connection.user = stream
    this.#connections.set(stream.id, stream)
    return stream
  }
}

/** What exists between start and stop. */
interface Running extends StreamHost {
  readonly endpoint: UdpEndpoint
  readonly machine: UtpMachine
  readonly attachment: Attachment
  /**
   * Whom to tell that a stream is open. No listener of 'connect': a stream keeps the memory of an event that it was ever
   * asked for. Bounded by `limits.maxConnections`.
   */
  readonly connecting: Map<UtpStream, () => void>
}

function connected(
  { connecting }: Running,
  stream: UtpStream,
  signal: AbortSignal | undefined,
): Promise<UtpStream> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      signal?.removeEventListener('abort', onAbort)
      connecting.delete(stream)
      stream.off('error', onError)
    }
    const onError = (error: Error): void => {
      settle()
      reject(error)
    }
    const onAbort = (): void => {
      // Whatever the reason is, it is what the caller gets; the stream is nobody's.
      stream.off('error', onError).on('error', () => undefined)
      stream.destroy()
      settle()
      const reason: unknown = signal?.reason
      reject(reason instanceof Error ? reason : new Error(String(reason)))
    }
    connecting.set(stream, () => {
      settle()
      resolve(stream)
    })
    stream.once('error', onError)
    signal?.addEventListener('abort', onAbort)
  })
}

function describe(stream: UtpStream): object {
  return {
    id: stream.id,
    remote: formatAddress(stream.connection.path.remote),
    bytesRead: stream.bytesRead,
    bytesWritten: stream.bytesWritten,
  }
}
