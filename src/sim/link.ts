import type { Micros } from '../core/machine.ts'
import { SECOND } from '../core/machine.ts'
import { UsageError } from '../core/errors.ts'
import type { Device, Interface } from './device.ts'
import type { EventQueue } from './events.ts'
import { sizeOf, withTtl } from './packet.ts'
import type { Packet } from './packet.ts'
import type { SimRng } from './rng.ts'
import type { Trace } from './trace.ts'

/** How one direction of a wire treats packets. Everything left out is perfect: no delay, no loss, no limit. */
export interface LinkOptions {
  /** Microseconds from one end to the other. */
  readonly delay?: Micros
  /** Up to so many microseconds more, uniform, per packet; order is kept. */
  readonly jitter?: Micros
  /** Probability of loss (0–1, independent), or bursts. */
  readonly loss?: number | GilbertElliott
  /** Probability (0–1) that a packet arrives twice. */
  readonly duplicate?: number
  /** With this probability a packet is held back `delay` microseconds, so that those behind it overtake. */
  readonly reorder?: { readonly probability: number; readonly delay: Micros }
  /** Bits per second. Needed for a queue to build up. */
  readonly rate?: number
  /** What fits in the queue before the wire, the packet being sent included; more is dropped at the tail. Default: 256 packets. */
  readonly queue?: { readonly bytes?: number; readonly packets?: number }
  /**
   * The largest packet in bytes, IP header included. Larger ones are dropped, and with `tooBig: 'icmp'` (the default)
   * the sender is told; `'drop'` makes a black hole (RFC 8899 §1.1).
   */
  readonly mtu?: number
  readonly tooBig?: 'icmp' | 'drop'
  /** Routers on the way that are not simulated one by one: each takes one from the TTL. */
  readonly hops?: number
}

/** Loss in bursts (Gilbert 1960, Elliott 1963): a good and a bad state, with a loss probability each. */
export interface GilbertElliott {
  /** Probability per packet to go from good to bad, and back. The mean burst is 1 / `badToGood` packets. */
  readonly goodToBad: number
  readonly badToGood: number
  /** Loss probability in each state; 0 and 1 when left out. */
  readonly good?: number
  readonly bad?: number
}

/** Both directions of a wire between two devices. */
export class Link {
  readonly a: Interface
  readonly b: Interface
  readonly #pipes: readonly [Pipe, Pipe]

  /** @internal use World.link */
  constructor(a: Interface, b: Interface, aToB: Pipe, bToA: Pipe) {
    this.a = a
    this.b = b
    this.#pipes = [aToB, bToA]
  }

