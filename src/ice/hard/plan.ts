import { familyOf, type SocketAddress } from '../../core/address.ts'
import { SECOND, type Micros } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { scopeOf } from '../../core/scope.ts'
import { OPENING_TTL, SEARCH_BUDGET } from '../bounds.ts'
import type { ExhaustiveBudget, IceCandidate, NatHints, SearchMethod } from '../types.ts'
import {
  allPorts,
  around,
  blockOf,
  inTurn,
  then,
  thenOthers,
  windowFrom,
  without,
  PORTS,
  type PortOrder,
} from './ports.ts'

/** What a side's NAT lets the other know and do. */
export type Reach =
  /** Its port is known and open: nothing to search. */
  | 'open'
  /** Its port is known; it lets in every port of an address that it has sent to. */
  | 'address-filter'
  /** Its port is known; it lets in the one address and port that it has sent to. */
  | 'port-filter'
  /** Every destination sees another port. */
  | 'dependent'
  | 'unknown'

export function reachOf({ mapping, filtering, ports }: NatHints): Reach {
  if (mapping === undefined) return 'unknown'
  const isKnown = mapping === 'endpoint-independent' || ports === 'preserving' || ports === 'fixed'
  if (!isKnown) return 'dependent'
  if (filtering === 'endpoint-independent') return 'open'
  return filtering === 'address-dependent' ? 'address-filter' : 'port-filter'
}

/** What this side does to get through; the peer, with the same hints, does its own part. */
export interface Plan {
  readonly method: SearchMethod
  /** Local sockets beside the endpoint's own. A `probe` has none, a `search` goes over to them when its own has sent to all targets. */
  readonly sockets: number
  /** Where to send. */
  readonly targets: readonly SocketAddress[] | TargetOrder
  /** Datagrams at most. */
  readonly budget: number
  /** How many of them this node's owner allows to one address beyond what all others may get: none by default. */
  readonly agreed?: number
  readonly perSecond: number
  readonly ttl: number | undefined
  /** Send the same again on the ordinary TTL so much later: for both sides to have opened first. */
  readonly again: Micros | undefined
  /** How often to begin with other sockets and targets when nothing was hit. */
  readonly rounds: number
}

/** Ports on one address, in the order of trying. */
export interface TargetOrder {
  readonly address: string
  readonly order: (round: number) => PortOrder
  /** The peer's NAT gives ports by a rule: the order begins at this one. Undefined: nobody knows of a rule. */
  readonly near?: number
}

export interface PlanInput {
  readonly local: NatHints
  readonly remote: NatHints
  /** The peer's candidates. */
  readonly named: readonly IceCandidate[]
  readonly controlling: boolean
  readonly exhaustive: ExhaustiveBudget | undefined
  readonly rng: Rng
}

/**
 * Which way through two NATs the ordinary checks cannot take (RFC 5128 §3.3–3.5). The arithmetic of known × dependent:
 * with K open ports among 64,512 and M probes, one hits with probability 1 − (1 − K/64512)^M; K = 256 and M = 1,150
 * make 99 %. Of dependent × dependent: both ports of a flow are guesses, and M flows on each side meet with
 * 1 − exp(−M²/N²), where N is the number of ports: 1,024 in a carrier's block, 64,512 in general.
 */
export function planSearch(input: PlanInput): Plan | undefined {
  const { local, remote } = input
  // Its public IPv4 addresses.
  const remotes = input.named.filter(
    ({ type, address }) =>
      type !== 'relay' && type !== 'prflx' && familyOf(address) === 4 && scopeOf(address) === 'global',
  )
  const [ours, theirs] = [reachOf(local), reachOf(remote)]
  const [first] = remotes
  if (first === undefined) return undefined
  if (ours === 'port-filter' && theirs === 'dependent') return probe(input, first)
  if (ours === 'dependent' && theirs === 'port-filter') return open(input, remotes)
  if (ours === 'dependent' && theirs === 'dependent') {
    // Where its next ports lie is worth waiting for: a miss costs a minute.
    if (remote.ports === 'sequential' && remote.lastPort === undefined) return undefined
    if (local.ports === 'sequential' && remote.ports === 'sequential') return meet(input, first)
    if (isNarrow(local) && isNarrow(remote)) return searchNarrow(input, first)
    return input.exhaustive === undefined ? undefined : searchAll(input, first, input.exhaustive)
  }
  return undefined
}

/** A place among those that the plan sends to. */
export function aimOf({ targets }: Plan): SocketAddress {
  const [first] = 'address' in targets ? [{ address: targets.address, port: 1 }] : targets
  return first ?? { address: '0.0.0.0', port: 0 }
}

/** Probes from our known port. Those to an unfiltered Linux router must come after its side has opened: see `open`. */
function probe(input: PlanInput, first: SocketAddress): Plan {
  return {
    method: 'probe',
    sockets: 0,
    targets: probed(input, first),
    budget: SEARCH_BUDGET,
    perSecond: 1000,
    ttl: undefined,
    again: undefined,
    rounds: 1,
  }
}

