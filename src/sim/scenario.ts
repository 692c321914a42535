import type { KindName } from './kinds.ts'
import type { Ability } from './oracle.ts'

/**
 * A story about two peers and one public helper, as plain data: the simulator and the laboratory run the same ones.
 * Peer `a` is side 0, peer `b` side 1; both use the reference punch from {@link AGENT_PORT}.
 */
export interface Scenario {
  /** Stable; file-name safe. */
  readonly name: string
  /** One sentence for people. */
  readonly summary: string
  readonly kinds: { readonly a: KindName; readonly b: KindName }
  /** Both sit behind what their kind shares (`Kind.shared`). Default: true where the two are of one such kind. */
  readonly together?: boolean
  readonly steps: readonly Step[]
}

export type Who = 'a' | 'b'

export type Step =
  /** Starts a peer: it registers at the helper, and with `dials` sends to the other as soon as that is known. */
  | {
      readonly do: 'start'
      readonly who: Who
      readonly dials: boolean
      /** Milliseconds between the introduction and its first punch. Default: 0. */
      readonly late?: number
      /** TTL of its punches in the first second, while it has heard nothing. */
      readonly openingTtl?: number
    }
  /** Lets a started peer dial from now on. */
  | { readonly do: 'dial'; readonly who: Who }
  /** Milliseconds. */
  | { readonly do: 'wait'; readonly ms: number }
  /** Every router of that site forgets its mappings. */
  | { readonly do: 'reboot'; readonly who: Who }
  /** Nothing passes between the public addresses of the two sites any more. */
  | { readonly do: 'block' }
  | { readonly do: 'unblock' }
  /** Both peers are connected directly within so many milliseconds, or (`direct: false`) neither is by then. */
  | { readonly do: 'expect'; readonly direct: boolean; readonly within: number }
  /** A datagram on the connected path arrives at the other peer within so many milliseconds, or not. */
  | { readonly do: 'send'; readonly who: Who; readonly arrives: boolean; readonly within: number }

/** What one run of a scenario came to. */
export interface ScenarioResult {
  readonly scenario: string
  readonly passed: boolean
  /** What was expected and did not happen, step by step; empty when passed. */
  readonly failures: readonly string[]
  /** Milliseconds from the introduction to both being connected, if they were. */
  readonly connectedAfter: number | undefined
}

/** The scenario of an oracle row: both start together, dialling or only A, and expect what the oracle says. */
export function pairScenario(
  a: KindName,
  b: KindName,
  direct: boolean,
  abilities: readonly Ability[],
): Scenario {
  const both = abilities.includes('punch')
  return {
    name: `${both ? 'punch' : 'dial'}-${a}-${b}`,
    summary: `${both ? 'Both dial' : 'A dials B'}: ${a} to ${b}.`,
    kinds: { a, b },
    steps: [
      { do: 'start', who: 'b', dials: both },
      { do: 'start', who: 'a', dials: true },
      { do: 'expect', direct, within: 3000 },
    ],
  }
}