  /** Cuts the wire: what is under way still arrives, everything sent from now on is lost. */
  down(): void {
    for (const pipe of this.#pipes) pipe.isDown = true
  }

  up(): void {
    for (const pipe of this.#pipes) pipe.isDown = false
  }

  /** Changes both directions from now on, or only the one that leaves `from`. */
  change(options: LinkOptions, from?: Device): void {
    const [aToB, bToA] = this.#pipes
    if (from !== this.b.device) aToB.change(options)
    if (from !== this.a.device) bToA.change(options)
  }
}

/** One direction. */
export class Pipe {
  isDown = false
  readonly #to: Interface
  readonly #events: EventQueue
  readonly #trace: Trace
  readonly #rng: SimRng
  #options: LinkOptions
  #isBad = false
  #lastArrival: Micros = 0
  /** When the wire has sent what it was given; only with a rate. */
  #idleAt: Micros = 0
  // Departure times and sizes of queued packets, oldest at #head. Bounded by the queue option.
  #queue: { at: Micros; size: number }[] = []
  #head = 0
  #queuedBytes = 0

  constructor(options: LinkOptions, to: Interface, events: EventQueue, trace: Trace, rng: SimRng) {
    this.#options = checked(options)
    this.#to = to
    this.#events = events
    this.#trace = trace
    this.#rng = rng
  }

  change(options: LinkOptions): void {
    this.#options = checked({ ...this.#options, ...options })
  }

  send(now: Micros, from: Interface, packet: Packet): void {
    const { mtu, tooBig, hops = 0 } = this.#options
    if (this.isDown) {
      this.#trace.drop(now, from.device, packet, 'link-down')
      return
    }
    if (mtu !== undefined && sizeOf(packet) > mtu) {
      this.#trace.drop(now, from.device, packet, 'mtu')
      if (tooBig !== 'drop') from.device.tooBig(now, from, packet, mtu)
      return
    }
    if (packet.ttl <= hops) {
      this.#trace.drop(now, from.device, packet, 'ttl')
      return
    }
    const departure = this.#enqueue(now, packet)
    if (departure === undefined) {
      this.#trace.drop(now, from.device, packet, 'queue-full')
      return
    }
    if (this.#isLost()) {
      this.#trace.drop(now, from.device, packet, 'loss')
      return
    }
    const arriving = hops > 0 ? withTtl(packet, packet.ttl - hops) : packet
    this.#deliver(departure, arriving)
    if (this.#rng.chance(this.#options.duplicate ?? 0)) this.#deliver(departure, arriving)
  }

  fire(now: Micros, packet: Packet): void {
    this.#to.device.receive(now, this.#to, packet)
  }

  /** When the last bit leaves, or undefined when the queue is full. */
  #enqueue(now: Micros, packet: Packet): Micros | undefined {
    const { rate, queue = { packets: 256 } } = this.#options
    if (rate === undefined) return now
    for (let oldest = this.#queue[this.#head]; oldest && oldest.at <= now; oldest = this.#queue[this.#head]) {
      this.#queuedBytes -= oldest.size
      this.#head++
    }
    if (this.#head > 512) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
    const size = sizeOf(packet)
    const isFull =
      this.#queuedBytes + size > (queue.bytes ?? Infinity) ||
      this.#queue.length - this.#head >= (queue.packets ?? Infinity)
    if (isFull) return undefined
    const at = Math.max(now, this.#idleAt) + (size * 8 * SECOND) / rate
    this.#idleAt = at
    this.#queue.push({ at, size })
    this.#queuedBytes += size
    return at
  }

  #isLost(): boolean {
    const { loss = 0 } = this.#options
    if (typeof loss === 'number') return this.#rng.chance(loss)
    if (this.#rng.chance(this.#isBad ? loss.badToGood : loss.goodToBad)) this.#isBad = !this.#isBad
    return this.#rng.chance(this.#isBad ? (loss.bad ?? 1) : (loss.good ?? 0))
  }

  #deliver(departure: Micros, packet: Packet): void {
    const { delay = 0, jitter = 0, reorder } = this.#options
    let at = Math.ceil(departure) + delay
    if (jitter > 0) at += this.#rng.between(0, jitter)
    if (reorder && this.#rng.chance(reorder.probability)) {
      at += reorder.delay // and nobody waits for it
    } else {
      at = Math.max(at, this.#lastArrival)
      this.#lastArrival = at
    }
    this.#events.push(at, this, packet)
  }
}

function checked(options: LinkOptions): LinkOptions {
  for (const [name, value] of Object.entries(options)) {
    if (typeof value === 'number' && !(value >= 0)) throw wrong(name, value, 'must be 0 or more')
  }
  const { loss, duplicate, reorder, rate, delay, jitter } = options
  const burst = typeof loss === 'object' ? [loss.goodToBad, loss.badToGood, loss.good, loss.bad] : [loss]
  for (const p of [...burst, duplicate, reorder?.probability]) {
    if (p !== undefined && !(p >= 0 && p <= 1)) throw wrong('probability', p, 'must be 0–1')
  }
  if (rate === 0) throw wrong('rate', rate, 'must be above 0; cut the wire with down()')
  for (const time of [delay, jitter, reorder?.delay]) {
    if (time !== undefined && !Number.isInteger(time)) throw wrong('time', time, 'must be whole microseconds')
  }
  return options
}

function wrong(name: string, value: number, what: string): UsageError {
  return new UsageError('ERR_NATWORK_SIM_LINK', `link ${name} ${value}: ${what}`)
}
