import { isIPv4 } from 'node:net'
import type { SocketAddress } from '../../core/address.ts'
import { UsageError } from '../../core/errors.ts'
import type { Micros } from '../../core/machine.ts'
import { NAT64_PREFIX } from '../kinds.ts'
import { canonicalAddress } from '../packet.ts'
import type { UdpPacket } from '../packet.ts'
import type { Ends, Translator, Verdict } from './translator.ts'

/**
 * The IPv6 address under which a NAT64 client reaches an IPv4 one: what DNS64 would answer (RFC 6147 §5.1.7, with the
 * well-known prefix of RFC 6052 §2.1).
 *
 * @throws {UsageError} `ERR_NATWORK_SIM_ADDRESS` when `ipv4` is no IPv4 address.
 */
export function synthesize(ipv4: string): string {
  if (!isIPv4(ipv4)) throw new UsageError('ERR_NATWORK_SIM_ADDRESS', `"${ipv4}" is not an IPv4 address`)
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.split('.').map(Number)
  return canonicalAddress(`${NAT64_PREFIX}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`)
}

/** The IPv4 address inside one made by {@link synthesize}; undefined for every other address. */
export function extract(ipv6: string): string | undefined {
  if (!ipv6.startsWith(NAT64_PREFIX)) return undefined
  const groups = ipv6.slice(NAT64_PREFIX.length).split(':')
  if (groups.length > 2) return undefined
  const low = Number.parseInt(groups.at(-1) || '0', 16)
  const high = groups.length === 2 ? Number.parseInt(groups[0] || '0', 16) : 0
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
}

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
