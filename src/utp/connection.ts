import { formatAddress } from '../core/address.ts'
import { MILLISECOND, SECOND, samePath, type Micros, type Path, type Transmit } from '../core/machine.ts'
import type { CongestionName } from './congestion/controller.ts'
import { createController } from './congestion/index.ts'
import type { Waiting } from './deadlines.ts'
import { utpError, utpUsageError, type UtpErrorCode } from './errors.ts'
import type { UtpEvent } from './events.ts'
import type { FlightPool } from './flight.ts'
import type { HalfOpen } from './half-open.ts'
import { Handshake } from './handshake.ts'
import { Liveness } from './liveness.ts'
import type { ConnectionSettings } from './options.ts'
import {
  HEADER_SIZE,
  ST_DATA,
  ST_RESET,
  ST_STATE,
  ST_SYN,
  stamp,
  writeHeader,
  type Packet,
} from './packet.ts'
import { largestDatagram, PathMtu } from './path-mtu.ts'
import type { ReceiveBudget } from './receive-window.ts'
import { Receiver, REORDER_LIMIT } from './receiver.ts'
import { RttEstimator } from './rtt.ts'
import { Sender } from './sender.ts'
import { sequenceDistance } from './sequence.ts'
import type { Scratch } from './scratch.ts'
import {
  T_ACK,
  T_CONFIRM,
  T_CONNECT,
  T_IDLE,
  T_KEEP_ALIVE,
  T_LINGER,
  T_PACING,
  T_PATH_MTU,
  T_REORDER,
  T_RETRANSMIT,
  T_SYN,
  T_TAIL_PROBE,
  T_ZERO_WINDOW,
  timerReason,
  Timers,
} from './timers.ts'

/** Acks wait so long for company (RFC 5681 §4.2 allows 500 ms; LEDBAT and libutp's Nagle want them sooner). */
const ACK_DELAY: Micros = 10 * MILLISECOND
/** Timeouts in a row after which something is wrong with the way, ours or the peer's. */
const STALLED_TIMEOUTS = 2
/** How long a closed connection acknowledges the peer's last FIN again: a few of its timeouts. */
const LINGER: Micros = 4 * SECOND
/** How far a RESET's ack may lie behind: it answers a packet that was under way. */
const RESET_SLACK = 64

const NO_PATHS: readonly Path[] = []
/** Packets within which a connection that nobody leads yet may lie. */
const YOUNG = 256

/**
 * Where a connection is. The two directions end on their own while it is `open`: see the state table in index.ts.
 */
export type UtpState = 'connecting' | 'open' | 'lingering' | 'closed'

/** What a connection needs of the machine that holds it. */
export interface ConnectionHost {
  readonly budget: ReceiveBudget
  readonly scratch: Scratch
  readonly flights: FlightPool
  emit(event: UtpEvent): void
  /** Something changed: it may have something to send, and its deadline may be another. */
  touch(connection: UtpConnection): void
  /** It moved to another path. */
  rebind(connection: UtpConnection, before: Path): void
  /** Tells the peer that the connection is gone from now on. */
  sendReset(now: Micros, connection: UtpConnection, data: Uint8Array): void
  forget(connection: UtpConnection): void
}

/** How a connection begins. */
export interface ConnectionStart {
  readonly path: Path
  readonly receiveId: number
  readonly sendId: number
  /** Our first sequence number: the SYN's where we connect. */
  readonly sequence: number
  /** The last sequence number received; −1 where we connect and nothing has come. */
  readonly ack: number
  readonly reorderLimit: number
  /** Where we connect: the SYN, and a datagram behind it, take the first written bytes along. */
  readonly withData?: boolean
}

export interface UtpStats {
  /** Payload bytes in order: acknowledged by nobody yet, but handed to the network once; and received in order. */
  readonly bytesSent: number
  readonly bytesReceived: number
  readonly packetsSent: number
  readonly packetsReceived: number
  readonly retransmissions: number
  readonly lostPackets: number
  readonly timeouts: number
  /** Microseconds; 0 before the first sample. */
  readonly smoothedRtt: Micros
  readonly minRtt: Micros
  readonly retransmissionTimeout: Micros
  /** Bytes. */
  readonly congestionWindow: number
  readonly inFlight: number
  readonly peerWindow: number
  readonly datagramSize: number
  readonly congestion: CongestionName
}

