import { familyOf } from '../core/address.ts'
import { scopeOf } from '../core/scope.ts'
import { reachOf } from './hard/plan.ts'
import type {
  CandidateType,
  IceCandidate,
  NatHints,
  PairReport,
  PathKind,
  SearchReport,
  TraceEntry,
} from './types.ts'

/** Why a session is where it is. Stable: programs may switch on it. */
export type ExplanationCode =
  | 'direct'
  | 'direct-by-search'
  /** Not decided yet: checks or a search go on. */
  | 'trying'
  | 'no-udp-here'
  | 'no-udp-there'
  | 'no-common-family'
  | 'same-router'
  | 'both-per-destination'
  | 'search-exhausted'
  | 'no-hints'
  | 'direct-lost'
  | 'filtered'
  | 'nothing-named'
  | 'nothing-answered'

/** What became of one pair, in words. */
export interface TriedPair extends PairReport {
  readonly words: string
}

/** Plain JSON. */
export interface Explanation {
  readonly code: ExplanationCode
  /** `none`: no path works. */
  readonly outcome: PathKind | 'none'
  /** For people: one sentence, with what to do where something can be done. */
  readonly sentence: string
  /** The path in use first, then those in reserve, then those that failed. */
  readonly pairs: readonly TriedPair[]
  readonly searches: readonly SearchReport[]
  /** What each side named. */
  readonly local: readonly IceCandidate[]
  readonly remote: readonly IceCandidate[]
}

/**
 * Says why a session has the path that it has. Give it what the session holds: `session.trace` and `session.pairs`; or
 * a trace that was kept (its last report of each pair counts then).
 */
export function explain(
  trace: readonly TraceEntry[],
  pairs: readonly PairReport[] = reported(trace),
): Explanation {
  const facts = gather(trace, pairs)
  const code = judge(facts)
  const used = facts.used
  return {
    code,
    outcome: used?.kind ?? 'none',
    sentence: sentences[code](facts),
    pairs: [...pairs].sort((a, b) => rank(a) - rank(b)).map((pair) => ({ ...pair, words: inWords(pair) })),
    searches: facts.searches,
    local: facts.local,
    remote: facts.remote,
  }
}

interface Facts {
  readonly used: PairReport | undefined
  readonly pairs: readonly PairReport[]
  readonly local: readonly IceCandidate[]
  readonly remote: readonly IceCandidate[]
  readonly ours: NatHints
  readonly theirs: NatHints
  readonly searches: readonly SearchReport[]
  readonly hadDirect: boolean
  readonly failed: boolean
}

function gather(trace: readonly TraceEntry[], pairs: readonly PairReport[]): Facts {
  const local: IceCandidate[] = []
  const remote: IceCandidate[] = []
  const searches: SearchReport[] = []
  let ours: NatHints = {}
  let theirs: NatHints = {}
  let hadDirect = false
  let failed = false
  for (const entry of trace) {
    if (entry.what === 'opened' || entry.what === 'hints') ours = entry.hints
    else if (entry.what === 'remote-description') theirs = entry.hints
    else if (entry.what === 'local-candidate') local.push(entry.candidate)
    else if (entry.what === 'remote-candidate') remote.push(entry.candidate)
    else if (entry.what === 'search' && entry.search.state !== 'started') searches.push(entry.search)
    else if (entry.what === 'selected') hadDirect ||= entry.pair.kind === 'direct'
    if (entry.what === 'failed') failed = true
    else if (entry.what === 'restarted' || entry.what === 'valid') failed = false
  }
  const used = pairs.find((one) => one.selected)
  return { used, pairs, local, remote, ours, theirs, searches, hadDirect, failed }
}

function judge(facts: Facts): ExplanationCode {
  const { used, pairs, local, remote, ours, theirs, searches, hadDirect, failed } = facts
  if (used?.kind === 'direct')
    return searches.some(({ state }) => state === 'hit') ? 'direct-by-search' : 'direct'
  if (remote.length === 0) return failed ? 'nothing-named' : 'trying'
  if (hadDirect) return 'direct-lost'
  if (!isReachable(local)) return 'no-udp-here'
  if (!isReachable(remote.filter(({ type }) => type !== 'prflx'))) return 'no-udp-there'
  const direct = pairs.filter(({ kind }) => kind === 'direct')
  if (direct.length === 0) return 'no-common-family'
  if (shareRouter(local, remote)) return 'same-router'
  const [here, there] = [reachOf(ours), reachOf(theirs)]
  const last = searches.at(-1)?.state
  if (last === 'exhausted') return 'search-exhausted'
  if (here === 'dependent' && there === 'dependent') return 'both-per-destination'
  if (direct.some(({ state }) => state !== 'failed')) return 'trying'
  if (here === 'unknown' || there === 'unknown') return 'no-hints'
  return used === undefined ? 'nothing-answered' : 'filtered'
}

