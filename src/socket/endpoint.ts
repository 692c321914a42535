import { isIP } from 'node:net'
// The global of that name is a getter.
import { nextTick } from 'node:process'
import { formatAddress, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { silentLogger, type Logger } from '../core/logger.ts'
import { SECOND, type Machine, type Micros, type Path, type Transmit } from '../core/machine.ts'
import { beforeNat64, throughNat64, type Nat64Prefix } from '../core/nat64.ts'
import { systemClock } from '../core/ports.ts'
import type { Driver } from './driver.ts'
import { bindDriver, type DriverChoice } from './drivers.ts'
import { closedError } from './errors.ts'
import { adoptNative } from './native.ts'
import { unmapped } from './paths.ts'

export interface UdpEndpointOptions {
  /** An IP literal of this machine. `0.0.0.0`: all IPv4; `::`: all IPv6 and IPv4. */
  readonly host: string
  /** 0–65535; 0 takes a free one. */
  readonly port: number
  /** Gives up binding; {@link UdpEndpoint.bind} then throws its reason. */
  readonly signal?: AbortSignal
  /** Bytes to ask the kernel for; default 4 MiB. It may grant less: {@link UdpEndpoint.recvBufferSize}. */
  readonly recvBufferSize?: number
  /** Default: what {@link setDefaultDriver} was given, else `auto`. */
  readonly driver?: DriverChoice
  /**
   * Shares the port with other endpoints (of other threads or processes) that ask for it too: the kernel gives each
   * remote address to one of them. Default false. Needs the native driver, or Node.js 22.12.
   */
  readonly reusePort?: boolean
  /** The sockets of this port, bound by the parent process: see {@link HeldPort}. Nothing is bound then. */
  readonly inherited?: readonly number[]
  readonly logger?: Logger
}

/** Since the bind. */
export interface EndpointCounters {
  readonly datagramsReceived: number
  readonly datagramsSent: number
  readonly bytesReceived: number
  readonly bytesSent: number
  /** Datagrams that no machine owned: dropped. */
  readonly unmatched: number
  /** Datagrams the kernel refused to send. */
  readonly sendErrors: number
  readonly receiveErrors: number
  /** Exceptions thrown by machines: defects of natwork, logged. */
  readonly faults: number
}

/** A machine's place on the endpoint. */
export interface Attachment {
  /** Call after every mutation made from outside: the machine is drained before the current turn of the loop ends. */
  wake(): void
  /** The machine is asked and drained no more. Its pending datagrams and events are not taken. */
  detach(): void
}

/**
 * ONE UDP port, and the machines that speak on it. Each datagram is offered to the machines in the order of their
 * attachment until one owns it; what nobody owns is counted and dropped.
 *
 * Draining: the machines are drained together. A lone datagram is told and answered at once; in bulk the answers wait for
 * the end of the loop's turn, so that one acknowledgement speaks for many datagrams. Everything the application
 * changes in one go ({@link Attachment.wake}) leaves together right after it.
 *
 * Exceptions: what an `onEvent` handler throws becomes an `uncaughtException` of its own, as with any event emitter,
 * and the drain goes on. What a machine throws is a defect of natwork that a stranger may have found a way to: it is
 * logged and counted, the datagram is dropped, the machine rests for a second, and the process lives on.
 */
export class UdpEndpoint {
  readonly address: SocketAddress
  /**
   * Bytes of datagrams (with the kernel's own overhead, 0.6–2 KB for each) that may wait for us before the kernel drops them, per address
   * family. Protocols bound the sum of their receive windows by it.
   */
  readonly recvBufferSize: number
  /** Which driver moves the datagrams, for people to read. */
  readonly driver: string
  /** Of a machine without IPv4 whose network has NAT64 (RFC 6146): how IPv4 hosts are reached. Set by whoever knows. */
  nat64: Nat64Prefix | undefined

  readonly #driver: Driver
  readonly #logger: Logger
  /** In order of attachment; replaced, never changed, so that a loop over it stays whole. */
  #machines: readonly Attached[] = []
  readonly #counters = {
    datagramsReceived: 0,
    datagramsSent: 0,
    bytesReceived: 0,
    bytesSent: 0,
    unmatched: 0,
    sendErrors: 0,
    receiveErrors: 0,
    faults: 0,
  }

  #lastPath: Path | undefined
  /** A datagram is being offered to the machines. */
  #offering = false
  /** Datagrams since the last drain. */
  #fresh = 0
  #draining = false
  #drainAgain = false
  #wakeScheduled = false
  #immediate: NodeJS.Immediate | undefined
  /** The kernel's queue is full: no transmits until the driver says so. */
  #blocked = false
  #timer: NodeJS.Timeout | undefined
  #timerAt: Micros = Infinity
  /** The loop was held up: what waits in the socket is read before anything is late. */
  #catchingUp = false
  #closed = false

  /**
   * Binds the port.
   *
   * @throws {UsageError} `ERR_NATWORK_SOCKET_ADDRESS` when host is no IP literal or port no number of 0–65535.
   * @throws {SystemError} `ERR_NATWORK_SOCKET_IN_USE`, `…_PERMISSION`, `…_NOT_AVAILABLE`, `…_BIND`;
   * `…_DRIVER` when the driver asked for cannot be had.
   */
  static async bind(options: UdpEndpointOptions): Promise<UdpEndpoint> {
    const { host, port, signal, logger = silentLogger } = options
    if (isIP(host) === 0 || !Number.isInteger(port) || port < 0 || port > 65535) {
      throw new UsageError(
        'ERR_NATWORK_SOCKET_ADDRESS',
        `cannot bind "${host}" port ${port}: give an IP address such as 0.0.0.0 or ::, and a port of 0–65535`,
      )
    }
    signal?.throwIfAborted()
    if (options.inherited !== undefined) return new UdpEndpoint(adoptNative(host, options.inherited), logger)
    const driver = await bindDriver({ address: host, port }, options.driver, {
      recvBufferSize: options.recvBufferSize ?? 4 * 1024 * 1024,
      reusePort: options.reusePort ?? false,
    })
    if (signal?.aborted === true) {
      await driver.close()
      signal.throwIfAborted()
    }
    return new UdpEndpoint(driver, logger)
  }

  private constructor(driver: Driver, logger: Logger) {
    this.address = driver.address
    this.recvBufferSize = driver.recvBufferSize
    this.driver = driver.name
    this.#driver = driver
    this.#logger = logger
    driver.start({
      onDatagram: (path, bytes) => {
        this.#onDatagram(path, bytes)
      },
      onBatchEnd: () => {
        this.#drain()
      },
      onWritable: () => {
        this.#blocked = false
        this.#drain()
      },
      onSendError: (transmit, error) => {
        this.#counters.sendErrors++
        this.#debugSparsely(this.#counters.sendErrors, 'a datagram could not be sent', transmit.path, error)
      },
      onReceiveError: (error) => {
        this.#counters.receiveErrors++
        this.#debugSparsely(this.#counters.receiveErrors, 'a receive failed', undefined, error)
      },
    })
    logger.debug('udp endpoint bound', {
      address: formatAddress(this.address),
      driver: driver.name,
      recvBufferSize: driver.recvBufferSize,
    })
  }

  /** Microseconds on the clock that the attached machines live by. */
  now(): Micros {
    return systemClock.now()
  }

  get counters(): EndpointCounters {
    return { ...this.#counters }
  }

  get closed(): boolean {
    return this.#closed
  }

  /**
   * The way to `remote` from this port. IPv4-mapped IPv6 addresses become IPv4, as datagrams from there have it; IPv4 ones
   * what leads there through {@link nat64}.
   */
  path(remote: SocketAddress): Path {
    const { address, port } = throughNat64(this.nat64, unmapped(remote))
    const last = this.#lastPath
    // One object for all connections to a host.
    if (last?.remote.port === port && last.remote.address === address) return last
    return (this.#lastPath = { remote: { address, port } })
  }

  /** Who is at the far end of a path, as others know that host: the inverse of {@link path}. */
  hostAt(remote: SocketAddress): SocketAddress {
    return beforeNat64(this.nat64, remote)
  }

  /**
   * Sends one datagram at once, past the machines: for what is handed on from another socket and has waited there
   * already. Call {@link flush} when there is no more for now.
   *
   * @returns false when the kernel takes no more, and then the datagram has not been taken.
   */
  forward(transmit: Transmit): boolean {
    if (this.#blocked || this.#closed) return false
    this.#counters.datagramsSent++
    this.#counters.bytesSent += transmit.data.byteLength
    this.#blocked = !this.#driver.send(transmit)
    return true
  }

  /** Hands to the kernel what {@link forward} took. */
  flush(): void {
    this.#driver.flush()
  }

  /**
   * Gives a machine its place behind those attached before, and drains it.
   *
   * @throws {UsageError} `ERR_NATWORK_SOCKET_CLOSED`
   */
  attach<Event>(machine: Machine<Event>, onEvent: (event: Event) => void): Attachment {
    if (this.#closed) throw closedError()
    const attached: Attached = {
      machine,
      deadline: Infinity,
      restUntil: 0,
      detached: false,
      pumpEvents: () => {
        let event: Event | undefined
        while (!attached.detached && (event = machine.pollEvent()) !== undefined) {
          try {
            onEvent(event)
          } catch (error) {
            throwOutside(error)
          }
        }
      },
    }
    this.#machines = [...this.#machines, attached]
    this.#wake()
    return {
      wake: () => {
        this.#wake()
      },
      detach: () => {
        attached.detached = true
        this.#machines = this.#machines.filter((other) => other !== attached)
      },
    }
  }

  /**
   * A datagram that a {@link Carrier} received for this port: offered to the machines as if the socket had got it.
   * `bytes` is the caller's again when this returns.
   */
  deliver(path: Path, bytes: Uint8Array): void {
    if (this.#closed) return
    // What came inside another datagram is answered when that one is.
    const isInside = this.#offering
    this.#onDatagram(path, bytes)
    if (!isInside) this.#wake()
  }

  /**
   * For a {@link Carrier}: sends one datagram by the socket at once, in front of what machines still have to send. It is
   * dropped when the kernel's queue is full, as a network would. Call it inside {@link Carrier.send}, or wake afterwards.
   *
   * @returns false when it was dropped.
   */
  send(transmit: Transmit): boolean {
    if (this.#closed || this.#blocked) return false
    this.#counters.datagramsSent++
    this.#counters.bytesSent += transmit.data.byteLength
    this.#blocked = !this.#driver.send(transmit)
    return true
  }

  /** Ends at once: machines are detached, nothing more is sent or received. Idempotent. Resolves when the port is free. */
  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true
      for (const attached of this.#machines) attached.detached = true
      this.#machines = []
      clearTimeout(this.#timer)
      clearImmediate(this.#immediate)
      this.#logger.debug('udp endpoint closed', this.#counters)
    }
    return this.#driver.close()
  }

  #onDatagram(path: Path, bytes: Uint8Array): void {
    const counters = this.#counters
    counters.datagramsReceived++
    counters.bytesReceived += bytes.byteLength
    const now = systemClock.now()
    const isInside = this.#offering
    this.#fresh++
    this.#offering = true
    if (!this.#isTaken(now, path, bytes)) counters.unmatched++
    this.#offering = isInside
  }

  #isTaken(now: Micros, path: Path, bytes: Uint8Array): boolean {
    for (const attached of this.#machines) {
      try {
        if (attached.machine.handleDatagram(now, path, bytes)) return true
      } catch (error) {
        this.#fault(attached, now, error)
        return true
      }
    }
    return false
  }

  #wake(): void {
    if (this.#draining) {
      this.#drainAgain = true
    } else if (!this.#wakeScheduled && !this.#closed) {
      this.#wakeScheduled = true
      nextTick(this.#onWake)
    }
  }

  readonly #onWake = (): void => {
    this.#wakeScheduled = false
    this.#drain()
  }

  #drain(): void {
    if (this.#draining || this.#closed) return
    this.#draining = true
    let budget = SEND_BURST
    let rounds = 0
    // What the application answers to a lone message goes in one packet with its acknowledgement.
    if (this.#fresh === 1) this.#tell()
    this.#fresh = 0
    do {
      budget = this.#drainRound(budget)
    } while (this.#drainAgain && budget > 0 && ++rounds < MAX_ROUNDS)
    this.#draining = false
    // Long sends let the loop receive in between: acknowledgements, and everybody else's datagrams.
    if (budget <= 0 || this.#drainAgain) this.#immediate ??= setImmediate(this.#onImmediate)
    this.#armTimer()
  }

  #tell(): void {
    for (const attached of this.#machines) {
      if (attached.restUntil > 0 && systemClock.now() < attached.restUntil) continue
      try {
        attached.pumpEvents()
      } catch (error) {
        this.#fault(attached, systemClock.now(), error)
      }
    }
  }

  #drainRound(budget: number): number {
    this.#drainAgain = false
    const now = systemClock.now()
    if (now > this.#timerAt + HELD_UP) this.#catchUp()
    for (const attached of this.#machines) {
      if (now < attached.restUntil) continue
      try {
        if (attached.deadline <= now && !this.#catchingUp) attached.machine.handleTimeout(now)
        budget = this.#transmit(now, attached.machine, budget)
        this.#driver.flush()
        attached.pumpEvents()
        attached.deadline = attached.machine.pollTimeout()?.at ?? Infinity
        // Due by what came just now: a timer would be a millisecond or more late.
        if (attached.deadline <= now && !this.#catchingUp) this.#drainAgain = true
      } catch (error) {
        this.#fault(attached, now, error)
      }
    }
    // What carriers sent by the way, after the last machine had its turn.
    this.#driver.flush()
    return budget
  }

  readonly #onImmediate = (): void => {
    this.#immediate = undefined
    this.#catchingUp = false
    this.#drain()
  }

  // After a long computation, a starved processor or a sleep, node runs timers before it reads sockets: answers that came
  // in time would be late, and all that is unanswered would be sent again. Immediates run after the sockets.
  #catchUp(): void {
    this.#catchingUp = true
    clearTimeout(this.#timer)
    this.#timerAt = Infinity
    this.#immediate ??= setImmediate(this.#onImmediate)
  }

  #transmit(since: Micros, machine: Machine<unknown>, budget: number): number {
    let now = since
    while (!this.#blocked && budget > 0) {
      const transmit: Transmit | undefined = machine.pollTransmit(now)
      if (transmit === undefined) break
      // Packets carry the time they leave at; a stale one would look like delay on the path.
      if ((--budget & 7) === 0) now = systemClock.now()
      if (transmit.path.via !== undefined) {
        transmit.path.via.send(now, transmit)
        continue
      }
      this.send(transmit)
    }
    return budget
  }

  // One timer for the earliest deadline. Node's have a grain of 1 ms and may fire a little early: rounding up keeps a
  // deadline below a millisecond away from a busy loop, and whatever is due is also done whenever a datagram comes.
  // A timer that is set for earlier than needed stays: firing in vain is cheaper than being set anew for each packet.
  #armTimer(): void {
    if (this.#closed || this.#catchingUp) return
    let earliest = Infinity
    for (const { deadline, restUntil } of this.#machines) {
      earliest = Math.min(earliest, Math.max(deadline, restUntil))
    }
    if (earliest >= this.#timerAt) return
    clearTimeout(this.#timer)
    this.#timerAt = earliest
    const wait = Math.ceil((earliest - systemClock.now()) / 1_000)
    this.#timer = setTimeout(this.#onTimer, Math.min(Math.max(wait, 1), MAX_TIMEOUT))
  }

  readonly #onTimer = (): void => {
    if (systemClock.now() > this.#timerAt + HELD_UP) this.#catchUp()
    this.#timerAt = Infinity
    this.#drain()
  }

  #fault(attached: Attached, now: Micros, error: unknown): void {
    const count = ++this.#counters.faults
    attached.restUntil = now + SECOND
    attached.deadline = attached.restUntil
    if (isPowerOfTwo(count)) {
      this.#logger.error('defect in natwork: a protocol machine threw; please report this', { error, count })
    }
  }

  // A stranger must not be able to fill the log: the 1st, 2nd, 4th, 8th … is written.
  #debugSparsely(count: number, text: string, path: Path | undefined, error: Error): void {
    if (!isPowerOfTwo(count)) return
    this.#logger.debug(text, {
      ...(path !== undefined && { remote: formatAddress(path.remote) }),
      error: error.message,
      count,
    })
  }
}

interface Attached {
  readonly machine: Machine<unknown>
  readonly pumpEvents: () => void
  deadline: Micros
  /** After a fault: not asked for transmits, events and timeouts before. */
  restUntil: Micros
  detached: boolean
}

/** Datagrams sent before the loop gets its turn: about a millisecond of work. */
const SEND_BURST = 256
/** Drains that one drain's events may ask for before the loop gets its turn. */
const MAX_ROUNDS = 64
/** A timer that fires so much later, µs, was held up by something else than the grain of timers. */
const HELD_UP = 10_000
/** The longest setTimeout, ms. */
const MAX_TIMEOUT = 0x7fffffff

function throwOutside(error: unknown): void {
  nextTick(() => {
    throw error
  })
}

function isPowerOfTwo(count: number): boolean {
  return (count & (count - 1)) === 0
}
