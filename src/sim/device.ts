import { familyOf } from '../core/address.ts'
import type { Micros } from '../core/machine.ts'
import type { Pipe } from './link.ts'
import { icmpAbout } from './packet.ts'
import type { IcmpError, Packet } from './packet.ts'
import type { Trace } from './trace.ts'

/** Where a device meets a wire. */
export interface Interface {
  readonly device: Device
  /** The device's own addresses on this wire. */
  addresses: string[]
  /** What leaves here; set when the link is made. */
  pipe: Pipe | undefined
  /** The device at the other end. */
  peer: Device | undefined
}

/** Anything with wires: a host, a router, the core. */
export abstract class Device {
  readonly name: string
  /** The order in which the world made it. */
  readonly index: number
  readonly interfaces: Interface[] = []
  /** Towards the core: the default route. */
  uplink: Interface | undefined
  protected readonly trace: Trace
  /** Addresses below this device and the wire that leads there. */
  protected readonly routes = new Map<string, Interface>()

  constructor(name: string, index: number, trace: Trace) {
    this.name = name
    this.index = index
    this.trace = trace
  }

  abstract receive(now: Micros, from: Interface, packet: Packet): void

  /** Every address that devices above reach through this one. */
  abstract reachable(): Iterable<string>

  /** A packet of the device's own, or one that it has finished with: out by the route of its destination. */
  send(now: Micros, packet: Packet): void {
    const out = this.routeTo(packet.destination.address)
    if (out?.pipe) out.pipe.send(now, out, packet)
    else this.trace.drop(now, this, packet, 'no-route')
  }

  routeTo(address: string): Interface | undefined {
    return this.routes.get(address) ?? this.uplink
  }

  /** A packet did not fit on the wire at `out`. */
  tooBig(now: Micros, out: Interface, packet: Packet, mtu: number): void {
    this.sendError(now, out, packet, { type: 'too-big', mtu })
  }

  /** Tells the sender of `packet`, from this device's address at `at` (or any, where it has none). */
  protected sendError(now: Micros, at: Interface, packet: Packet, error: IcmpError): void {
    const family = familyOf(packet.source.address)
    const own = [at, ...this.interfaces]
      .flatMap((one) => one.addresses)
      .find((address) => familyOf(address) === family)
    const icmp = own === undefined ? undefined : icmpAbout(packet, own, error)
    if (icmp) this.send(now, icmp)
  }

  /** Learns that `addresses` lie behind `by`, and tells the device above unless this one hides what is inside. */
  learn(addresses: Iterable<string>, by: Interface): void {
    const news = [...addresses]
    for (const address of news) this.routes.set(address, by)
    this.#above((above, at) => above.learn(this.announced(news), at))
  }

  forget(addresses: Iterable<string>): void {
    const gone = [...addresses]
    for (const address of gone) this.routes.delete(address)
    this.#above((above) => above.forget(this.announced(gone)))
  }

  /** Which of the addresses inside are told to the device above: a NAT tells none. */
  protected announced(inside: string[]): string[] {
    return inside
  }

  #above(tell: (above: Device, at: Interface) => void): void {
    const above = this.uplink?.peer
    const at = above?.interfaces.find((one) => one.peer === this)
    if (above && at) tell(above, at)
  }
}
