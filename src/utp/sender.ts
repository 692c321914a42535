import type { Micros } from '../core/machine.ts'
import type { CongestionController } from './congestion/controller.ts'
import { AckSample } from './congestion/controller.ts'
import { Datagrams } from './datagrams.ts'
import { LossDetector } from './loss.ts'
import { Pacer } from './pacer.ts'
import { HEADER_SIZE, type Packet } from './packet.ts'
import type { BlockPool } from './block-pool.ts'
import type { PathMtu } from './path-mtu.ts'
import { REORDER_LIMIT } from './receiver.ts'
import type { RttEstimator } from './rtt.ts'
import type { Scratch } from './scratch.ts'
import { SendBuffer } from './send-buffer.ts'
import { IN_FLIGHT, LOST, SACKED, SendRing } from './send-ring.ts'
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
  readonly ring: SendRing
  readonly rtt: RttEstimator
  /** BEP 29 `wnd_size` of the peer, bytes. */
  peerWindow = 0
  /** The FIN, and so everything before it, is acknowledged. */
  finished = false
  /** Retransmission timeouts in a row. */
  timeouts = 0
  retransmissions = 0
  lostPackets = 0
  readonly #buffer: SendBuffer
  readonly #controller: CongestionController
  readonly #mtu: PathMtu
  readonly #timers: Timers
  readonly #datagrams: Datagrams
  readonly #pacer = new Pacer()
  readonly #loss: LossDetector
  readonly #blocks: BlockPool
  readonly #limit: number
  #packetLimit = LIBUTP_REORDER_LIMIT
  #ending = false
  /** The packet sent into a closed window; −1 when none is. */
  #windowProbe = -1
  #windowProbeDue = false
  /** Packets that may leave whatever the window says: retransmissions that restart the clock, tail probes. */
  #forced = 0
  #tailProbed = false
  #windowLimited = false
  /** `lostBytes` of the loss detector when the controller last heard of it. */
  #lostBytesTold = 0
  /** Samples of packets sent before this speak of another path. */
  #pathSince: Micros = 0

  constructor(
    first: number,
    connectionId: number,
    limit: number,
    rtt: RttEstimator,
    controller: CongestionController,
    mtu: PathMtu,
    timers: Timers,
    scratch: Scratch,
    blocks: BlockPool,
  ) {
    this.ring = new SendRing(first)
    this.rtt = rtt
    this.#blocks = blocks
    this.#limit = limit
    this.#controller = controller
    this.#mtu = mtu
    this.#timers = timers
    this.#buffer = new SendBuffer(blocks)
    this.#datagrams = new Datagrams(this.ring, this.#buffer, scratch, connectionId)
    this.#loss = new LossDetector(this.ring, rtt)
  }

  /** Bytes that {@link write} would take. */
  get free(): number {
    const { length, waiting } = this.#buffer
    // What the peer holds beyond a hole takes memory, but is no reason to keep less ready.
    const room = Math.min(
      this.#limit - length,
      this.limit - waiting - this.ring.inFlight - this.ring.lostBytes,
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
    return Math.min(this.#limit, Math.ceil(Math.max(this.#blocks.ahead, wanted)))
  }

  get windowSize(): number {
    return this.#controller.window
  }

  get datagramSize(): number {
    return this.#mtu.size
  }

  get queued(): number {
    return this.#buffer.waiting
  }

  /** Only the FIN, if anything, is still to be acknowledged. */
  get allDataAcknowledged(): boolean {
    if (this.#buffer.waiting > 0) return false
    return this.ring.count === 0 || (this.ring.count === 1 && this.ring.first === this.#datagrams.fin)
  }

  /** @returns how many bytes were taken. */
  write(bytes: Uint8Array): number {
    const size = Math.min(bytes.length, this.free)
    if (size > 0) this.#buffer.push(size === bytes.length ? bytes : bytes.subarray(0, size))
    return size
  }

  end(): void {
    this.#ending = true
  }

  get ending(): boolean {
    return this.#ending
  }

  /** The peer says that it puts more packets back in order than libutp does. */
  allowPackets(reorderLimit: number): void {
    if (reorderLimit > 0) {
      this.#packetLimit = Math.min(reorderLimit, REORDER_LIMIT) - 1
      this.#loss.fullMasks = true
    }
  }

  get peerIsCapable(): boolean {
    return this.#loss.fullMasks
  }

  /** Whether `ack` can be an answer to what we sent; other packets are forged or from another life. */
  isPlausible(ack: number): boolean {
    const distance = sequenceDistance(ack, (this.ring.first - 1) & 0xffff)
    return distance <= this.ring.count && distance >= -STALE_ACKS
  }

  /** Takes the ack, the selective ack and the window of a packet in. `bytes` is its datagram. */
  handleAck(now: Micros, packet: Packet, bytes: Uint8Array, bare: boolean, reverseDelay: number): void {
    const ring = this.ring
    const loss = this.#loss
    const heldBefore = ring.inFlight + ring.lostBytes
    const firstBefore = ring.first
    loss.begin(this.#pathSince)
    ring.rate.begin()
    const newlyAcked = sequenceDistance(packet.ack, (ring.first - 1) & 0xffff)
    let arrived = 0
    for (let i = 0; i < newlyAcked; i++) {
      if (ring.first === this.#datagrams.fin) this.finished = true
      loss.delivered(now, ring.first)
      arrived += ring.size(ring.first)
      ring.shift()
    }
    if (arrived > 0) this.#buffer.release(arrived)
    loss.endCumulative()
    if (packet.sackLength > 0) loss.selectiveAcks(now, packet, bytes)
    if (this.#datagrams.probe >= 0) this.#checkProbe(now)
    const acked = heldBefore - ring.inFlight - ring.lostBytes
    if (bare && newlyAcked === 0 && packet.sackLength === 0 && packet.window === this.peerWindow) {
      loss.duplicateAck()
    }
    this.#updateWindow(now, packet.window)
    if (loss.anyDelivered) {
      if (loss.rttSample > 0) this.rtt.sample(loss.rttSample)
      ring.rate.finish(this.rtt.min)
      this.rtt.resetBackoff()
      this.#mtu.progress()
      this.timeouts = 0
      this.#tailProbed = false
      loss.advance(firstBefore)
      sample.now = now
      sample.acked = acked
      sample.lost = loss.lostBytes - this.#lostBytesTold
      this.#lostBytesTold = loss.lostBytes
      sample.inFlight = ring.inFlight
      sample.rtt = loss.rttSample
      sample.delivered = ring.rate.delivered
      sample.priorDelivered = ring.rate.priorDelivered
      sample.rate = ring.rate.rate
      sample.appLimited = ring.rate.sampleAppLimited
      sample.smoothedRtt = this.rtt.smoothed
      sample.delay = packet.timestampDifference
      sample.reverseDelay = reverseDelay
      sample.windowLimited = this.#windowLimited
      sample.recovering = loss.recovering && !loss.afterTimeout
      this.#controller.onAck(sample)
      this.#windowLimited = false
    }
    this.detectLoss(now)
    if (loss.anyDelivered) this.#restartTimers(now)
  }

  /** Marks what is lost by now and tells the controller (RFC 8985 §6.2 step 5). Also when the reordering window ends. */
  detectLoss(now: Micros): void {
    const loss = this.#loss
    const again = loss.detect(now)
    if (again === Infinity) this.#timers.clear(T_REORDER)
    else this.#timers.set(T_REORDER, again)
    this.#countLost(now)
  }

  /** The next datagram to send, without timestamp and ack; undefined when nothing may leave now. */
  poll(now: Micros): Uint8Array | undefined {
    const ring = this.ring
    const piece = this.#datagrams.nextPiece(this.#mtu.size)
    if (piece !== undefined) return piece
    if (ring.firstLost >= 0) {
      const sequence = ring.firstLost
      return this.#mayLeave(now, ring.size(sequence)) ? this.#sendAgain(now, sequence) : undefined
    }
    if (this.#buffer.waiting > 0) {
      const data = this.#pollNew(now)
      if (data !== undefined) return data
    } else if (!this.#ending) {
      if (ring.inFlight < this.#controller.window) ring.rate.markAppLimited(ring.inFlight)
    } else if (this.#datagrams.fin < 0 && ring.count <= this.#packetLimit) {
      return this.#sendFin(now)
    }
    if (this.#forced > 0 && ring.newestSent >= 0) {
      // A tail probe with nothing new to send: the last packet once more (RFC 8985 §7.3).
      return this.#sendAgain(now, ring.newestSent)
    }
    this.#forced = 0
    return undefined
  }

  /** Nothing came back for a retransmission timeout (RFC 6298 §5.4–5.6; BEP 29 "timeouts"). */
  retransmissionTimeout(now: Micros): void {
    const ring = this.ring
    if (ring.count === 0) return
    this.timeouts++
    this.rtt.backOff()
    this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    this.#timers.clear(T_TAIL_PROBE)
    this.#timers.clear(T_REORDER)
    const closed = this.peerWindow === 0
    const onlyProbe = ring.flying === 1 && ring.oldestSent === this.#datagrams.probe
    if (!closed && !onlyProbe) {
      this.#controller.onTimeout(now)
      this.#mtuTimedOut(this.#datagrams.size(ring.first))
    }
    while (ring.oldestSent >= 0) this.#lose(now, ring.oldestSent)
    // What the mask of a selective ack cannot reach may have arrived: only the oldest is sure to bring news.
    ring.sortLost()
    this.#loss.enterRecovery(now, true)
    this.#forced = 1
  }

  /** RFC 8985 §7.3: one packet beyond the window, new if there is one. */
  tailProbe(): void {
    if (this.ring.flying === 0 || this.ring.lost > 0) return
    this.#tailProbed = true
    this.#forced = 1
  }

  zeroWindowProbe(): void {
    this.#windowProbeDue = true
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
    this.#loss.reset()
    while (this.ring.oldestSent >= 0) this.#lose(now, this.ring.oldestSent)
    this.timeouts = 0
    this.#forced = this.ring.count > 0 ? 1 : 0
    if (this.ring.count > 0) this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    this.#timers.clear(T_TAIL_PROBE)
    this.#timers.clear(T_REORDER)
  }

  release(): void {
    this.#buffer.clear()
    this.ring.release()
  }

  #pollNew(now: Micros): Uint8Array | undefined {
    const ring = this.ring
    if (ring.count >= this.#packetLimit) {
      ring.rate.markAppLimited(ring.inFlight)
      return undefined
    }
    const full = this.#mtu.size - HEADER_SIZE
    let size = Math.min(this.#buffer.waiting, full)
    const room = this.peerWindow - ring.inFlight - ring.lostBytes
    if (size > room && !this.#windowProbeDue) {
      ring.rate.markAppLimited(ring.inFlight)
      if (ring.count > 0) return undefined
      if (room <= 0) {
        if (!this.#timers.isSet(T_ZERO_WINDOW)) this.#timers.set(T_ZERO_WINDOW, now + this.rtt.timeout)
        return undefined
      }
      size = room
    }
    if (!this.#windowProbeDue && !this.#mayLeave(now, size)) return undefined
    if (this.#windowProbeDue) {
      this.#windowProbeDue = false
      this.#windowProbe = ring.next
    }
    const probe =
      size === full && !this.#loss.recovering && this.#datagrams.probe < 0 ? this.#mtu.candidate : 0
    if (probe > 0) {
      this.#mtu.probeSent(probe)
      this.#datagrams.probe = ring.next
      this.#datagrams.probePadding = probe - full - HEADER_SIZE
    }
    return this.#sendNew(now, size)
  }

  #sendFin(now: Micros): Uint8Array {
    this.#datagrams.fin = this.ring.next
    return this.#sendNew(now, 0)
  }

  #sendNew(now: Micros, size: number): Uint8Array {
    const { ring } = this
    const sequence = ring.next
    if (ring.count === 0) this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    ring.push(this.#buffer.take(size), size, now)
    this.#left(now, size)
    return this.#datagrams.build(sequence)
  }

  #sendAgain(now: Micros, sequence: number): Uint8Array {
    this.ring.sentAgain(sequence, now)
    this.retransmissions++
    this.#left(now, this.ring.size(sequence))
    // Not waiting for the answer to a probe: it goes out again as any other.
    if (sequence === this.#datagrams.probe) this.#probeFailed(now)
    if (this.#datagrams.size(sequence) <= this.#mtu.size || !this.peerIsCapable)
      return this.#datagrams.build(sequence)
    this.#datagrams.cut(sequence)
    return this.#datagrams.nextPiece(this.#mtu.size) ?? this.#datagrams.build(sequence)
  }

  #left(now: Micros, size: number): void {
    if (this.#forced > 0) this.#forced--
    this.#pacer.sent(size)
    this.#armTailProbe(now)
  }

  #mayLeave(now: Micros, size: number): boolean {
    if (this.#forced > 0) return true
    const { inFlight } = this.ring
    if (inFlight > 0 && inFlight + size > this.#controller.window) {
      this.#windowLimited = true
      return false
    }
    const wait = this.#pacer.delay(now, this.#controller.pacingRate, size)
    if (wait === 0) return true
    this.#windowLimited = true
    this.#timers.set(T_PACING, now + wait)
    return false
  }

  #updateWindow(now: Micros, window: number): void {
    const opened = this.peerWindow === 0 && window > 0
    this.peerWindow = window
    if (!opened) return
    this.#timers.clear(T_ZERO_WINDOW)
    this.#windowProbeDue = false
    const probe = this.#windowProbe
    this.#windowProbe = -1
    // The peer had no room for the probe: it is lost, and nobody is to blame.
    if (probe >= 0 && this.ring.holds(probe) && this.ring.state(probe) === IN_FLIGHT) {
      this.#lose(now, probe)
    }
  }

  /** One loss event for the controller, however many packets it took (RFC 6675 §5). */
  #countLost(now: Micros): void {
    const loss = this.#loss
    let lost = loss.takeLost()
    if (lost === 0) return
    if (this.#datagrams.probe >= 0 && this.ring.state(this.#datagrams.probe) === LOST) {
      // Its size was the reason, not the load of the path.
      this.#probeFailed(now)
      if (--lost === 0) return
    }
    this.lostPackets += lost
    if (loss.recovering) return
    loss.enterRecovery(now, false)
    this.#controller.onLoss(now, this.ring.inFlight)
    // RFC 6675 §5 (4.3): the first retransmission does not wait for the window.
    this.#forced = 1
  }

  #lose(now: Micros, sequence: number): void {
    this.ring.markLost(sequence)
    if (sequence === this.#datagrams.probe) this.#probeFailed(now)
  }

  #checkProbe(now: Micros): void {
    if (this.ring.holds(this.#datagrams.probe) && this.ring.state(this.#datagrams.probe) !== SACKED) return
    this.#datagrams.probe = -1
    this.#mtu.probeAcked()
    this.#controller.onPacketSize(this.#mtu.size - HEADER_SIZE)
    this.#scheduleRaise(now)
  }

  /** The probe's payload goes out again without the padding that made it a probe. */
  #probeFailed(now: Micros): void {
    this.#datagrams.probe = -1
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

  #restartTimers(now: Micros): void {
    if (this.ring.count === 0) {
      this.#timers.clear(T_RETRANSMIT)
      this.#timers.clear(T_TAIL_PROBE)
      return
    }
    this.#timers.set(T_RETRANSMIT, now + this.rtt.timeout)
    this.#armTailProbe(now)
  }

  #armTailProbe(now: Micros): void {
    const ring = this.ring
    if (this.#tailProbed || ring.flying === 0 || ring.lost > 0 || this.rtt.smoothed === 0) {
      this.#timers.clear(T_TAIL_PROBE)
      return
    }
    const wait = 2 * this.rtt.smoothed + (ring.flying === 1 ? PEER_ACK_DELAY : 0)
    const at = now + Math.max(LEAST_TAIL_PROBE, Math.round(wait))
    if (at < this.#timers.at(T_RETRANSMIT)) this.#timers.set(T_TAIL_PROBE, at)
    else this.#timers.clear(T_TAIL_PROBE)
  }
}
