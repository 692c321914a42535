import type { Machine, Micros, Path, Transmit } from '../core/machine.ts'
import type { SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import type { EventQueue } from './events.ts'
import type { Host } from './host.ts'
import { DEFAULT_TTL } from './packet.ts'
import type { IcmpError, UdpPacket } from './packet.ts'

/** A machine on a socket. */
export interface Attachment {
  /** Drains the machine: call it after every mutation from outside (a `connect`, a `write`, …). */
  wake(): void
  /** The machine gets no more datagrams or timeouts. */
  detach(): void
}

interface Driven {
  readonly machine: Machine<unknown>
  readonly onEvent: (event: unknown) => void
}

/**
 * A UDP socket of a simulated host. It drives machines by the drain contract (core/machine.ts), or plain callbacks:
 * set `onMessage` and call `send`.
 */
export class SimSocket {
  readonly host: Host
  readonly port: number
  /** @internal */
  readonly boundAddress: string | undefined
  /** Datagrams that no machine claimed. */
  onMessage: ((data: Uint8Array, from: SocketAddress) => void) | undefined
  /** The network's word about a datagram sent to `to`: what a real socket reports as ECONNREFUSED or EMSGSIZE. */
  onIcmp: ((error: IcmpError, to: SocketAddress) => void) | undefined
  readonly #events: EventQueue
  readonly #release: () => void
  #machines: Driven[] = []
  #isOpen = true
  #isDraining = false
  #wokenWhileDraining = false
  /** When the earliest scheduled alarm rings (world time). */
  #alarmAt: Micros = Infinity
  #ringsNow = 0
  #lastRing: Micros = -1

  /** @internal use Host.bind */
  constructor(
    host: Host,
    port: number,
    boundAddress: string | undefined,
    events: EventQueue,
    release: () => void,
  ) {
    this.host = host
    this.port = port
    this.boundAddress = boundAddress
    this.#events = events
    this.#release = release
  }

  /** Where peers on the same wire reach this socket: the bound address, or the host's first. */
  get address(): SocketAddress {
    return { address: this.boundAddress ?? this.host.addresses[0] ?? '', port: this.port }
  }

  /** Microseconds on the host's clock: what machines are told. */
  now(): Micros {
    return this.host.now()
  }

  /**
   * Machines are asked in the order they were attached; the first that claims a datagram gets it. The machine is
   * drained at once.
   */
  attach<Event>(machine: Machine<Event>, onEvent?: (event: Event) => void): Attachment {
    const driven: Driven = {
      machine,
      onEvent: (event) => onEvent?.(event as Event),
    }
    this.#machines = [...this.#machines, driven]
    this.drain()
    return {
      wake: () => this.drain(),
      detach: () => {
        this.#machines = this.#machines.filter((one) => one !== driven)
      },
    }
  }

  /** Sends one datagram; `data` is copied. `ttl` is 1–255 (default 64). */
  send(data: Uint8Array, to: SocketAddress, ttl = DEFAULT_TTL): void {
    if (!this.#isOpen)
      throw new UsageError('ERR_NATWORK_SIM_CLOSED', `${this.host.name}: the socket is closed`)
    this.host.transmit(this, to, data.slice(), ttl)
  }

  /** A datagram that a `Carrier` received for this port: offered to the machines as if the network had brought it. */
  deliver(path: Path, data: Uint8Array): void {
    if (this.#isOpen && this.#offer(this.now(), path, data)) this.drain()
  }

  close(): void {
    this.#isOpen = false
    this.#machines = []
    this.#release()
  }

  /** @internal false when nobody took it */
  receive(worldNow: Micros, packet: UdpPacket): boolean {
    if (this.#offer(this.host.localTime(worldNow), { remote: packet.source }, packet.data)) return true
    if (!this.onMessage) return false
    this.onMessage(packet.data, packet.source)
    return true
  }

  #offer(now: Micros, path: Path, data: Uint8Array): boolean {
    return this.#machines.some(({ machine }) => machine.handleDatagram(now, path, data))
  }

  /** @internal the alarm */
  fire(worldNow: Micros, at: Micros): void {
    if (at !== this.#alarmAt) return // a later decision overtook it
    this.#alarmAt = Infinity
    this.#guard(worldNow)
    const now = this.host.localTime(worldNow)
    for (const { machine } of this.#machines) {
      const deadline = machine.pollTimeout()
      if (deadline && deadline.at <= now) machine.handleTimeout(now)
    }
    this.drain()
  }

  /** @internal every transmit, then every event, of every machine; then the next deadline */
  drain(): void {
    if (this.#isDraining) {
      // An event handler called wake(): the loop below goes round once more.
      this.#wokenWhileDraining = true
      return
    }
    this.#isDraining = true
    try {
      do for (const driven of this.#machines) this.#drainOne(driven)
      while (this.#takeWoken())
    } finally {
      this.#isDraining = false
    }
    this.#schedule()
  }

  #takeWoken(): boolean {
    const woken = this.#wokenWhileDraining
    this.#wokenWhileDraining = false
    return woken
  }

  #drainOne({ machine, onEvent }: Driven): void {
    const now = this.now()
    for (let out = machine.pollTransmit(now); out; out = machine.pollTransmit(now)) this.#transmit(out)
    for (let event = machine.pollEvent(); event !== undefined; event = machine.pollEvent()) {
      onEvent(event)
      // What the application did in its handler counts as a mutation: drain what came of it.
      for (let out = machine.pollTransmit(now); out; out = machine.pollTransmit(now)) this.#transmit(out)
    }
  }

  #transmit(transmit: Transmit): void {
    const { path, data, ttl = DEFAULT_TTL } = transmit
    if (path.via !== undefined) path.via.send(this.now(), transmit)
    else if (this.#isOpen) this.host.transmit(this, path.remote, data.slice(), ttl)
  }

  #schedule(): void {
    let at = Infinity
    for (const { machine } of this.#machines) at = Math.min(at, machine.pollTimeout()?.at ?? Infinity)
    if (at === Infinity) return
    const ring = Math.max(this.host.worldTime(at), this.host.worldNow)
    // An alarm that rings too early finds nothing due and sets the next: cheaper than taking it out of the queue.
    if (ring >= this.#alarmAt) return
    this.#alarmAt = ring
    this.#events.push(ring, this, ring)
  }

  /** A deadline that stays in the past would ring for ever without time going on. */
  #guard(worldNow: Micros): void {
    if (worldNow !== this.#lastRing) {
      this.#lastRing = worldNow
      this.#ringsNow = 0
    } else if (++this.#ringsNow > 10_000) {
      const reasons = this.#machines.map(({ machine }) => machine.pollTimeout()?.reason ?? 'none')
      throw new UsageError(
        'ERR_NATWORK_SIM_STUCK',
        `a machine on ${this.host.name}:${this.port} keeps asking for a deadline that has passed (${reasons.join(', ')}): handleTimeout must move it`,
      )
    }
  }
}
