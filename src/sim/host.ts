import type { Micros } from '../core/machine.ts'
import { familyOf } from '../core/address.ts'
import type { SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { Device } from './device.ts'
import type { Interface } from './device.ts'
import type { EventQueue } from './events.ts'
import { canonicalAddress, DEFAULT_TTL } from './packet.ts'
import type { IcmpPacket, Packet, UdpPacket } from './packet.ts'
import type { SimRng } from './rng.ts'
import { SimSocket } from './socket.ts'
import type { Trace } from './trace.ts'

export interface HostOptions {
  /** IP literals of the host's first wire: IPv4, IPv6 or both. */
  readonly addresses: readonly string[]
  /** The host's own clock: `offset` microseconds ahead of the world's, and `ppm` parts per million too fast. */
  readonly clock?: { readonly offset?: Micros; readonly ppm?: number }
  /** Whether the host answers datagrams to unbound ports with ICMP "port unreachable". Default: true. */
  readonly icmp?: boolean
}

export interface BindOptions {
  /** 1–65535; absent or 0: a free one of 49152–65535. */
  readonly port?: number
  /** One of the host's addresses; absent: all of them, both families. */
  readonly address?: string
}

/** A machine with UDP sockets. Made by World.host. */
export class Host extends Device {
  /** This host's own randomness: the same for the same seed and name, whatever else the world holds. */
  readonly rng: SimRng
  readonly #events: EventQueue
  readonly #sockets = new Map<number, SimSocket[]>()
  readonly #sendsIcmp: boolean
  readonly #offset: Micros
  readonly #speed: number
  readonly #now: () => Micros
  readonly #nextId: () => number

  /** @internal use World.host */
  constructor(
    name: string,
    index: number,
    options: HostOptions,
    world: { trace: Trace; events: EventQueue; rng: SimRng; now: () => Micros; nextId: () => number },
  ) {
    super(name, index, world.trace)
    this.rng = world.rng
    this.#events = world.events
    this.#now = world.now
    this.#nextId = world.nextId
    this.#sendsIcmp = options.icmp ?? true
    this.#offset = options.clock?.offset ?? 0
    this.#speed = 1 + (options.clock?.ppm ?? 0) / 1e6
  }

  /** All its addresses. */
  get addresses(): readonly string[] {
    return this.interfaces.flatMap((one) => one.addresses)
  }

  /** Microseconds on the host's own clock. */
  now(): Micros {
    return this.localTime(this.#now())
  }

  /** @throws {UsageError} `ERR_NATWORK_SIM_BIND`: the port is in use, or the address is not the host's. */
  bind(options: BindOptions = {}): SimSocket {
    const address = options.address === undefined ? undefined : canonicalAddress(options.address)
    if (address !== undefined && !this.addresses.includes(address)) {
      throw bindError(`${this.name} has no address ${address}; it has ${this.addresses.join(', ') || 'none'}`)
    }
    const port = options.port || this.#freePort()
    if (!Number.isInteger(port) || port < 1 || port > 65535) throw bindError(`port ${port}: must be 1–65535`)
    const others = this.#sockets.get(port) ?? []
    if (others.some((one) => one.boundAddress === undefined || one.boundAddress === address || !address)) {
      throw bindError(`${this.name} has a socket on port ${port} already`)
    }
    const socket = new SimSocket(this, port, address, this.#events, () => {
      const left = (this.#sockets.get(port) ?? []).filter((one) => one !== socket)
      if (left.length > 0) this.#sockets.set(port, left)
      else this.#sockets.delete(port)
    })
    this.#sockets.set(port, [...others, socket])
    return socket
  }

  /**
   * The host gets another address in place of `from` (default: its first of that family), as when a laptop changes
   * networks without moving its wire. Sockets bound to all addresses go on with the new one.
   */
  rebind(to: string, from?: string): void {
    const next = canonicalAddress(to)
    const old = from ?? this.addresses.find((one) => familyOf(one) === familyOf(next))
    const at = this.interfaces.find((one) => old !== undefined && one.addresses.includes(old))
    if (at === undefined || old === undefined) {
      throw new UsageError(
        'ERR_NATWORK_SIM_ADDRESS',
        `${this.name} has no address ${from ?? 'of that family'} to change`,
      )
    }
    at.addresses = at.addresses.map((one) => (one === old ? next : one))
    const above = at.peer?.interfaces.find((one) => one.peer === this)
    if (above) {
      above.device.forget([old])
      above.device.learn([next], above)
    }
  }

  /** Puts a datagram on the wire as it is, from any source: what an attacker does who forges addresses. */
  inject(source: SocketAddress, destination: SocketAddress, data: Uint8Array, ttl = DEFAULT_TTL): void {
    this.#sendUdp(source, destination, data, ttl)
  }

  override reachable(): Iterable<string> {
    return this.addresses
  }

  override send(now: Micros, packet: Packet): void {
    if (!this.#owns(packet.destination.address)) {
      super.send(now, packet)
      return
    }
    const self: Interface = { device: this, addresses: [], pipe: undefined, peer: this }
    this.#events.push(now, { fire: (at) => this.receive(at, self, packet) }, undefined)
  }

  override receive(now: Micros, from: Interface, packet: Packet): void {
    const { address, port } = packet.destination
    if (!this.#owns(address)) {
      this.trace.drop(now, this, packet, 'no-route')
      return
    }
    if (packet.protocol === 'icmp') {
      this.#receiveIcmp(now, packet)
      return
    }
    const socket = this.#socketAt(address, port)
    if (socket) {
      if (socket.receive(now, packet)) this.trace.deliver(now, this, packet)
      else this.trace.drop(now, this, packet, 'unclaimed')
      socket.drain()
      return
    }
    this.trace.drop(now, this, packet, 'no-socket')
    if (this.#sendsIcmp) this.sendError(now, from, packet, { type: 'port-unreachable' })
  }

  /** @internal */
  transmit(socket: SimSocket, destination: SocketAddress, data: Uint8Array, ttl: number): void {
    const address = socket.boundAddress ?? this.#sourceFor(destination.address)
    const source = { address: address ?? '', port: socket.port }
    if (address === undefined) {
      const packet = this.#packet(source, destination, data, ttl)
      this.trace.drop(this.#now(), this, packet, 'no-source-address')
    } else {
      this.#sendUdp(source, destination, data, ttl)
    }
  }

  /** @internal world time → the host's */
  localTime(at: Micros): Micros {
    return this.#speed === 1 ? at + this.#offset : Math.floor(at * this.#speed) + this.#offset
  }

  /** @internal the host's time → the world's, never too early */
  worldTime(at: Micros): Micros {
    if (this.#speed === 1) return at - this.#offset
    const world = Math.ceil((at - this.#offset) / this.#speed)
    return this.localTime(world) < at ? world + 1 : world
  }

  /** @internal */
  get worldNow(): Micros {
    return this.#now()
  }

  #sendUdp(source: SocketAddress, destination: SocketAddress, data: Uint8Array, ttl: number): void {
    const now = this.#now()
    const packet = this.#packet(source, destination, data, ttl)
    this.trace.send(now, this, packet)
    if (this.#owns(destination.address)) {
      this.send(now, packet)
      return
    }
    const out = this.interfaces.find((one) => one.addresses.includes(source.address)) ?? this.uplink
    if (out?.pipe) out.pipe.send(now, out, packet)
    else this.trace.drop(now, this, packet, 'no-route')
  }

  #packet(source: SocketAddress, destination: SocketAddress, data: Uint8Array, ttl: number): UdpPacket {
    return { protocol: 'udp', id: this.#nextId(), source, destination, ttl, data }
  }

  #owns(address: string): boolean {
    for (const one of this.interfaces) if (one.addresses.includes(address)) return true
    return false
  }

  #sourceFor(destination: string): string | undefined {
    if (this.#owns(destination)) return destination
    const family = familyOf(destination)
    for (const one of this.interfaces) {
      for (const address of one.addresses) if (familyOf(address) === family) return address
    }
    return undefined
  }

  #socketAt(address: string, port: number): SimSocket | undefined {
    return this.#sockets
      .get(port)
      ?.find((one) => one.boundAddress === undefined || one.boundAddress === address)
  }

  #receiveIcmp(now: Micros, packet: IcmpPacket): void {
    const { source, destination } = packet.about
    const socket = this.#socketAt(source.address, source.port)
    if (!socket) {
      this.trace.drop(now, this, packet, 'no-socket')
      return
    }
    this.trace.deliver(now, this, packet)
    socket.onIcmp?.(packet.error, destination)
  }

  #freePort(): number {
    for (let tries = 0; tries < 1000; tries++) {
      const port = this.rng.between(49152, 65535) // RFC 6335 §6: the dynamic ports
      if (!this.#sockets.has(port)) return port
    }
    throw bindError(`${this.name} has no free port left`)
  }
}

function bindError(message: string): UsageError {
  return new UsageError('ERR_NATWORK_SIM_BIND', message)
}
