import type { DoneEvent } from './contract.ts'

export type Verdict = 'direct' | 'relayed' | 'failed'

/** Bytes (IP headers and all) that the lab counted on the hosts' wires while A ran. */
export interface Traffic {
  readonly sentByA: number
  readonly receivedByB: number
  /** Into and out of the helper host. */
  readonly helperIn: number
  readonly helperOut: number
}

/**
 * What happened, by the counters alone: a program that got there has moved `payload` bytes from A to B, and they went
 * in and out of the helper host or they did not. Half the payload is far above all signalling and far below the
 * payload itself.
 */
export function decideVerdict(done: DoneEvent | undefined, traffic: Traffic, payload: number): Verdict {
  if (done === undefined || traffic.sentByA < payload || traffic.receivedByB < payload) return 'failed'
  return Math.min(traffic.helperIn, traffic.helperOut) >= payload / 2 ? 'relayed' : 'direct'
}

/** The counters' difference. */
export function trafficSince(before: Traffic, after: Traffic): Traffic {
  return {
    sentByA: after.sentByA - before.sentByA,
    receivedByB: after.receivedByB - before.receivedByB,
    helperIn: after.helperIn - before.helperIn,
    helperOut: after.helperOut - before.helperOut,
  }
}