const sentences: Readonly<Record<ExplanationCode, (facts: Facts) => string>> = {
  direct: ({ used }) => `The packets go straight to the peer${used === undefined ? '' : ` (${ends(used)})`}.`,
  'direct-by-search': ({ searches }) => {
    const sent = searches.reduce((sum, one) => sum + one.sent, 0)
    return `The packets go straight to the peer: one of the routers gives a new port per destination, and it was found by trying (${sent} packets from here).`
  },
  trying: () => 'The search for a direct path goes on.',
  'no-udp-here': () =>
    'No UDP leaves this network: no STUN server answers, so that only a relay over TCP or TLS is left; ask for outgoing UDP to be allowed.',
  'no-udp-there': () =>
    'No UDP leaves the peer’s network, so that only a relay over TCP or TLS is left; outgoing UDP would have to be allowed there.',
  'no-common-family': () =>
    'The two have no kind of address in common: one has IPv4 alone, the other IPv6 alone, and no NAT64; a relay has to translate.',
  'same-router': () =>
    'Both are behind the same router, which keeps its clients apart or sends nothing back in (no hairpin); stay relayed, or let the router connect its clients.',
  'both-per-destination': () =>
    'Both routers give a new port per destination; use --exhaustive, a port mapping on one of the routers, or stay relayed.',
  'search-exhausted': ({ searches }) => {
    const sent = searches.reduce((sum, one) => sum + one.sent, 0)
    return `A router gives a new port per destination, and ${sent} packets from here to likely ones hit none; try again, use a port mapping on one of the routers, or stay relayed.`
  },
  'no-hints': () =>
    'No packet came straight through, and at least one side does not know how its router treats UDP; run natwork netcheck on both.',
  'direct-lost': () =>
    'There was a direct path, and it stopped answering: a router forgot it, or the network changed; it is used again as soon as it answers.',
  filtered: () =>
    'No packet came straight through although both routers should let it: a firewall on the way drops UDP between the two.',
  'nothing-named': () => 'The peer named no address to try: is it still running?',
  'nothing-answered': () =>
    'No address of the peer’s answered, and no relay is shared: configure a relay (TURN server) that both can reach.',
}

/** Is there an address by which somebody outside may know this side? */
function isReachable(candidates: readonly IceCandidate[]): boolean {
  return candidates.some(
    ({ type, address }) =>
      type === 'srflx' || type === 'mapped' || (type === 'host' && scopeOf(address) === 'global'),
  )
}

/** The same public IPv4 address on both sides. */
function shareRouter(local: readonly IceCandidate[], remote: readonly IceCandidate[]): boolean {
  const outer = (one: IceCandidate): boolean =>
    (one.type === 'srflx' || one.type === 'mapped') && familyOf(one.address) === 4
  return local.some(
    (ours) => outer(ours) && remote.some((theirs) => outer(theirs) && theirs.address === ours.address),
  )
}

function inWords(pair: PairReport): string {
  const from = `${words[pair.remote.type]} ${pair.remote.address.address} port ${pair.remote.address.port}`
  const via = pair.kind === 'relayed' && pair.local.type === 'relay' ? ' through our relay' : ''
  const time = pair.rtt === undefined ? '' : ` in ${(pair.rtt / 1000).toFixed(1)} ms`
  switch (pair.state) {
    case 'succeeded':
      return `${from}${via}: ${pair.selected ? 'in use' : 'in reserve'}, answers${time}`
    case 'lost':
      return `${from}${via}: answered${time}, and does no more`
    case 'failed':
      return `${from}${via}: ${pair.heard > 0 ? 'its packets arrive, ours do not' : `none of ${pair.sent} checks was answered`}`
    case 'in-progress':
      return `${from}${via}: ${pair.sent} checks sent, no answer yet`
    case 'waiting':
    case 'frozen':
      return `${from}${via}: not tried yet`
  }
}

const words: Readonly<Record<CandidateType, string>> = {
  host: 'the peer’s own address',
  mapped: 'a port that the peer’s router opened',
  srflx: 'the peer’s router at',
  prflx: 'where the peer’s packets come from,',
  relay: 'the peer’s relay at',
}

function ends({ local, remote, rtt }: PairReport): string {
  const time = rtt === undefined ? '' : `, ${(rtt / 1000).toFixed(1)} ms`
  const at = local.address
  const here = at === undefined ? '' : `${at.address} port ${at.port} to `
  return `${here}${remote.address.address} port ${remote.address.port}${time}`
}

function rank({ selected, state }: PairReport): number {
  return selected ? 0 : state === 'succeeded' ? 1 : state === 'lost' ? 2 : 3
}

/** The last word of a trace on each of its pairs. */
function reported(trace: readonly TraceEntry[]): PairReport[] {
  const last = new Map<number, PairReport>()
  let used: number | undefined
  for (const entry of trace) {
    if (entry.what === 'disconnected') used = undefined
    if (!('pair' in entry)) continue
    last.set(entry.pair.id, entry.pair)
    if (entry.what === 'selected') used = entry.pair.id
  }
  return [...last.values()].map((pair) => ({ ...pair, selected: pair.id === used }))
}
