import {
  samePath,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../core/machine.ts'
import type { Rng } from '../core/ports.ts'
import { Acceptor, type AcceptorHost } from './acceptor.ts'
import { BlockPool } from './block-pool.ts'
import { UtpConnection, type ConnectionHost, type ConnectionStart } from './connection.ts'
import { Deadlines } from './deadlines.ts'
import { utpUsageError } from './errors.ts'
import type { UtpEvent } from './events.ts'
import { FlightPool } from './flight.ts'
import type { HalfOpen } from './half-open.ts'
import { IdTable } from './id-table.ts'
import {
  connectionSettings,
  DEFAULT_SETTINGS,
  machineLimits,
  type ConnectionSettings,
  type MachineLimits,
  type UtpConnectionOptions,
  type UtpLimits,
} from './options.ts'
import { HEADER_SIZE, Packet, parsePacket, ST_RESET, ST_SYN, stamp, writeHeader } from './packet.ts'
import { PathTable } from './path-table.ts'
import { FIRST_WINDOW, ReceiveBudget } from './receive-window.ts'
import { ResetLimiter } from './reset-limiter.ts'
import { Scratch } from './scratch.ts'

export interface UtpMachineOptions extends UtpLimits {
  readonly rng: Rng
  /**
   * Whether the peer at the other end of a path is known to be there, so that an address in a SYN is not invented: what came
   * with the SYN is taken then, a round trip sooner. Default: never.
   */
  readonly isVerified?: (path: Path) => boolean
  /**
   * Whether to take what comes with a SYN by a path that is not verified: somebody vouches for it, such as a password that came
   * by the same path. Asked once for each; until the initiator is heard, what the application says goes to an address that may
   * be invented. Default: never.
   */
  readonly isBelieved?: (path: Path) => boolean
}

/** Answers that belong to no connection (to SYNs, and RESETs) and wait to be sent; more are dropped. */
const MAX_ANSWERS = 1_024
/** A connection takes datagrams from its path and the few before it. */
const MAX_PATHS = 4

/**
 * Datagrams that a connection sends before the next one's turn. More spare the processor's cache on both sides (10 % of
 * the time with 200 connections), fewer let a lone message pass the others' bulk sooner.
 */
const TURN = 4

export interface UtpMachineStats {
  /** Connections, lingering ones included. */
  readonly connections: number
  readonly halfOpen: number
  /** Received bytes that wait to be read or put in order. */
  readonly receiveBytes: number
  readonly resetsSent: number
  /** Datagrams that look like uTP and belong to nothing. */
  readonly unknown: number
}

/**
 * All uTP connections of one socket: finds the connection a datagram is for, answers SYNs, refuses strangers, lets the
 * connections send in turn, and knows the earliest of their deadlines. See `Machine` for how it is driven.
 */
export class UtpMachine implements Machine<UtpEvent> {
  readonly #rng: Rng
  readonly #isVerified: (path: Path) => boolean
  readonly #isBelieved: (path: Path) => boolean
  readonly #limits: MachineLimits
  readonly #settings: ConnectionSettings
  readonly #connections = new PathTable<UtpConnection>()
  /** By the id they receive with alone, for peers that come from a new address. Bounded by `maxConnections`. */
  readonly #byId = new IdTable()
  readonly #acceptor: Acceptor
  readonly #resets: ResetLimiter
  readonly #deadlines = new Deadlines<UtpConnection>()
  readonly #budget: ReceiveBudget
  readonly #host: ConnectionHost
  readonly #packet = new Packet()
  /** Bounded by a few for each connection: an event is told once until the application acts on it. */
  readonly #events: (UtpEvent | undefined)[] = []
  #nextEvent = 0
  #eventCount = 0
  /** Bounded by {@link MAX_ANSWERS}. */
  #answers: Transmit[] = []
  #nextAnswer = 0
  /** The round of connections that may have something to send: a list through the connections themselves. */
  #firstActive: UtpConnection | undefined
  #lastActive: UtpConnection | undefined
  /** Datagrams that the first of them has sent in its turn. */
  #turn = 0
  #count = 0
  #resetsSent = 0
  #unknown = 0

  /** @throws {UsageError} `ERR_NATWORK_UTP_LIMIT` for a limit out of its range. */
  constructor(options: UtpMachineOptions) {
    this.#rng = options.rng
    this.#isVerified = options.isVerified ?? (() => false)
    this.#isBelieved = options.isBelieved ?? (() => false)
    this.#limits = machineLimits(options)
    this.#settings = connectionSettings(options.connection, DEFAULT_SETTINGS)
    this.#acceptor = new Acceptor(this.#acceptorHost(), this.#limits.maxHalfOpen)
    this.#resets = new ResetLimiter(this.#limits.maxResetsPerSecond)
    this.#budget = new ReceiveBudget(this.#limits.receiveBudget, this.#limits.socketBuffer)
    const scratch = new Scratch()
    this.#host = {
      budget: this.#budget,
      scratch,
      flights: new FlightPool(scratch, new BlockPool()),
      emit: (event) => this.#emit(event),
      touch: (connection) => this.#touch(connection),
      rebind: (connection, before) => {
        this.#rebind(connection, before)
      },
      sendReset: (now, connection, data) => {
        const { path, receiveId } = connection
        this.#resets.told(now, path, receiveId)
        this.#answer({ path, data })
      },
      forget: (connection) => this.#forget(connection),
    }
  }

  get stats(): UtpMachineStats {
    return {
      connections: this.#count,
      halfOpen: this.#acceptor.size,
      receiveBytes: this.#budget.used,
      resetsSent: this.#resetsSent,
      unknown: this.#unknown,
    }
  }

  /**
   * Starts a connection. `connected` or `closed` follows. `withData`: the SYN leaves with the first bytes written, up to
   * 1,170, and a datagram with as many right behind it, which a peer that has verified the path takes in at once (see
   * {@link UtpMachineOptions.isVerified}); for peers of this make alone, as others may choke on it.
   *
   * @throws {UsageError} `ERR_NATWORK_UTP_LIMIT` when there are `maxConnections`, no free connection id towards this peer,
   *   or an option is out of its range.
   */
  connect(
    now: Micros,
    path: Path,
    options?: UtpConnectionOptions,
    { withData = false }: { readonly withData?: boolean } = {},
  ): UtpConnection {
    const settings = connectionSettings(options, this.#settings)
    if (this.#count >= this.#limits.maxConnections) {
      throw utpUsageError('ERR_NATWORK_UTP_LIMIT', `There are ${this.#count} connections, as many as allowed`)
    }
    const receiveId = this.#freeId(path)
    // BEP 29 begins with sequence number 1; libutp with a random one, which is harder to forge into.
    const sequence = this.#rng.uint32() & 0xffff
    return this.#add(now, settings, {
      path,
      receiveId,
      sendId: (receiveId + 1) & 0xffff,
      sequence,
      ack: -1,
      reorderLimit: 0,
      withData,
    })
  }

  /**
   * Lets every peer hear from us that has been silent for a second: our own address may have changed, and who only
   * listens would not notice.
   */
  announce(now: Micros): void {
    for (const connection of this.#byId) if (connection.isSilent(now)) connection.announce()
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const packet = this.#packet
    if (!parsePacket(bytes, packet)) return false
    if (packet.type === ST_RESET) return this.#handleReset(now, path)
    if (packet.type === ST_SYN) {
      this.#acceptor.handleSyn(now, path, packet, bytes)
      return true
    }
    const connection = this.#connections.find(path, packet.connectionId) ?? this.#establish(now, path)
    if (connection === undefined) return true
    if (connection.beganWith !== undefined) this.#acceptor.answered(connection)
    const wasConnecting = connection.state === 'connecting'
    connection.handlePacket(now, path, packet, bytes)
    if (wasConnecting)
      for (const early of connection.takeEarly()) this.handleDatagram(now, connection.path, early)
    return true
  }

  handleTimeout(now: Micros): void {
    const deadlines = this.#deadlines
    for (let next = deadlines.first(); next !== undefined && next.heapAt <= now; next = deadlines.first()) {
      deadlines.remove(next)
      if (next.deadline <= now) next.handleTimeout(now)
      // Either way it comes back with its true deadline.
      if (next.state !== 'closed') deadlines.update(next, next.deadline)
    }
  }

  pollTransmit(now: Micros): Transmit | undefined {
    const answer = this.#answers[this.#nextAnswer]
    if (answer !== undefined) {
      if (++this.#nextAnswer === this.#answers.length) {
        this.#answers = []
        this.#nextAnswer = 0
      }
      return answer
    }
    for (let connection = this.#firstActive; connection !== undefined; connection = this.#firstActive) {
      this.#firstActive = connection.nextActive
      if (this.#firstActive === undefined) this.#lastActive = undefined
      connection.nextActive = undefined
      connection.isActive = false
      const transmit = connection.pollTransmit(now)
      if (transmit !== undefined) {
        if (++this.#turn < TURN) this.#activateFirst(connection)
        else this.#endTurn(connection)
        return transmit
      }
      this.#turn = 0
      if (connection.state !== 'closed') this.#deadlines.update(connection, connection.deadline)
    }
    return undefined
  }

  pollEvent(): UtpEvent | undefined {
    if (this.#nextEvent === this.#eventCount) return undefined
    const event = this.#events[this.#nextEvent]
    this.#events[this.#nextEvent] = undefined
    if (++this.#nextEvent === this.#eventCount) this.#nextEvent = this.#eventCount = 0
    return event
  }

  pollTimeout(): Deadline | undefined {
    const first = this.#deadlines.first()
    if (first === undefined) return undefined
    return { at: first.heapAt, reason: first.deadlineReason }
  }

  #acceptorHost(): AcceptorHost {
    return {
      rng: this.#rng,
      isVerified: this.#isVerified,
      isBelieved: this.#isBelieved,
      hasRoom: () => this.#limits.accept && this.#count < this.#limits.maxConnections,
      firstWindow: () => Math.min(this.#settings.receiveBuffer, FIRST_WINDOW, this.#budget.share(0)),
      find: (path, receiveId) => this.#connections.find(path, receiveId),
      findAnywhere: (receiveId, fits) => this.#byId.find(receiveId, fits),
      accept: (now, path, entry) => this.#accept(now, path, entry),
      move: (now, connection, path) => {
        this.#move(now, connection, path)
      },
      answer: (transmit) => {
        this.#answer(transmit)
      },
      refuse: (now, path) => {
        this.#sendReset(now, path)
      },
    }
  }

  #emit(event: UtpEvent): void {
    // The places are used again: cutting the array short costs more than all the rest of an event.
    this.#events[this.#eventCount++] = event
  }

  /** A packet for no connection. It makes one when it completes a handshake; only then does the application hear of it. */
  #establish(now: Micros, path: Path): UtpConnection | undefined {
    const entry = this.#acceptor.take(now, path, this.#packet)
    if (entry === undefined) return this.#follow(now, path)
    if (this.#count >= this.#limits.maxConnections) {
      this.#sendReset(now, path)
      return undefined
    }
    return this.#accept(now, path, entry)
  }

  #accept(now: Micros, path: Path, entry: HalfOpen): UtpConnection {
    const connection = this.#add(now, this.#settings, {
      path,
      receiveId: (entry.connectionId + 1) & 0xffff,
      sendId: entry.connectionId,
      sequence: entry.ours,
      ack: entry.sequence,
      reorderLimit: entry.reorderLimit,
    })
    this.#emit({ type: 'incoming', connection })
    return connection
  }

  /**
   * A packet from nowhere that fits into a connection: its peer's address has changed, as when a NAT restarts. The
   * connection goes with it once its known path has been silent: who would divert it must guess the id, the ack and the
   * sequence number of one that says nothing, which is no easier than to forge its data. Sooner the packet is dropped,
   * without the RESET that would end the connection at the peer. The peer's other connections come from the same socket:
   * they go along, as far as they are silent too. Between carriers nothing moves by itself: who made them says when. One
   * that came in and that nobody leads yet goes at once with an initiator that has moved to a path which is known to be true.
   */
  #follow(now: Micros, path: Path): UtpConnection | undefined {
    const packet = this.#packet
    const connection = this.#byId.find(packet.connectionId, (one) => one.recognises(packet))
    const mayMove = path.via === undefined && connection?.path.via === undefined
    if (mayMove && connection?.isSilent(now)) {
      const before = connection.path
      for (const one of this.#byId) {
        if (one.isSilent(now) && samePath(one.path, before)) this.#move(now, one, path)
      }
      return connection
    }
    const unled = this.#byId.find(packet.connectionId, (one) => one.isLedBy(packet))
    if (unled !== undefined && this.#isVerified(path)) {
      this.#move(now, unled, path)
      return unled
    }
    // The acceptor of one that still connects may have found another path than that of the SYN.
    const connecting = this.#byId.find(packet.connectionId, ({ state }) => state === 'connecting')
    if (connecting?.isAnsweredBy(packet) === true) return connecting
    // A handshake here waits for its proof, and this, which is none, is no reason to end it.
    if (this.#acceptor.isWaiting(now, path, packet)) return undefined
    this.#unknown++
    if (connection === undefined && connecting === undefined) this.#sendReset(now, path)
    return undefined
  }

  #move(now: Micros, connection: UtpConnection, path: Path): void {
    connection.moveTo(now, path)
    this.#emit({ type: 'moved', connection })
  }

  /**
   * The id of a RESET is that of the packet it answers (what the receiver of the RESET sends with), or the one the
   * receiver takes packets with: libutp looks for all of them, because the initiator sends with its id + 1, the acceptor
   * with its id − 1.
   */
  #handleReset(now: Micros, path: Path): boolean {
    const packet = this.#packet
    const id = packet.connectionId
    const table = this.#connections
    const connection =
      table.find(path, id) ??
      sendingWith(table.find(path, (id + 1) & 0xffff), id) ??
      sendingWith(table.find(path, (id - 1) & 0xffff), id)
    if (connection === undefined) return false
    connection.handleReset(now, path, packet)
    return true
  }

  /** In answer to the current packet. Never to a RESET (those do not come here), and not often. */
  #sendReset(now: Micros, path: Path): void {
    const packet = this.#packet
    if (!this.#resets.take(now, path, packet.connectionId)) return
    const data = new Uint8Array(HEADER_SIZE)
    writeHeader(data, ST_RESET, 0, packet.connectionId, this.#rng.uint32() & 0xffff)
    stamp(data, now, 0, 0, packet.sequence)
    this.#resetsSent++
    this.#answer({ path, data })
  }

  #answer(transmit: Transmit): void {
    if (this.#answers.length - this.#nextAnswer < MAX_ANSWERS) this.#answers.push(transmit)
  }

  #add(now: Micros, settings: ConnectionSettings, start: ConnectionStart): UtpConnection {
    const connection = new UtpConnection(now, this.#host, settings, start)
    this.#connections.add(start.path, start.receiveId, connection)
    this.#byId.add(connection)
    this.#count++
    this.#touch(connection)
    return connection
  }

  /** RFC 6056's idea: ids are random, so that RESETs and data are harder to forge. */
  #freeId(path: Path): number {
    for (let tries = 0; tries < 1_000; tries++) {
      const id = this.#rng.uint32() & 0xffff
      // Both ids of the pair, in both roles, must be free.
      const free =
        this.#connections.find(path, id) === undefined &&
        this.#connections.find(path, (id + 1) & 0xffff) === undefined &&
        this.#connections.find(path, (id - 1) & 0xffff) === undefined
      if (free) return id
    }
    throw utpUsageError('ERR_NATWORK_UTP_LIMIT', 'No free connection id towards this peer')
  }

  /** Its deadline is asked for when it has nothing (more) to send: see {@link pollTransmit}. */
  #touch(connection: UtpConnection): void {
    this.#activate(connection)
  }

  #activate(connection: UtpConnection): void {
    if (connection.isActive) return
    connection.isActive = true
    if (this.#lastActive === undefined) this.#firstActive = connection
    else this.#lastActive.nextActive = connection
    this.#lastActive = connection
  }

  #activateFirst(connection: UtpConnection): void {
    if (connection.isActive) return
    connection.isActive = true
    connection.nextActive = this.#firstActive
    this.#firstActive = connection
    this.#lastActive ??= connection
  }

  #endTurn(connection: UtpConnection): void {
    this.#turn = 0
    this.#activate(connection)
  }

  #rebind(connection: UtpConnection, before: Path): void {
    const { path, receiveId, olderPaths } = connection
    const older = [before, ...olderPaths].filter((known) => !samePath(known, path))
    for (const dropped of older.slice(MAX_PATHS - 1)) this.#connections.remove(dropped, receiveId)
    if (older.length > olderPaths.length) this.#connections.add(path, receiveId, connection)
    connection.olderPaths = older.slice(0, MAX_PATHS - 1)
  }

  #forget(connection: UtpConnection): void {
    const { path, olderPaths, receiveId } = connection
    this.#acceptor.answered(connection)
    this.#connections.remove(path, receiveId)
    for (const older of olderPaths) this.#connections.remove(older, receiveId)
    this.#byId.remove(connection)
    this.#deadlines.remove(connection)
    this.#count--
  }
}

function sendingWith(connection: UtpConnection | undefined, id: number): UtpConnection | undefined {
  return connection?.sendId === id ? connection : undefined
}
