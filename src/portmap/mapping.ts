import { familyOf, type SocketAddress } from '../core/address.ts'
import { scopeOf } from '../core/scope.ts'
import type { Micros } from '../core/machine.ts'

/** In the order of preference. `upnp-igd` is of either version. */
export type MappingProtocol = 'pcp' | 'nat-pmp' | 'upnp-igd'

/** A port that a router forwards to this machine, or (IPv6) that its firewall leaves open. */
export interface PortMapping {
  readonly protocol: MappingProtocol
  /** The router's address on our side. */
  readonly gateway: string
  readonly internal: SocketAddress
  /** Where others send to. With IPv6 it is the internal address, as a rule. */
  readonly external: SocketAddress
  /** Seconds that the router granted; it is renewed long before. Infinity: until it is removed. */
  readonly lifetime: number
  /** Whether anybody out there can reach it, as far as can be told from here. */
  readonly useful: boolean
  /** Why not, in a sentence; undefined for a useful one. */
  readonly reason: string | undefined
}

/**
 * `no-gateway`: this machine has no router that it knows of; `no-answer`: the router speaks none of the protocols;
 * `refused`: it does, and said no.
 */
export type UnavailableReason = 'no-gateway' | 'no-answer' | 'refused'

/** What the machines of this room tell. */
export type MappingEvent =
  | {
      readonly type: 'mapped'
      readonly protocol: MappingProtocol
      readonly external: SocketAddress
      /** Seconds. */
      readonly lifetime: number
    }
  /** The mapping of the last `mapped` is gone. */
  | { readonly type: 'lost'; readonly message: string }
  /** There is none, and nothing more is tried before `retryAfter` has passed and somebody opens again. */
  | {
      readonly type: 'unavailable'
      readonly reason: Exclude<UnavailableReason, 'no-gateway'>
      readonly message: string
      readonly retryAfter: Micros
    }
  /** Answer to `close`: the router has taken it back, or did not answer in time. */
  | { readonly type: 'removed' }

/**
 * Why nobody can come in through a mapping with this external address; undefined when nothing speaks against it.
 *
 * @param seen this machine's address of the same family as STUN servers see it, where that is known.
 */
export function uselessBecause(external: string, seen: string | undefined): string | undefined {
  const outer = `the router’s outer address ${external}`
  switch (scopeOf(external)) {
    case 'none':
      return 'the router has no outer address: it is not connected to the internet'
    case 'private':
      return `${outer} is itself a private one: another router in front of it lets nobody in; map the port there too, or put this router into bridge mode`
    case 'carrier':
      return `${outer} is inside the carrier’s network: the carrier’s own NAT lets nobody in; ask the carrier for a public address`
    case 'link-local':
    case 'loopback':
      return `${outer} is not one of the internet`
    case 'global':
      return seen === undefined || seen === external || familyOf(seen) !== familyOf(external)
        ? undefined
        : `${outer} is not the one that the internet sees (${seen}): there is another NAT in front of it`
  }
}
