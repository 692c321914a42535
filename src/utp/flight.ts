import type { BlockPool } from './block-pool.ts'
import { Datagrams } from './datagrams.ts'
import { LossDetector } from './loss.ts'
import type { RttEstimator } from './rtt.ts'
import type { Scratch } from './scratch.ts'
import { SendBuffer } from './send-buffer.ts'
import { SendRing } from './send-ring.ts'

/** For so many connections that begin and end to send within a turn of the event loop. */
const MOST_SPARE = 64
/** Packets that the scoreboards of all spare ones have room for together: 1 MiB. */
const MOST_SPARE_PACKETS = 16_384

/**
 * What a connection needs only while it has bytes that wait to be sent or acknowledged. An idle one has none, which is
 * two thirds of what its sender would hold otherwise.
 */
export class Flight {
  readonly ring = new SendRing()
  readonly buffer: SendBuffer
  readonly datagrams: Datagrams
  readonly loss = new LossDetector(this.ring)
  /** The packet sent into a closed window; −1 when none is. */
  windowProbe = -1
  windowProbeDue = false
  /** Packets that may leave whatever the window says: retransmissions that restart the clock, tail probes. */
  forced = 0
  tailProbed = false
  windowLimited = false

  constructor(scratch: Scratch, blocks: BlockPool) {
    this.buffer = new SendBuffer(blocks)
    this.datagrams = new Datagrams(this.ring, this.buffer, scratch)
  }

  /** All is as new, for a connection whose next new packet is `first`. */
  begin(first: number, connectionId: number, rtt: RttEstimator): void {
    this.ring.begin(first)
    this.datagrams.begin(connectionId)
    this.loss.reset(rtt)
    this.windowProbe = -1
    this.windowProbeDue = this.tailProbed = this.windowLimited = false
    this.forced = 0
  }
}

/** The flights of a machine go round between its connections: a lone message makes none, nor the garbage of one. */
export class FlightPool {
  readonly blocks: BlockPool
  readonly #scratch: Scratch
  /** Bounded by {@link MOST_SPARE}. */
  readonly #spare: Flight[] = []
  #packets = 0

  constructor(scratch: Scratch, blocks: BlockPool) {
    this.#scratch = scratch
    this.blocks = blocks
  }

  take(): Flight {
    const flight = this.#spare.pop()
    if (flight === undefined) return new Flight(this.#scratch, this.blocks)
    this.#packets -= flight.ring.capacity
    return flight
  }

  /** Nobody looks at `flight` any more. */
  recycle(flight: Flight): void {
    // Otherwise it is in order: see SendBuffer.release.
    if (flight.buffer.length > 0) flight.buffer.clear()
    if (this.#spare.length === MOST_SPARE) return
    if (this.#packets + flight.ring.capacity > MOST_SPARE_PACKETS) flight.ring.release()
    this.#packets += flight.ring.capacity
    this.#spare.push(flight)
  }
}
