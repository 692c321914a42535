import { kinds, type KindName, type RouterSpec } from '../../sim/kinds.ts'
import { LabUsageError } from '../errors.ts'
import type { Site } from '../topology.ts'

/**
 * A transfer from a node in site `a` to one in site `b`, and what breaks in the middle of it, as plain data. Both nodes
 * hang on two helpers, which relay too.
 */
export interface FailureScenario {
  /** Stable; file-name safe. */
  readonly name: string
  /** One sentence for people. */
  readonly summary: string
  readonly sites: { readonly a: Site | KindName; readonly b: Site | KindName }
  /** How the data must go before anything breaks. */
  readonly path: PathKind
  readonly steps: readonly FailureStep[]
}

export type PathKind = 'direct' | 'relayed'
export type Side = 'a' | 'b'

export interface FailureStep {
  readonly event: FailureEvent
  /** How the data must go in the end; the step is over when it does and more has arrived than was under way. */
  readonly path: PathKind
  /** Milliseconds for which nothing may arrive at the receiver, from when the event is over. */
  readonly stall: number
}

export type FailureEvent =
  /** The router of a site forgets every flow. */
  | { readonly do: 'reboot'; readonly site: Side }
  /** The router of a site gets another public address. */
  | { readonly do: 'renumber'; readonly site: Side }
  /** The node of a site finds itself in another network: its own address and the public one are others. */
  | { readonly do: 'move'; readonly site: Side }
  /** The helper through which the data goes dies without a word. */
  | { readonly do: 'kill-relay' }
  /** Every helper does. */
  | { readonly do: 'kill-helpers' }
  /** Nothing passes at all at site `a`. */
  | { readonly do: 'blackout'; readonly ms: number }
  /** Nothing passes between the public addresses of the two sites any more. */
  | { readonly do: 'block' }
  | { readonly do: 'unblock' }
  /** The sender has nothing to say. */
  | { readonly do: 'pause'; readonly ms: number }

/** Three round trips of the direct path of 40 ms: for a change from a path that still works. */
const MOVE = 120
/** A path that died without a word. */
const SILENT = 5_000
const REBOOT = 2_000

export const failureScenarios: readonly FailureScenario[] = [
  {
    name: 'caller-reboots',
    summary: 'The router at the sender’s side reboots.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'reboot', site: 'a' }, path: 'direct', stall: REBOOT }],
  },
  {
    name: 'callee-reboots',
    summary: 'The router at the receiver’s side reboots.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'reboot', site: 'b' }, path: 'direct', stall: REBOOT }],
  },
  {
    name: 'caller-port-lost',
    summary: 'The sender’s router reboots and gives another port.',
    sites: { a: 'symmetric', b: 'full-cone' },
    path: 'direct',
    steps: [{ event: { do: 'reboot', site: 'a' }, path: 'direct', stall: REBOOT }],
  },
  {
    name: 'callee-port-lost',
    summary: 'The receiver’s router reboots and gives another port.',
    sites: { a: 'full-cone', b: 'symmetric' },
    path: 'direct',
    steps: [{ event: { do: 'reboot', site: 'b' }, path: 'direct', stall: REBOOT }],
  },
  {
    name: 'caller-renumbered',
    summary: 'The sender’s provider gives its router another address.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'renumber', site: 'a' }, path: 'direct', stall: SILENT }],
  },
  {
    name: 'callee-renumbered',
    summary: 'The receiver’s provider gives its router another address.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'renumber', site: 'b' }, path: 'direct', stall: SILENT }],
  },
  {
    name: 'caller-moves',
    summary: 'The sender finds itself in another network.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'move', site: 'a' }, path: 'direct', stall: SILENT }],
  },
  {
    name: 'callee-moves',
    summary: 'The receiver finds itself in another network.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'move', site: 'b' }, path: 'direct', stall: SILENT }],
  },
  {
    name: 'relay-killed',
    summary: 'The helper that relays dies; the other one takes over.',
    sites: { a: 'symmetric', b: 'symmetric' },
    path: 'relayed',
    steps: [{ event: { do: 'kill-relay' }, path: 'relayed', stall: SILENT }],
  },
  {
    name: 'helpers-killed',
    summary: 'Every helper dies; a direct path needs none.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'kill-helpers' }, path: 'direct', stall: MOVE }],
  },
  {
    name: 'blackout',
    summary: 'Nothing passes for ten seconds.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [{ event: { do: 'blackout', ms: 10_000 }, path: 'direct', stall: SILENT }],
  },
  {
    name: 'direct-blocked',
    summary: 'The direct path is blocked, and opened again.',
    sites: { a: 'port-restricted', b: 'port-restricted' },
    path: 'direct',
    steps: [
      { event: { do: 'block' }, path: 'relayed', stall: SILENT },
      { event: { do: 'unblock' }, path: 'direct', stall: MOVE },
    ],
  },
  {
    name: 'forgetful-routers',
    summary: 'The sender is silent for longer than the routers, which forget within a second, remember.',
    sites: { a: { routers: [forgetful('port-restricted')] }, b: { routers: [forgetful('port-restricted')] } },
    path: 'direct',
    steps: [{ event: { do: 'pause', ms: 10_000 }, path: 'direct', stall: REBOOT }],
  },
]

/**
 * The failures of these names, in their own order; all of them for no name.
 *
 * @throws {LabUsageError} `ERR_NATWORK_LAB_UNKNOWN_SCENARIO`
 */
export function chooseFailures(names: readonly string[]): readonly FailureScenario[] {
  const unknown = names.find((name) => !failureScenarios.some((one) => one.name === name))
  if (unknown !== undefined) {
    throw new LabUsageError(
      'ERR_NATWORK_LAB_UNKNOWN_SCENARIO',
      `there is no failure "${unknown}"; there are: ${failureScenarios.map(({ name }) => name).join(', ')}`,
    )
  }
  return names.length === 0 ? failureScenarios : failureScenarios.filter(({ name }) => names.includes(name))
}

/** The kind's router, but with a memory shorter than the second between two looks at a path (src/ice/bounds.ts). */
function forgetful(kind: KindName): RouterSpec {
  const [router] = kinds[kind].routers
  if (router?.netfilter === undefined) throw new Error(`${kind} is not made of netfilter rules`)
  const behaviour = { ...router.behaviour, lifetime: 1 }
  return { ...router, behaviour, netfilter: { ...router.netfilter, timeout: 1, timeoutStream: 1 } }
}
