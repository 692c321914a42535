import { isIP } from 'node:net'
import { familyOf, type SocketAddress } from '../core/address.ts'
import { scopeOf } from '../core/scope.ts'
import { IceUsageError } from './errors.ts'
import type { CandidateType, IceCandidate, LocalCandidate } from './types.ts'

/** RFC 8445 §5.1.2.2; a port that was opened for us is open to all: better than one that a NAT happened to choose. */
const TYPE_PREFERENCE: Readonly<Record<CandidateType, number>> = {
  host: 126,
  prflx: 110,
  mapped: 105,
  srflx: 100,
  relay: 0,
}

const MAX_LOCAL_PREFERENCE = 65_535

/** RFC 8445 §5.1.2.1, for component 1. `localPreference` is 0–65535. */
export function priorityOf(type: CandidateType, localPreference: number): number {
  return TYPE_PREFERENCE[type] * 0x1000000 + localPreference * 0x100 + 255
}

/** RFC 8445 §6.1.2.3. Two priorities of 31 bits make 63: as a float it keeps the order where the smaller one differs. */
export function pairPriority(controlling: number, controlled: number): number {
  const smaller = Math.min(controlling, controlled)
  const larger = Math.max(controlling, controlled)
  return smaller * 2 ** 32 + 2 * larger + (controlling > controlled ? 1 : 0)
}

/** The source of a check that the peer has not named (RFC 8445 §7.3.1.3); `priority` is the check's, `number` tells it from others. */
export function reflexiveCandidate(
  { address, port }: SocketAddress,
  priority: number | undefined,
  number: number,
): IceCandidate {
  return {
    type: 'prflx',
    address,
    port,
    priority: priority || priorityOf('prflx', 0),
    foundation: `prflx${number}`,
  }
}

/** A candidate as gathered, and as the peer hears of it. */
export interface Described {
  readonly input: LocalCandidate
  readonly candidate: IceCandidate
}

/**
 * Our candidates with priorities and foundations, by type. The families take turns, IPv6 first, so that a broken one does
 * not delay the other by more than a check (RFC 8421 §4); `earlier` counts those that were described before.
 */
export function describeCandidates(candidates: readonly LocalCandidate[], earlier = 0): Described[] {
  return (['host', 'mapped', 'srflx', 'relay'] as const).flatMap((type) =>
    takingTurns(candidates.filter((one) => one.type === type)).map((input, i) => ({
      input,
      candidate: describe(input, MAX_LOCAL_PREFERENCE - earlier - i),
    })),
  )
}

function takingTurns(candidates: readonly LocalCandidate[]): LocalCandidate[] {
  const six = candidates.filter(({ address }) => familyOf(address.address) === 6)
  const four = candidates.filter(({ address }) => familyOf(address.address) === 4)
  // RFC 8421 §4: N6 / N4 of the larger family for each of the smaller.
  const perFour = Math.max(1, Math.ceil(six.length / Math.max(1, four.length)))
  const turns: LocalCandidate[] = []
  while (six.length + four.length > 0) turns.push(...six.splice(0, perFour), ...four.splice(0, 1))
  return turns
}

function describe(candidate: LocalCandidate, localPreference: number): IceCandidate {
  const { type, address, base } = candidate
  return {
    type,
    address: address.address,
    port: address.port,
    priority: priorityOf(type, Math.max(0, localPreference)),
    foundation: foundationOf(candidate),
    ...(base !== undefined && type !== 'host' && { related: base }),
  }
}

/** RFC 8445 §5.1.1.3: same type, base address, server and transport. FNV-1a of those. */
function foundationOf({ type, address, base, server }: LocalCandidate): string {
  const text = `${type} ${(base ?? address).address} ${server?.address ?? ''}`
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return (hash >>> 0).toString(10)
}

/**
 * Reads what a peer sent as a candidate: any JSON.
 *
 * @throws {IceUsageError} `ERR_NATWORK_ICE_INVALID` when it is none.
 */
export function parseCandidate(value: unknown): IceCandidate {
  const fields: Partial<Record<keyof IceCandidate, unknown>> =
    typeof value === 'object' && value !== null ? value : {}
  const { type, address, port, priority, foundation, related } = fields
  if (
    typeof type !== 'string' ||
    !Object.hasOwn(TYPE_PREFERENCE, type) ||
    !isAddress(address) ||
    !isNumberIn(port, 1, 65_535) ||
    !isNumberIn(priority, 1, 0x7fffffff) ||
    typeof foundation !== 'string' ||
    !/^[A-Za-z0-9+/]{1,32}$/.test(foundation)
  ) {
    throw new IceUsageError(
      'ERR_NATWORK_ICE_INVALID',
      'not an ICE candidate: it has a type, an IP address, a port, a priority and a foundation',
    )
  }
  const base = parseRelated(related)
  return { type: type as CandidateType, address, port, priority, foundation, ...(base && { related: base }) }
}

function parseRelated(value: unknown): SocketAddress | undefined {
  const { address, port }: Partial<Record<keyof SocketAddress, unknown>> =
    typeof value === 'object' && value !== null ? value : {}
  return isAddress(address) && isNumberIn(port, 0, 65_535) ? { address, port } : undefined
}

function isAddress(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 64 && isIP(value) !== 0
}

function isNumberIn(value: unknown, low: number, high: number): value is number {
  return Number.isInteger(value) && (value as number) >= low && (value as number) <= high
}

/** Can a datagram to this address reach one host of some network? */
export function isUsable({ address, port }: SocketAddress): boolean {
  return port !== 0 && scopeOf(address) !== 'none' && !address.includes('%')
}
