import { familyOf } from '../core/address.ts'
import type { SocketAddress } from '../core/address.ts'
import type { Micros } from '../core/machine.ts'
import { Device } from './device.ts'
import type { Interface } from './device.ts'
import type { NetfilterRules, RouterSpec } from './kinds.ts'
import { BehaviourNat } from './nat/behaviour.ts'
import { Nat64 } from './nat/nat64.ts'
import { Netfilter } from './nat/netfilter.ts'
import type { Translator } from './nat/translator.ts'
import { withTtl } from './packet.ts'
import type { IcmpPacket, Packet, UdpPacket } from './packet.ts'
import { extract } from './prefix64.ts'
import type { SimRng } from './rng.ts'
import type { Trace } from './trace.ts'

/** A router between clients and the core: NAT, firewall, or both. Made by World.router and World.site. */
export class Router extends Device {
  readonly spec: RouterSpec
  /** The socket that a DMZ or a fixed port forward leads to (AGENT_HOST and AGENT_PORT of the rule sets). */
  agent: SocketAddress | undefined
  readonly #nat: Translator
  readonly #firewall: Translator

  /** @internal use World.router */
  constructor(name: string, index: number, spec: RouterSpec, trace: Trace, rng: SimRng) {
    super(name, index, trace)
    this.spec = spec
    const outer = (): readonly string[] => this.uplink?.addresses ?? []
    const outer4 = (): readonly string[] => outer().filter((one) => familyOf(one) === 4)
    const agent = (): SocketAddress | undefined => this.agent
    // IPv6 is never translated: it passes a stateful firewall (RFC 6092 §3.2).
    this.#firewall = new Netfilter(
      spec.netfilter?.source === 'none' ? spec.netfilter : FIREWALL,
      { outer, agent },
      rng,
    )
    if (spec.translation === 'none') {
      this.#nat = this.#firewall
    } else {
      const nat = spec.netfilter
        ? new Netfilter(spec.netfilter, { outer: outer4, agent }, rng)
        : new BehaviourNat(spec.behaviour, outer4, rng)
      this.#nat = spec.translation === 'nat64' ? new Nat64(nat) : nat
    }
  }

  /** A power cut: every mapping and every flow is forgotten at once. */
  reboot(): void {
    this.#nat.flush()
    this.#firewall.flush()
  }

  /**
   * Everybody outside reaches `inside` at the router's external `port`, as after a port-mapping request. `undefined`
   * takes it away.
   */
  mapPort(port: number, inside: SocketAddress | undefined): void {
    this.#nat.forwardPort(port, inside)
  }

  override reachable(): Iterable<string> {
    return [...(this.uplink?.addresses ?? []), ...this.announced([...this.routes.keys()])]
  }

  override receive(now: Micros, from: Interface, packet: Packet): void {
    const isInbound = from === this.uplink
    const inside = this.routes.get(packet.destination.address)
    if (!isInbound && inside) {
      this.#switch(now, inside, packet)
    } else if (packet.protocol === 'icmp') {
      this.#passError(now, packet, isInbound)
    } else if (!isInbound && this.spec.egress !== 'all') {
      this.trace.drop(now, this, packet, 'egress')
    } else {
      this.#translate(now, from, packet, isInbound)
    }
  }

  protected override announced(inside: string[]): string[] {
    return this.spec.translation === 'none' ? inside : inside.filter((one) => familyOf(one) === 6)
  }

  /** Between two clients: one wire, no routing. */
  #switch(now: Micros, to: Interface, packet: Packet): void {
    if (this.spec.isolated) {
      this.trace.drop(now, this, packet, 'isolated')
    } else {
      this.trace.forward(now, this, packet)
      to.pipe?.send(now, to, packet)
    }
  }

  #translate(now: Micros, from: Interface, packet: UdpPacket, isInbound: boolean): void {
    const translator = this.#translatorFor(packet.destination.address)
    const verdict = isInbound ? translator.inbound(now, packet) : translator.outbound(now, packet)
    if (typeof verdict === 'string') {
      this.trace.drop(now, this, packet, verdict)
      if (verdict === 'no-socket') this.sendError(now, from, packet, { type: 'port-unreachable' })
    } else if (isInbound && !this.routes.has(verdict.destination.address)) {
      this.trace.drop(now, this, packet, 'no-route')
    } else {
      this.trace.forward(now, this, verdict)
      this.send(now, withTtl(verdict, verdict.ttl - 1))
    }
  }

  /** RFC 5508 §4: an ICMP error follows the mapping of the datagram it is about, and changes nothing. */
  #passError(now: Micros, packet: IcmpPacket, isInbound: boolean): void {
    if (isInbound) {
      const about = this.#translatorFor(packet.about.source.address).sentFromInside(packet.about)
      if (!about) {
        this.trace.drop(now, this, packet, 'no-mapping')
        return
      }
      const source = packet.source // the reporter, as it calls itself
      const destination = { address: about.source.address, port: 0 }
      this.#pass(now, { ...packet, source, destination, about })
    } else {
      const about = this.#translatorFor(packet.about.source.address).sentFromOutside(packet.about)
      if (!about) {
        this.trace.drop(now, this, packet, 'no-mapping')
        return
      }
      const source = { address: about.destination.address, port: 0 }
      const destination = { address: about.source.address, port: 0 }
      this.#pass(now, { ...packet, source, destination, about })
    }
  }

  #pass(now: Micros, packet: Packet): void {
    this.trace.forward(now, this, packet)
    this.send(now, withTtl(packet, packet.ttl - 1))
  }

  #translatorFor(address: string): Translator {
    return familyOf(address) === 4 || extract(address) !== undefined ? this.#nat : this.#firewall
  }
}

const FIREWALL: NetfilterRules = { source: 'none', input: 'drop', forward: 'established' }
