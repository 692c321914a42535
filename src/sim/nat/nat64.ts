import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import type { UdpPacket } from '../packet.ts'
import { extract, synthesize } from '../prefix64.ts'
import type { Ends, Translator, Verdict } from './translator.ts'

/** Stateful NAT64 (RFC 6146): the same tables as a NAT44, with IPv6 on the inner side. */
export class Nat64 implements Translator {
  readonly #nat: Translator

  constructor(nat: Translator) {
    this.#nat = nat
  }

  outbound(now: Micros, packet: UdpPacket): Verdict {
    const remote = inward(packet.destination)
    if (!remote) return 'no-route'
    const verdict = this.#nat.outbound(now, { ...packet, destination: remote })
    // A hairpin (RFC 6146 §3.8) comes back in with an IPv4 source.
    if (typeof verdict === 'string' || !verdict.destination.address.includes(':')) return verdict
    return { ...verdict, source: outward(verdict.source) }
  }

  inbound(now: Micros, packet: UdpPacket): Verdict {
    const verdict = this.#nat.inbound(now, packet)
    return typeof verdict === 'string' ? verdict : { ...verdict, source: outward(verdict.source) }
  }

  sentFromInside(outside: Ends): Ends | undefined {
    const inside = this.#nat.sentFromInside(outside)
    return inside && { source: inside.source, destination: outward(inside.destination) }
  }

  sentFromOutside(inside: Ends): Ends | undefined {
    const remote = inward(inside.source)
    return remote && this.#nat.sentFromOutside({ source: remote, destination: inside.destination })
  }

  forwardPort(port: number, inside: SocketAddress | undefined): void {
    this.#nat.forwardPort(port, inside)
  }

  flush(): void {
    this.#nat.flush()
  }
}

function inward(at: SocketAddress): SocketAddress | undefined {
  const address = extract(at.address)
  return address === undefined ? undefined : { address, port: at.port }
}

function outward(at: SocketAddress): SocketAddress {
  return { address: synthesize(at.address), port: at.port }
}
