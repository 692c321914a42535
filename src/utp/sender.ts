import type { Micros } from '../core/machine.ts'
import type { CongestionController } from './congestion/controller.ts'
import { AckSample } from './congestion/controller.ts'
import type { Flight, FlightPool } from './flight.ts'
import { Pacer } from './pacer.ts'
import { HEADER_SIZE, type Packet } from './packet.ts'
import type { PathMtu } from './path-mtu.ts'
import { REORDER_LIMIT } from './receiver.ts'
import type { RttEstimator } from './rtt.ts'
import { IN_FLIGHT, LOST, SACKED } from './send-ring.ts'
import { sequenceDistance } from './sequence.ts'
import {
  T_PACING,
  T_PATH_MTU,
  T_REORDER,
  T_RETRANSMIT,
  T_TAIL_PROBE,
  T_ZERO_WINDOW,
  type Timers,
} from './timers.ts'

/** libutp holds at most so many unacknowledged packets back in order, and drops what lies beyond. */
const LIBUTP_REORDER_LIMIT = 1_023
/** How much older than the oldest unacknowledged packet an ack may be: reordered, or a keep-alive of libutp. */
const STALE_ACKS = 4_096
/** RFC 8985 §7.2: WCDelAckT is 200 ms for TCP; ours and libutp's acks wait 10 ms at most. Rounded up for slow timers. */
const PEER_ACK_DELAY: Micros = 25_000
/** A window, and this part of it that is ready when acknowledgements come; a second window while that is less. */
const READY = 1 / 4
const LEAST_READY = 1_048_576
/** The application is asked for more when this part of that is free. */
const REFILL = 1 / 4
/** The grain of timers. */
const LEAST_TAIL_PROBE: Micros = 5_000

/** Filled again for every acknowledgement of every connection: nothing here outlives a call. */
const sample = new AckSample()

/**
 * The sending half of a connection: bytes to packets, what is in flight, what is lost, and what may leave now.
 * Memory is bounded by the send buffer: bytes waiting, in flight and lost together.
 */
export class Sender {
  readonly rtt: RttEstimator
  /** BEP 29 `wnd_size` of the peer, bytes. */
  peerWindow = 0
  /** The FIN, and so everything before it, is acknowledged. */
  finished = false
  /** Retransmission timeouts in a row. */
  timeouts = 0
  retransmissions = 0
  lostPackets = 0
  /** The peer puts more packets back in order than libutp does, and tells of each. */
  peerIsCapable = false
  readonly #connectionId: number
  readonly #controller: CongestionController
  readonly #mtu: PathMtu
  readonly #timers: Timers
  readonly #pacer = new Pacer()
  readonly #flights: FlightPool
  readonly #limit: number
  #packetLimit = LIBUTP_REORDER_LIMIT
  #ending = false
  /** Samples of packets sent before this speak of another path. */
  #pathSince: Micros = 0
  /** What waits to be sent or acknowledged; undefined while nothing does. */
  #flight: Flight | undefined
  /** What stays of the flight that is over: the number of the next new packet, and see delivery-rate.ts and loss.ts. */
  #next: number
  #delivered = 0
  #appLimitedUntil = 0
  #sackSeen = false

  constructor(
    first: number,
    connectionId: number,
    limit: number,
    rtt: RttEstimator,
    controller: CongestionController,
    mtu: PathMtu,
    timers: Timers,
    flights: FlightPool,
  ) {
    this.#next = first
    this.#connectionId = connectionId
    this.#limit = limit
    this.rtt = rtt
    this.#controller = controller
    this.#mtu = mtu
    this.#timers = timers
    this.#flights = flights
  }

  /** The sequence number of the next new packet. */
  get next(): number {
    return this.#flight === undefined ? this.#next : this.#flight.ring.next
  }

  /** Packets not cumulatively acknowledged; the oldest is so many before {@link next}. */
  get unacknowledged(): number {
    return this.#flight === undefined ? 0 : this.#flight.ring.count
  }

  /** Payload bytes in flight. */
  get inFlight(): number {
    return this.#flight === undefined ? 0 : this.#flight.ring.inFlight
  }