function probed({ remote, rng }: PlanInput, { address, port }: SocketAddress): TargetOrder {
  const last = remote.lastPort ?? port
  if (remote.ports === 'sequential') {
    const near = (): PortOrder => around(last, remote.step ?? 1, PROBE_WINDOW)
    // Twice: a busy peer may open its sockets only after we came by.
    return { address, order: () => then(near(), then(near(), allPorts(rng))), near: last }
  }
  const block = (): PortOrder => blockOf(last, BLOCK, rng)
  if (remote.ports === 'block') {
    return {
      address,
      order: () => then(block(), then(blockOf(last, 4 * BLOCK, rng), allPorts(rng))),
      near: last,
    }
  }
  if (remote.ports !== undefined) return { address, order: () => allPorts(rng) }
  // The peer does not know its NAT's rule yet. To try one costs nothing: without a rule, all ports are alike.
  const likely = (): PortOrder => thenOthers(windowFrom(last + CHECKS, 1, PROBE_WINDOW), block())
  // But not where its own checks come from, which went the whole way (see `OpeningRule`): one that our unfiltered Linux router
  // has taken for a flow of its own would move our port for all that follow.
  const checks = (): PortOrder => windowFrom(last, 1, CHECKS)
  return { address, order: () => without(checks(), thenOthers(likely(), allPorts(rng))) }
}

/**
 * Many sockets, each with a packet to the peer's known port that dies on the way: it opens our NAT, and cannot meet an
 * entry at an unfiltered Linux router of the peer's that would move the peer's port.
 */
function open({ local }: PlanInput, remotes: readonly IceCandidate[]): Plan {
  return {
    method: 'open',
    sockets: local.ports === 'random' || local.ports === undefined ? SOCKETS : SOCKETS_IN_BLOCK,
    targets: remotes.slice(0, 2),
    budget: 3 * SOCKETS * Math.min(2, remotes.length),
    perSecond: 2000,
    ttl: OPENING_TTL,
    again: undefined,
    rounds: 3,
  }
}

/**
 * Both sides give sequential ports: each opens a run of mappings, all of them towards one port in the middle of the
 * run that the other is about to open. What the two have opened since they told their last port may differ by half
 * a run.
 */
function meet({ remote }: PlanInput, first: SocketAddress): Plan {
  const { address, port } = first
  const last = remote.lastPort ?? port
  const step = remote.step ?? 1
  const order = (round: number): PortOrder => inTurn(last, step, round * RUN + RUN / 3)
  return {
    method: 'meet',
    sockets: RUN,
    targets: { address, order },
    budget: 2 * RUN * 3,
    perSecond: 1000,
    ttl: OPENING_TTL,
    again: 150_000,
    rounds: 3,
  }
}

/** Both sides give ports out of a few: of the peer's block, or of the run that follows its last port. */
function searchNarrow({ local, remote, rng }: PlanInput, first: SocketAddress): Plan {
  const { address, port } = first
  const last = remote.lastPort ?? port
  const isRun = remote.ports === 'sequential'
  const order = (): PortOrder => (isRun ? windowFrom(last, remote.step ?? 1, RUN) : blockOf(last, BLOCK, rng))
  // More flows of a sequential NAT's would leave what the peer aims at.
  const budget = local.ports === 'sequential' ? 3 * RUN : 2 * SEARCH_BUDGET
  return {
    method: 'search',
    sockets: socketsFor(budget, isRun ? RUN : BLOCK),
    targets: { address, order },
    budget,
    perSecond: 1000,
    ttl: undefined,
    again: undefined,
    rounds: 1,
  }
}

/** Every port of the peer's, as long as the budget lasts. */
function searchAll(
  { controlling, rng }: PlanInput,
  { address }: SocketAddress,
  { packets, perSecond }: ExhaustiveBudget,
): Plan {
  return {
    method: 'search',
    sockets: socketsFor(packets, PORTS),
    targets: { address, order: () => allPorts(rng) },
    budget: packets,
    agreed: packets,
    perSecond,
    // One side only opens its own NAT, the other walks in: neither spoils a port at the other's unfiltered router.
    ttl: controlling ? undefined : OPENING_TTL,
    again: undefined,
    rounds: 1,
  }
}

/** Beside the endpoint's own: one for each further walk over the targets. */
function socketsFor(packets: number, targets: number): number {
  return Math.ceil(packets / targets) - 1
}

function isNarrow({ ports }: NatHints): boolean {
  return ports === 'sequential' || ports === 'block'
}

/** K: sockets of the side whose ports nobody knows. */
const SOCKETS = 256
const SOCKETS_IN_BLOCK = 96
/** A run of sequential ports. */
const RUN = 64
const PROBE_WINDOW = 256
/** Mappings that a side opens with its checks, relays and signals before it opens those for a search, and some more. */
const CHECKS = 32
/** What carriers give a client at least (RFC 6888 §5). */
const BLOCK = 1024

/** Between refreshes of what `open` has opened: well below the 30 s that Linux keeps an unanswered flow. */
export const OPEN_AGAIN = 4 * SECOND