/**
 * One uTP connection. Get it from `UtpMachine.connect` or an `incoming` event; after each call drain the machine.
 */
export class UtpConnection implements Waiting {
  /** For whoever drives the machine: what the connection is to it. */
  user: unknown
  /** @internal */
  heapIndex = -1
  /** @internal */
  heapAt: Micros = 0
  /** @internal Another one that receives with the same id. */
  nextOfId: UtpConnection | undefined
  /** @internal The machine's round of those that may have something to send. */
  nextActive: UtpConnection | undefined
  /** @internal */
  isActive = false
  /** @internal The SYN whose data it began with, until its initiator has shown that it gets our answers. */
  beganWith: HalfOpen | undefined
  /** @internal */
  readonly receiveId: number
  /** @internal Where datagrams are taken from as well, the newest first: bounded by the machine. */
  olderPaths: readonly Path[] = NO_PATHS
  readonly sendId: number
  readonly #host: ConnectionHost
  readonly #settings: ConnectionSettings
  readonly #timers = new Timers()
  readonly #rtt = new RttEstimator()
  readonly #sender: Sender
  readonly #receiver: Receiver
  #path: Path
  #state: UtpState
  /** Of its paths, those from which nothing came since data went there: RESETs from there are not believed. */
  #unheard = NO_PATHS
  #replyDifference = 0
  readonly #liveness: Liveness
  /** The peer should be asked whether it is there. */
  #askDue = false
  /** Somebody says by which path it goes: who connected, or who has used {@link setPath}. */
  #isLed: boolean
  /** Where we connect, until the peer needs no more of it. */
  #handshake: Handshake | undefined
  #writeBlocked = false
  #readableTold = false
  #endedTold = false
  #packetsSent = 0
  #packetsReceived = 0
  #timeouts = 0
  #bytesWritten = 0
  #bytesReceived = 0