  /** Bytes that {@link write} would take. */
  get free(): number {
    const { limit } = this
    if (this.#flight === undefined) return limit
    const { buffer, ring } = this.#flight
    // What the peer holds beyond a hole takes memory, but is no reason to keep less ready.
    const room = Math.min(
      this.#limit - buffer.length,
      limit - buffer.waiting - ring.inFlight - ring.lostBytes,
    )
    return room > 0 ? room : 0
  }

  /** There is room for so much that the application should hear of it. */
  get hasRoom(): boolean {
    return this.free >= this.limit * REFILL
  }

  /** Bytes that may wait to be sent or acknowledged. */
  get limit(): number {
    const { window } = this.#controller
    const wanted = window + Math.max(Math.min(window, LEAST_READY), window * READY)
    return Math.min(this.#limit, Math.ceil(Math.max(this.#flights.blocks.ahead, wanted)))
  }

  get windowSize(): number {
    return this.#controller.window
  }

  get datagramSize(): number {
    return this.#mtu.size
  }

  get queued(): number {
    return this.#flight === undefined ? 0 : this.#flight.buffer.waiting
  }

  /** Only the FIN, if anything, is still to be acknowledged. */
  get allDataAcknowledged(): boolean {
    if (this.#flight === undefined) return true
    const { ring, buffer, datagrams } = this.#flight
    if (buffer.waiting > 0) return false
    return ring.count === 0 || (ring.count === 1 && ring.first === datagrams.fin)
  }

  /** @returns how many bytes were taken. */
  write(bytes: Uint8Array): number {
    const size = Math.min(bytes.length, this.free)
    if (size > 0) this.#begin().buffer.push(size === bytes.length ? bytes : bytes.subarray(0, size))
    return size
  }

  /** The first `size` of the bytes that wait have arrived as the packet with number {@link next}: with the SYN. */
  arrivedWithSyn(size: number): void {
    const flight = this.#begin()
    flight.buffer.take(size)
    flight.buffer.release(size)
    flight.ring.begin((flight.ring.next + 1) & 0xffff)
    if (flight.buffer.length === 0 && !this.#ending) this.#rest(flight)
  }

  /**
   * The next `size` of the bytes that wait left at `at`, right behind the SYN, as the packet with number {@link next}.
   * `again`: more than once, so that its acknowledgement measures nothing (RFC 6298 §3).
   */
  sentWithSyn(now: Micros, size: number, at: Micros, again: boolean): void {
    const flight = this.#begin()
    const { ring, buffer } = flight
    const sequence = ring.next
    ring.push(buffer.take(size), size, at)
    if (again) ring.sentAgain(sequence, at)
    this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    this.#armTailProbe(flight, now)
  }

  /** Copies of the bytes that wait what begins `skip` after the first. */
  peek(into: Uint8Array, at: number, skip: number): void {
    this.#flight?.buffer.peek(into, at, skip)
  }

  end(): void {
    this.#ending = true
    this.#begin()
  }

  get ending(): boolean {
    return this.#ending
  }

  /** The peer says that it puts more packets back in order than libutp does. */
  allowPackets(reorderLimit: number): void {
    if (reorderLimit === 0) return
    this.#packetLimit = Math.min(reorderLimit, REORDER_LIMIT) - 1
    this.peerIsCapable = true
    if (this.#flight !== undefined) this.#flight.loss.fullMasks = true
  }

  /** Whether `ack` can be an answer to what we sent, at most `stale` packets ago; other packets are forged or from another life. */
  isPlausible(ack: number, stale = STALE_ACKS): boolean {
    const count = this.unacknowledged
    const distance = sequenceDistance(ack, (this.next - count - 1) & 0xffff)
    return distance <= count && distance >= -stale
  }

  /** Takes the ack, the selective ack and the window of a packet in. `bytes` is its datagram. */
  handleAck(now: Micros, packet: Packet, bytes: Uint8Array, bare: boolean, reverseDelay: number): void {
    const flight = this.#flight
    if (flight === undefined) {
      this.peerWindow = packet.window
      return
    }
    const { ring, loss, datagrams } = flight
    const heldBefore = ring.inFlight + ring.lostBytes
    const firstBefore = ring.first
    loss.begin(this.#pathSince)
    ring.rate.begin()
    const newlyAcked = sequenceDistance(packet.ack, (ring.first - 1) & 0xffff)
    let arrived = 0
    for (let i = 0; i < newlyAcked; i++) {
      if (ring.first === datagrams.fin) this.finished = true
      loss.delivered(now, ring.first)
      arrived += ring.size(ring.first)
      ring.shift()
    }
    if (arrived > 0) flight.buffer.release(arrived)
    loss.endCumulative()
    if (packet.sackLength > 0) loss.selectiveAcks(now, packet, bytes)
    if (datagrams.probe >= 0) this.#checkProbe(flight, now)
    const acked = heldBefore - ring.inFlight - ring.lostBytes
    if (bare && newlyAcked === 0 && packet.sackLength === 0 && packet.window === this.peerWindow) {
      loss.duplicateAck()
    }
    this.#updateWindow(flight, now, packet.window)
    if (loss.anyDelivered) {
      if (loss.rttSample > 0) this.rtt.sample(loss.rttSample)
      ring.rate.finish(this.rtt.min)
      this.rtt.resetBackoff()
      this.#mtu.progress()
      this.timeouts = 0
      flight.tailProbed = false
      loss.advance(firstBefore)
      sample.now = now
      sample.acked = acked
      sample.lost = loss.takeLostBytes()
      sample.inFlight = ring.inFlight
      sample.rtt = loss.rttSample
      sample.delivered = ring.rate.delivered
      sample.priorDelivered = ring.rate.priorDelivered
      sample.rate = ring.rate.rate
      sample.appLimited = ring.rate.sampleAppLimited
      sample.smoothedRtt = this.rtt.smoothed
      sample.delay = packet.timestampDifference
      sample.reverseDelay = reverseDelay
      sample.windowLimited = flight.windowLimited
      sample.recovering = loss.recovering && !loss.afterTimeout
      this.#controller.onAck(sample)
      flight.windowLimited = false
    }
    this.detectLoss(now)
    if (!loss.anyDelivered) return
    this.#restartTimers(flight, now)
    if (ring.count === 0 && flight.buffer.length === 0 && this.#ending === this.finished) this.#rest(flight)
  }

  /** Marks what is lost by now and tells the controller (RFC 8985 §6.2 step 5). Also when the reordering window ends. */
  detectLoss(now: Micros): void {
    const flight = this.#flight
    if (flight === undefined) return
    const again = flight.loss.detect(now)
    if (again === Infinity) this.#timers.clear(T_REORDER)
    else this.#timers.set(T_REORDER, again)
    this.#countLost(flight, now)
  }

  /** The next datagram to send, without timestamp and ack; undefined when nothing may leave now. */
  poll(now: Micros): Uint8Array | undefined {
    const flight = this.#flight
    if (flight === undefined) {
      // As DeliveryRate.markAppLimited.
      this.#appLimitedUntil = Math.max(1, this.#delivered)
      return undefined
    }
    const { ring, buffer, datagrams } = flight
    const piece = datagrams.nextPiece(this.#mtu.size)
    if (piece !== undefined) return piece
    if (ring.firstLost >= 0) {
      const sequence = ring.firstLost
      return this.#mayLeave(flight, now, ring.size(sequence))
        ? this.#sendAgain(flight, now, sequence)
        : undefined
    }
    if (buffer.waiting > 0) {
      const data = this.#pollNew(flight, now)
      if (data !== undefined) return data
    } else if (!this.#ending) {
      if (ring.inFlight < this.#controller.window) ring.rate.markAppLimited(ring.inFlight)
    } else if (datagrams.fin < 0 && ring.count <= this.#packetLimit) {
      return this.#sendFin(flight, now)
    }
    if (flight.forced > 0 && ring.newestSent >= 0) {
      // A tail probe with nothing new to send: the last packet once more (RFC 8985 §7.3).
      return this.#sendAgain(flight, now, ring.newestSent)
    }
    flight.forced = 0
    return undefined
  }

  /** Nothing came back for a retransmission timeout (RFC 6298 §5.4–5.6; BEP 29 "timeouts"). */
  retransmissionTimeout(now: Micros): void {
    const flight = this.#flight
    if (flight === undefined || flight.ring.count === 0) return
    const { ring, datagrams } = flight
    this.timeouts++
    this.rtt.backOff()
    this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    this.#timers.clear(T_TAIL_PROBE)
    this.#timers.clear(T_REORDER)
    const closed = this.peerWindow === 0
    const onlyProbe = ring.flying === 1 && ring.oldestSent === datagrams.probe
    if (!closed && !onlyProbe) {
      this.#controller.onTimeout(now)
      this.#mtuTimedOut(datagrams.size(ring.first))
    }
    while (ring.oldestSent >= 0) this.#lose(flight, now, ring.oldestSent)
    // What the mask of a selective ack cannot reach may have arrived: only the oldest is sure to bring news.
    ring.sortLost()
    flight.loss.enterRecovery(now, true)
    flight.forced = 1
  }

  /** RFC 8985 §7.3: one packet beyond the window, new if there is one. */
  tailProbe(): void {
    const flight = this.#flight
    if (flight === undefined || flight.ring.flying === 0 || flight.ring.lost > 0) return
    flight.tailProbed = true
    flight.forced = 1
  }

  zeroWindowProbe(): void {
    if (this.#flight !== undefined) this.#flight.windowProbeDue = true
  }

  raiseMtu(): void {
    this.#mtu.raise()
  }

  /** The same path takes no larger datagrams than these. */
  limitDatagrams(largest: number): void {
    this.#mtu.limit(largest)
    this.#controller.onPacketSize(this.#mtu.size - HEADER_SIZE)
  }

  /** Another path: all that is in flight may be gone, and nothing measured holds. */
  pathChanged(now: Micros, largestDatagram: number): void {
    this.#pathSince = now
    this.rtt.reset()
    this.#mtu.reset(largestDatagram)
    this.#controller.reset(now)
    this.#controller.onPacketSize(this.#mtu.size - HEADER_SIZE)
    this.timeouts = 0
    const flight = this.#flight
    if (flight !== undefined) {
      const { ring, loss } = flight
      loss.pathChanged()
      while (ring.oldestSent >= 0) this.#lose(flight, now, ring.oldestSent)
      flight.forced = ring.count > 0 ? 1 : 0
      if (ring.count > 0) this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    }
    this.#timers.clear(T_TAIL_PROBE)
    this.#timers.clear(T_REORDER)
  }

  release(): void {
    if (this.#flight !== undefined) this.#rest(this.#flight)
  }

  #begin(): Flight {
    if (this.#flight !== undefined) return this.#flight
    const flight = this.#flights.take()
    flight.begin(this.#next, this.#connectionId, this.rtt)
    flight.ring.rate.delivered = this.#delivered
    flight.ring.rate.appLimitedUntil = this.#appLimitedUntil
    flight.loss.fullMasks = this.peerIsCapable
    flight.loss.sackSeen = this.#sackSeen
    this.#flight = flight
    return flight
  }

  #rest(flight: Flight): void {
    this.#flight = undefined
    this.#next = flight.ring.next
    this.#delivered = flight.ring.rate.delivered
    this.#appLimitedUntil = flight.ring.rate.appLimitedUntil
    this.#sackSeen = flight.loss.sackSeen
    this.#flights.recycle(flight)
  }

  #pollNew(flight: Flight, now: Micros): Uint8Array | undefined {
    const { ring, datagrams } = flight
    if (ring.count >= this.#packetLimit) {
      ring.rate.markAppLimited(ring.inFlight)
      return undefined
    }
    const full = this.#mtu.size - HEADER_SIZE
    let size = Math.min(flight.buffer.waiting, full)
    const room = this.peerWindow - ring.inFlight - ring.lostBytes
    if (size > room && !flight.windowProbeDue) {
      ring.rate.markAppLimited(ring.inFlight)
      if (ring.count > 0) return undefined
      if (room <= 0) {
        if (!this.#timers.isSet(T_ZERO_WINDOW)) this.#timers.set(T_ZERO_WINDOW, now + this.rtt.timeout)
        return undefined
      }
      size = room
    }
    if (!flight.windowProbeDue && !this.#mayLeave(flight, now, size)) return undefined
    if (flight.windowProbeDue) {
      flight.windowProbeDue = false
      flight.windowProbe = ring.next
    }
    const probe = size === full && !flight.loss.recovering && datagrams.probe < 0 ? this.#mtu.candidate : 0
    if (probe > 0) {
      this.#mtu.probeSent(probe)
      datagrams.probe = ring.next
      datagrams.probePadding = probe - full - HEADER_SIZE
    }
    return this.#sendNew(flight, now, size)
  }

  #sendFin(flight: Flight, now: Micros): Uint8Array {
    flight.datagrams.fin = flight.ring.next
    return this.#sendNew(flight, now, 0)
  }

  #sendNew(flight: Flight, now: Micros, size: number): Uint8Array {
    const { ring } = flight
    const sequence = ring.next
    if (ring.count === 0) this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    ring.push(flight.buffer.take(size), size, now)
    this.#left(flight, now, size)
    return flight.datagrams.build(sequence)
  }

  #sendAgain(flight: Flight, now: Micros, sequence: number): Uint8Array {
    const { ring, datagrams } = flight
    ring.sentAgain(sequence, now)
    this.retransmissions++
    this.#left(flight, now, ring.size(sequence))
    // Not waiting for the answer to a probe: it goes out again as any other.
    if (sequence === datagrams.probe) this.#probeFailed(flight, now)
    if (datagrams.size(sequence) <= this.#mtu.size || !this.peerIsCapable) return datagrams.build(sequence)
    datagrams.cut(sequence)
    return datagrams.nextPiece(this.#mtu.size) ?? datagrams.build(sequence)
  }

  #left(flight: Flight, now: Micros, size: number): void {
    if (flight.forced > 0) flight.forced--
    this.#pacer.sent(size)
    this.#armTailProbe(flight, now)
  }

  #mayLeave(flight: Flight, now: Micros, size: number): boolean {
    if (flight.forced > 0) return true
    const { inFlight } = flight.ring
    if (inFlight > 0 && inFlight + size > this.#controller.window) {
      flight.windowLimited = true
      return false
    }
    const wait = this.#pacer.delay(now, this.#controller.pacingRate, size)
    if (wait === 0) return true
    flight.windowLimited = true
    this.#timers.set(T_PACING, now + wait)
    return false
  }

  #updateWindow(flight: Flight, now: Micros, window: number): void {
    const opened = this.peerWindow === 0 && window > 0
    this.peerWindow = window
    if (!opened) return
    this.#timers.clear(T_ZERO_WINDOW)
    flight.windowProbeDue = false
    const probe = flight.windowProbe
    flight.windowProbe = -1
    // The peer had no room for the probe: it is lost, and nobody is to blame.
    if (probe >= 0 && flight.ring.holds(probe) && flight.ring.state(probe) === IN_FLIGHT) {
      this.#lose(flight, now, probe)
    }
  }

  /** One loss event for the controller, however many packets it took (RFC 6675 §5). */
  #countLost(flight: Flight, now: Micros): void {
    const { ring, loss, datagrams } = flight
    let lost = loss.takeLost()
    if (lost === 0) return
    if (datagrams.probe >= 0 && ring.state(datagrams.probe) === LOST) {
      // Its size was the reason, not the load of the path.
      this.#probeFailed(flight, now)
      if (--lost === 0) return
    }
    this.lostPackets += lost
    if (loss.recovering) return
    loss.enterRecovery(now, false)
    this.#controller.onLoss(now, ring.inFlight)
    // RFC 6675 §5 (4.3): the first retransmission does not wait for the window.
    flight.forced = 1
  }

  #lose(flight: Flight, now: Micros, sequence: number): void {
    flight.ring.markLost(sequence)
    if (sequence === flight.datagrams.probe) this.#probeFailed(flight, now)
  }

  #checkProbe(flight: Flight, now: Micros): void {
    const { ring, datagrams } = flight
    if (ring.holds(datagrams.probe) && ring.state(datagrams.probe) !== SACKED) return
    datagrams.probe = -1
    this.#mtu.probeAcked()
    this.#controller.onPacketSize(this.#mtu.size - HEADER_SIZE)
    this.#scheduleRaise(now)
  }

  /** The probe's payload goes out again without the padding that made it a probe. */
  #probeFailed(flight: Flight, now: Micros): void {
    flight.datagrams.probe = -1
    this.#mtu.probeLost()
    this.#scheduleRaise(now)
  }

  #scheduleRaise(now: Micros): void {
    const at = this.#mtu.raiseAt(now)
    if (at !== undefined) this.#timers.set(T_PATH_MTU, at)
  }

  #mtuTimedOut(size: number): void {
    const before = this.#mtu.size
    this.#mtu.timedOut(size)
    if (this.#mtu.size !== before) this.#controller.onPacketSize(this.#mtu.size - HEADER_SIZE)
  }

  #restartTimers(flight: Flight, now: Micros): void {
    if (flight.ring.count === 0) {
      this.#timers.clear(T_RETRANSMIT)
      this.#timers.clear(T_TAIL_PROBE)
      return
    }
    this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    this.#armTailProbe(flight, now)
  }

  #armTailProbe(flight: Flight, now: Micros): void {
    const { ring } = flight
    if (flight.tailProbed || ring.flying === 0 || ring.lost > 0 || this.rtt.smoothed === 0) {
      this.#timers.clear(T_TAIL_PROBE)
      return
    }
    const wait = 2 * this.rtt.smoothed + (ring.flying === 1 ? PEER_ACK_DELAY : 0)
    const at = now + Math.max(LEAST_TAIL_PROBE, Math.round(wait))
    if (at < this.#timers.at(T_RETRANSMIT)) this.#timers.set(T_TAIL_PROBE, at)
    else this.#timers.clear(T_TAIL_PROBE)
  }
}
