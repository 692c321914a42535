import type { Micros } from '../../core/machine.ts'
import { MAX_LIFETIME } from '../protocol/constants.ts'

/** What clients may take, each with its default. Every number of the relay's memory is bounded by one of these. */
export interface RelayLimits {
  /** Allocations of one user at once; default 64. */
  readonly allocationsPerUser: number
  /** Allocations from one address (IPv6: one /64) at once; default 256: offices and carriers share addresses. */
  readonly allocationsPerSource: number
  /** Allocations at once; default 4,096. */
  readonly allocations: number
  /** Peer addresses of one allocation; default 128. */
  readonly permissions: number
  /** Channels of one allocation; default 128. */
  readonly channels: number
  /** TCP connections with peers of one allocation (RFC 6062); default 16. */
  readonly connections: number
  /** Bytes per second that one allocation relays, both ways together; default: no limit. */
  readonly bandwidthPerAllocation: number
  /** Bytes per second that the allocations of one user relay together; default: no limit. */
  readonly bandwidthPerUser: number
  /** Bytes per second that the allocations from one address (IPv6: one /64) relay together; default: no limit. */
  readonly bandwidthPerSource: number
  /** Bytes per second that the relay carries; default: no limit. */
  readonly bandwidth: number
  /** The longest time between refreshes, microseconds; 600–3,600 s; default 3,600 s. */
  readonly lifetime: Micros
}

export const defaultLimits: RelayLimits = {
  allocationsPerUser: 64,
  allocationsPerSource: 256,
  allocations: 4_096,
  permissions: 128,
  channels: 128,
  connections: 16,
  bandwidthPerAllocation: Infinity,
  bandwidthPerUser: Infinity,
  bandwidthPerSource: Infinity,
  bandwidth: Infinity,
  lifetime: MAX_LIFETIME,
}

/** How many of something each key has, without keys that have none. */
export class Tally {
  readonly #counts = new Map<string, number>()

  of(key: string): number {
    return this.#counts.get(key) ?? 0
  }

  add(key: string): void {
    this.#counts.set(key, this.of(key) + 1)
  }

  /** @returns how many are left. */
  remove(key: string): number {
    const left = this.of(key) - 1
    if (left > 0) this.#counts.set(key, left)
    else this.#counts.delete(key)
    return Math.max(0, left)
  }
}

/** Who shares a quota per source: an IPv4 address, an IPv6 /64. */
export function sourceKey(address: string): string {
  if (!address.includes(':')) return address
  const [head = ''] = address.split('::')
  const groups = head.split(':')
  return groups.length >= 4 ? groups.slice(0, 4).join(':') : `${head}::`
}