  /** @internal */
  constructor(now: Micros, host: ConnectionHost, settings: ConnectionSettings, start: ConnectionStart) {
    const connecting = start.ack < 0
    this.#host = host
    this.#settings = settings
    this.#path = start.path
    this.receiveId = start.receiveId
    this.sendId = start.sendId
    this.#state = connecting ? 'connecting' : 'open'
    this.#isLed = connecting
    this.#liveness = new Liveness(now, this.#timers, settings)
    const mtu = new PathMtu(settings.maxDatagramSize ?? largestDatagram(start.path))
    this.#sender = new Sender(
      connecting ? (start.sequence + 1) & 0xffff : start.sequence,
      start.sendId,
      settings.sendBuffer,
      this.#rtt,
      createController(settings.congestion, mtu.size - HEADER_SIZE),
      mtu,
      this.#timers,
      host.flights,
    )
    this.#receiver = new Receiver(connecting ? 0 : start.ack, settings.receiveBuffer, host.budget)
    this.#sender.allowPackets(start.reorderLimit)
    this.#receiver.capable = this.#sender.peerIsCapable
    if (connecting) {
      const { sequence, withData = false } = start
      this.#handshake = new Handshake(now, this.#timers, sequence, settings.connectTimeout, withData)
    } else {
      this.#liveness.start(now)
      // The initiator repeats the last step of the handshake until it hears from us.
      this.#receiver.ackNow = true
    }
  }

  get path(): Path {
    return this.#path
  }

  get state(): UtpState {
    return this.#state
  }

  /** Bytes that {@link write} would take now. */
  get writable(): number {
    return this.#canWrite ? this.#sender.free : 0
  }

  /** Bytes that {@link read} would return, all calls together. */
  get readable(): number {
    return this.#receiver.readable
  }

  /** Written bytes that are not sent yet. */
  get queued(): number {
    return this.#sender.queued
  }

  get stats(): UtpStats {
    const sender = this.#sender
    return {
      bytesSent: this.#bytesWritten - sender.queued,
      bytesReceived: this.#bytesReceived,
      packetsSent: this.#packetsSent,
      packetsReceived: this.#packetsReceived,
      retransmissions: sender.retransmissions,
      lostPackets: sender.lostPackets,
      timeouts: this.#timeouts,
      smoothedRtt: Math.round(this.#rtt.smoothed),
      minRtt: this.#rtt.min,
      retransmissionTimeout: this.#rtt.timeout,
      congestionWindow: Math.floor(sender.windowSize),
      inFlight: sender.inFlight,
      peerWindow: sender.peerWindow,
      datagramSize: sender.datagramSize,
      congestion: this.#settings.congestion,
    }
  }

  /**
   * Takes bytes to send, as many as the send buffer has room for; a `writable` event follows when it took less. May be
   * called before `connected`. The bytes are copied.
   *
   * @returns how many were taken; 0 when the connection is closed.
   * @throws {UsageError} `ERR_NATWORK_UTP_WRITE_AFTER_END` after {@link end}.
   */
  write(_now: Micros, bytes: Uint8Array): number {
    if (this.#sender.ending) {
      throw utpUsageError('ERR_NATWORK_UTP_WRITE_AFTER_END', 'This direction has ended: write before end')
    }
    if (!this.#canWrite) return 0
    const taken = this.#sender.write(bytes)
    this.#bytesWritten += taken
    if (taken < bytes.length) this.#writeBlocked = true
    if (taken > 0) this.#host.touch(this)
    return taken
  }

  /** The next received bytes in order; undefined when there are none. They are the caller's own. */
  read(_now: Micros): Uint8Array | undefined {
    const bytes = this.#receiver.read()
    if (bytes === undefined) {
      this.#readableTold = false
      return undefined
    }
    if (this.#receiver.windowUpdateDue) {
      this.#receiver.ackNow = true
      this.#host.touch(this)
    }
    if (this.#receiver.readable === 0 && this.#receiver.finished) this.#tellEnded(_now)
    return bytes
  }

  /** For a reader that keeps nothing: `bytes` from {@link read}, and all before, may be overwritten with what comes next. */
  recycle(bytes: Uint8Array): void {
    this.#receiver.recycle(bytes)
  }

  /** No more will be written: the peer gets an end after all that was. Its own direction stays open. */
  end(_now: Micros): void {
    if (!this.#canWrite || this.#sender.ending) return
    this.#sender.end()
    this.#host.touch(this)
  }

  /** Gives up both directions at once and tells the peer. A `closed` event without error follows. */
  reset(now: Micros): void {
    if (this.#state === 'closed') return
    const told = this.#state === 'lingering'
    if (this.#state === 'open') this.#host.sendReset(now, this, this.#resetPacket(now))
    this.#drop()
    if (!told) this.#host.emit({ type: 'closed', connection: this })
  }

  /**
   * Moves to another path: everything is sent there from now on, and datagrams are taken from there as well as from the
   * last few paths before. Round-trip time and windows are measured anew; what is in flight is sent again, so that no
   * byte is lost with the old path.
   */
  setPath(now: Micros, path: Path): void {
    this.#isLed = true
    this.moveTo(now, path)
  }

  /** @internal The peer has moved. */
  moveTo(now: Micros, path: Path): void {
    if (this.#state === 'closed') return
    const before = this.#path
    this.#path = path
    if (samePath(before, path)) {
      // A connection that came in knows only now that it came from a relay.
      this.#sender.limitDatagrams(this.#settings.maxDatagramSize ?? largestDatagram(path))
      return
    }
    this.#host.rebind(this, before)
    const isOlder = (one: Path): boolean => !samePath(one, path) && this.olderPaths.includes(one)
    this.#unheard = [path, ...this.#unheard.filter(isOlder)]
    if (this.#state === 'connecting') {
      this.#handshake?.pathChanged()
    } else if (this.#state === 'open') {
      this.#sender.pathChanged(now, this.#settings.maxDatagramSize ?? largestDatagram(path))
      // The peer should hear of the new path even when there is nothing to say.
      this.#receiver.ackNow = true
    }
    this.#host.touch(this)
  }

  /** @internal The peer should hear of us, though there may be nothing to say. */
  announce(): void {
    if (this.#state !== 'open') return
    this.#receiver.ackNow = true
    this.#host.touch(this)
  }

  /** @internal Whether a packet that came by an unknown path may be this connection's. */
  recognises(packet: Packet, within = REORDER_LIMIT, stale?: number): boolean {
    if (this.#state !== 'open') return false
    const distance = sequenceDistance(packet.sequence, this.#receiver.ack)
    return this.#sender.isPlausible(packet.ack, stale) && Math.abs(distance) <= within
  }

  /**
   * @internal Whether a packet by a path that is known to be true, where nobody says yet by which one this connection goes,
   * shows that its initiator has moved there. Every peer has such paths, and each may guess: the numbers must fit closely.
   */
  isLedBy(packet: Packet): boolean {
    return !this.#isLed && this.recognises(packet, YOUNG, YOUNG)
  }

  /** @internal Whether this is the answer that it waits for, by whichever path. */
  isAnsweredBy(packet: Packet): boolean {
    return this.#state === 'connecting' && this.#handshake?.isTakenBy(packet) === true
  }

  /** @internal What came before the answer to the SYN, once that is here. */
  takeEarly(): Uint8Array[] {
    return this.#state === 'open' ? (this.#handshake?.takeEarly() ?? []) : []
  }

  /** @internal Nothing has come for as long as no two packets of a live peer are apart while it has something to say. */
  isSilent(now: Micros): boolean {
    return this.#liveness.isSilent(now)
  }

  /** @internal A packet for this connection, other than a RESET. */
  handlePacket(now: Micros, path: Path, packet: Packet, bytes: Uint8Array): void {
    this.#packetsReceived++
    if (this.#state === 'connecting') {
      const handshake = this.#handshake
      if (handshake === undefined) return
      if (packet.type !== ST_STATE || !handshake.isAnsweredBy(packet)) {
        if (handshake.hasBegun(packet.ack)) {
          handshake.hasten()
          if (packet.type === ST_DATA) handshake.keep(bytes)
        }
        this.#host.touch(this)
        return
      }
      // The answer to a SYN by an earlier path has another number than the one by this path, which is what counts there.
      if (!samePath(path, this.#path) && !handshake.isTakenBy(packet)) return
      this.#accepted(now, packet, handshake)
    } else if (this.#handshake !== undefined) {
      this.#handshake = undefined
      this.#timers.clear(T_CONFIRM)
    }
    if (this.#state === 'closed' || packet.type === ST_SYN) return
    const sender = this.#sender
    const receiver = this.#receiver
    // Forged, or of another life: nothing of it is believed (RFC 5961's idea in 16 bits).
    if (!sender.isPlausible(packet.ack)) return
    const distance = sequenceDistance(packet.sequence, receiver.ack)
    if (distance > REORDER_LIMIT || distance < -REORDER_LIMIT) return
    this.#liveness.heard(now, packet.type !== ST_STATE)
    if (this.#unheard.length > 0) this.#unheard = this.#unheard.filter((one) => !samePath(one, path))
    // BEP 29 "timestamp_difference_microseconds": 0 stands for "not measured".
    this.#replyDifference = packet.timestamp === 0 ? 0 : (now - packet.timestamp) >>> 0
    this.#rtt.oneWayDelays(packet.timestampDifference, this.#replyDifference)
    if (this.#state === 'lingering') {
      // The peer repeats its FIN: our last acknowledgement was lost.
      if (packet.type !== ST_STATE) receiver.ackNow = true
      this.#host.touch(this)
      return
    }
    sender.handleAck(now, packet, bytes, packet.type === ST_STATE, this.#replyDifference)
    if (packet.type !== ST_STATE) this.#receive(now, packet, bytes)
    if (this.#writeBlocked && sender.hasRoom) {
      this.#writeBlocked = false
      if (!sender.ending) this.#host.emit({ type: 'writable', connection: this })
    }
    if (sender.finished) this.#closeWhenDone(now)
    this.#host.touch(this)
  }

  /**
   * @internal A RESET for this connection. It must answer a packet of ours: `ack` is the sequence number of one we have
   * sent (libutp, libtorrent and this machine copy it there), and it must come by a path that is known to reach the
   * peer's machine: while a migration is under way, the other side may not know yet that the new path is ours.
   */
  handleReset(now: Micros, path: Path, packet: Packet): void {
    if (this.#state === 'closed') return
    if (this.#state === 'connecting') {
      if (this.#handshake?.isOfSyn(packet.ack) === true) this.#fail('ERR_NATWORK_UTP_REFUSED')
      return
    }
    if (this.#unheard.some((one) => samePath(one, path))) return
    const sender = this.#sender
    // How far it lies before the next new packet.
    const before = sequenceDistance(sender.next, packet.ack)
    if (before < 0 || before > sender.unacknowledged + RESET_SLACK) return
    if (this.#state === 'lingering') {
      this.#drop()
    } else if (this.#receiver.finished && sender.ending && sender.allDataAcknowledged) {
      // libutp forgets a connection that it closed: our FIN then meets nobody, but everything has arrived.
      sender.finished = true
      this.#closeWhenDone(now)
    } else {
      this.#fail('ERR_NATWORK_UTP_RESET')
    }
  }

  /** @internal */
  pollTransmit(now: Micros): Transmit | undefined {
    if (this.#state === 'connecting') {
      const syn = this.#handshake?.poll(now, this.#host.scratch, this.receiveId, this.#sender)
      return syn && this.#transmit(now, syn)
    }
    if (this.#state === 'closed') return undefined
    const receiver = this.#receiver
    // Selective acks travel alone: a data packet's size must not depend on them.
    if (receiver.ackNow && receiver.hasGap) return this.#transmit(now, this.#statePacket())
    if (this.#state === 'open') {
      const data = this.#sender.poll(now)
      if (data !== undefined) return this.#transmit(now, data)
      if (this.#askDue) return this.#transmit(now, this.#question())
    }
    if (receiver.ackDue) return this.#transmit(now, this.#statePacket())
    if (receiver.unacknowledged > 0 && !this.#timers.isSet(T_ACK)) this.#timers.set(T_ACK, now + ACK_DELAY)
    return undefined
  }

  /** @internal */
  handleTimeout(now: Micros): void {
    const timers = this.#timers
    const sender = this.#sender
    if (timers.expire(T_CONNECT, now)) {
      this.#fail('ERR_NATWORK_UTP_CONNECT_TIMEOUT')
      return
    }
    if (timers.expire(T_LINGER, now)) {
      this.#drop()
      return
    }
    if (timers.expire(T_SYN, now)) this.#handshake?.repeat()
    if (timers.expire(T_CONFIRM, now)) this.#receiver.ackNow = true
    if (timers.expire(T_ACK, now)) this.#receiver.ackWaited()
    if (timers.expire(T_ZERO_WINDOW, now)) sender.zeroWindowProbe()
    if (timers.expire(T_REORDER, now)) sender.detectLoss(now)
    if (timers.expire(T_TAIL_PROBE, now)) sender.tailProbe()
    if (timers.expire(T_PATH_MTU, now)) sender.raiseMtu()
    // Pacing needs no more than the poll that follows.
    timers.expire(T_PACING, now)
    if (timers.expire(T_RETRANSMIT, now) && this.#retransmissionTimeout(now)) return
    if (timers.expire(T_IDLE, now)) {
      const peer = this.#liveness.idle(now)
      if (peer === 'gone') {
        this.#fail('ERR_NATWORK_UTP_TIMEOUT')
        return
      }
      this.#askDue = peer === 'ask'
    }
    if (timers.expire(T_KEEP_ALIVE, now) && this.#liveness.keepAlive(now)) {
      this.#receiver.ackNow = true
      this.#receiver.rest()
    }
    this.#host.touch(this)
  }

  /** @internal When {@link handleTimeout} is due; Infinity when never. */
  get deadline(): Micros {
    return this.#timers.at(this.#timers.earliest())
  }

  /** @internal */
  get deadlineReason(): string {
    return timerReason(this.#timers.earliest())
  }

  get #canWrite(): boolean {
    return this.#state === 'connecting' || this.#state === 'open'
  }

  /** The peer's answer to our SYN: a STATE that acknowledges it. */
  #accepted(now: Micros, packet: Packet, handshake: Handshake): void {
    const sender = this.#sender
    const rtt = handshake.accepted(now)
    this.#state = 'open'
    // libutp and libtorrent: the answer consumes no sequence number, the peer's first DATA carries the same one. (The
    // diagram of BEP 29 says `c.seq_nr++` there; nobody does that.)
    this.#receiver.ack = (packet.sequence - 1) & 0xffff
    if (rtt > 0) this.#rtt.sample(rtt)
    if (handshake.hasData(packet.ack)) handshake.handOver(now, sender)
    sender.allowPackets(packet.reorderLimit)
    this.#receiver.capable = sender.peerIsCapable
    this.#liveness.start(now)
    // The acceptor keeps no connection until it sees our acknowledgement; the application may have nothing to say yet.
    this.#receiver.ackNow = true
    this.#host.emit({ type: 'connected', connection: this })
  }

  #receive(now: Micros, packet: Packet, bytes: Uint8Array): void {
    const receiver = this.#receiver
    const before = receiver.readable
    receiver.tune(now, this.#rtt.estimate, bytes.length - packet.payloadAt)
    if (!receiver.handle(packet, bytes)) return
    const got = receiver.readable - before
    this.#bytesReceived += got
    if (got > 0 && !this.#readableTold) {
      this.#readableTold = true
      this.#host.emit({ type: 'readable', connection: this })
    }
    if (receiver.finished && receiver.readable === 0) this.#tellEnded(now)
  }

  #tellEnded(now: Micros): void {
    if (this.#endedTold) return
    this.#endedTold = true
    this.#host.emit({ type: 'ended', connection: this })
    this.#closeWhenDone(now)
  }

  /** Both directions are over: what is left is to answer the peer's FIN again if our acknowledgement was lost. */
  #closeWhenDone(now: Micros): void {
    if (this.#state !== 'open' || !this.#sender.finished || !this.#endedTold) return
    this.#state = 'lingering'
    this.#timers.clearAll()
    this.#timers.set(T_LINGER, now + Math.max(LINGER, 4 * this.#rtt.timeout))
    this.#sender.release()
    this.#receiver.release()
    this.#host.emit({ type: 'closed', connection: this })
    this.#host.touch(this)
  }

  #fail(code: UtpErrorCode): void {
    this.#drop()
    this.#host.emit({
      type: 'closed',
      connection: this,
      error: utpError(code, formatAddress(this.#path.remote)),
    })
  }

  #drop(): void {
    this.#state = 'closed'
    this.#timers.clearAll()
    this.#sender.release()
    this.#receiver.release()
    this.#host.forget(this)
  }

  #retransmissionTimeout(now: Micros): boolean {
    const sender = this.#sender
    this.#timeouts++
    if (this.#liveness.isGone(now, sender.timeouts)) {
      if (this.#receiver.finished && this.#endedTold && sender.allDataAcknowledged) {
        // Only the FIN is unanswered, and the peer had ended before: it is gone, in order.
        sender.finished = true
        this.#closeWhenDone(now)
      } else {
        this.#fail('ERR_NATWORK_UTP_TIMEOUT')
      }
      return true
    }
    sender.retransmissionTimeout(now)
    if (sender.timeouts === STALLED_TIMEOUTS) this.#host.emit({ type: 'stalled', connection: this })
    return false
  }

  #statePacket(): Uint8Array {
    const sender = this.#sender
    return this.#receiver.ackPacket(this.#host.scratch, this.sendId, sender.next, sender.peerIsCapable)
  }

  /**
   * Every peer acknowledges data that it has already (as with TCP's keep-alive, RFC 9293 §3.8.4): the packet before the
   * oldest unacknowledged one, without its bytes.
   */
  #question(): Uint8Array {
    this.#askDue = false
    const data = this.#host.scratch.cut(HEADER_SIZE)
    writeHeader(data, ST_DATA, 0, this.sendId, (this.#sender.next - this.#sender.unacknowledged - 1) & 0xffff)
    return data
  }

  /** `ack` is the last number we got from the peer, which it sent: libutp's form, and what {@link handleReset} checks. */
  #resetPacket(now: Micros): Uint8Array {
    const data = new Uint8Array(HEADER_SIZE)
    writeHeader(data, ST_RESET, 0, this.sendId, this.#sender.next)
    stamp(data, now, this.#replyDifference, 0, this.#receiver.ack)
    return data
  }

  #transmit(now: Micros, data: Uint8Array): Transmit {
    const receiver = this.#receiver
    const window = receiver.window()
    stamp(data, now, this.#replyDifference, window, receiver.ack)
    receiver.acknowledged(window)
    this.#timers.clear(T_ACK)
    this.#liveness.sent(now)
    this.#packetsSent++
    this.#handshake?.sent(now, this.#rtt.timeout, this.#sender.unacknowledged > 0)
    return { path: this.#path, data }
  }
}
