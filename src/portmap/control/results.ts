import { MILLISECOND, SECOND, type Micros } from '../../core/machine.ts'
import { NatPmpResult } from './nat-pmp.ts'
import { PcpResult } from './pcp.ts'

/** A refusal in words that say what to do, and when to ask again. */
export interface Refusal {
  readonly message: string
  readonly retryAfter: Micros
}

/** @param lifetime seconds that the gateway expects the error to last (RFC 6887 §7.2). */
export function pcpRefusal(result: number, lifetime: number): Refusal {
  const retryAfter = Math.min(Math.max(lifetime * SECOND, SHORTEST_RETRY), LONGEST_RETRY)
  return { message: pcpMessages[result] ?? `the router refuses: PCP error ${result}`, retryAfter }
}

export function natPmpRefusal(result: number): Refusal {
  // What passes by itself, such as a router still without an address, is worth asking again soon.
  const passing = result === NatPmpResult.NetworkFailure || result === NatPmpResult.OutOfResources
  return {
    message: natPmpMessages[result] ?? `the router refuses: NAT-PMP error ${result}`,
    retryAfter: passing ? 60 * SECOND : RETRY_AFTER,
  }
}

export const noAnswer: Refusal = {
  message: 'the router answers neither PCP nor NAT-PMP',
  retryAfter: 600 * SECOND,
}

const RETRY_AFTER = 600 * SECOND
const SHORTEST_RETRY = 30_000 * MILLISECOND
/** RFC 6887 §9: 30 minutes, or what the gateway says if less. */
const LONGEST_RETRY = 1_800 * SECOND

const off = 'the router has port mapping switched off, or not for this machine: allow it in the router'
const full = 'the router has no room for another port mapping'
const offline = 'the router is not connected to the internet'

const natPmpMessages: Readonly<Record<number, string>> = {
  [NatPmpResult.NotAuthorized]: off,
  [NatPmpResult.NetworkFailure]: offline,
  [NatPmpResult.OutOfResources]: full,
  [NatPmpResult.UnsupportedOpcode]: 'the router maps no UDP ports',
}

const pcpMessages: Readonly<Record<number, string>> = {
  [PcpResult.NotAuthorized]: off,
  [PcpResult.UnsuppOpcode]: 'the router maps no ports',
  [PcpResult.NetworkFailure]: offline,
  [PcpResult.NoResources]: full,
  [PcpResult.UnsuppProtocol]: 'the router maps no UDP ports',
  [PcpResult.UserExQuota]: 'the router gives this machine no more port mappings: its quota is used up',
  [PcpResult.CannotProvideExternal]: 'the router cannot give the port asked for',
  [PcpResult.AddressMismatch]: 'there is another NAT between this machine and the router that was asked',
}
