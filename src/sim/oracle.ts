import { kindNames, kinds, FIRST_PORT, LAST_PORT, PORT_BLOCK } from './kinds.ts'
import type { Behaviour, Kind, KindName } from './kinds.ts'

/**
 * What two programs can do to find a direct path.
 * - `punch`: a helper tells both the other's address as it sees it, at the same moment; both send, and answer wherever
 *   something valid came from.
 * - `low-ttl`: opening packets die before the other NAT, so that the two need not start at the same moment.
 * - `prediction`: guess the port that a sequential NAT gives next.
 * - `birthday`: many sockets on the side with unknown ports, many probes from the other.
 * - `exhaustive`: probe every port there is.
 * - `port-mapping`: ask the router for a port (NAT-PMP, PCP, UPnP-IGD).
 * - `host-candidates`: tell each other the addresses of one's own interfaces as well (RFC 8445 §5.1.1.1).
 * - `ipv6`: use IPv6 where there is any.
 * - `nat64`: reach IPv4 addresses through NAT64 by their synthesized IPv6 ones (RFC 6052).
 */
export type Ability =
  | 'punch'
  | 'low-ttl'
  | 'prediction'
  | 'birthday'
  | 'exhaustive'
  | 'port-mapping'
  | 'host-candidates'
  | 'ipv6'
  | 'nat64'

/** What simple hole punching takes, as the reference punch does it. */
export const SIMPLE_PUNCH: readonly Ability[] = ['punch', 'ipv6', 'nat64']

export const ALL_ABILITIES: readonly Ability[] = [
  ...SIMPLE_PUNCH,
  'host-candidates',
  'port-mapping',
  'low-ttl',
  'prediction',
  'exhaustive',
  'birthday',
]

/** `dial`: one side sends to the other's known address, the other answers; no ability is needed. */
export type Method =
  'dial' | 'host-candidates' | 'port-mapping' | 'punch' | 'prediction' | 'exhaustive' | 'birthday'

export interface Verdict {
  readonly possible: boolean
  /** The simplest method that does it; undefined when nothing does. */
  readonly by: Method | undefined
  readonly reason: string
  /** Where it is written. */
  readonly source: string
}

export interface OracleOptions {
  /** B starts to send more than a one-way delay after A's first packet has come to B's router. Default: false. */
  readonly late?: boolean
}

/** Sockets and probes of a birthday attack that is worth while: 98 % against a whole port range, within seconds. */
export const BIRTHDAY = { sockets: 256, probes: 1024 } as const

/**
 * The theory, written once: can A (who dials) and B get a direct UDP path, and how? Two peers of one kind share what
 * that kind says (`Kind.shared`).
 */
export function directPathPossible(
  kindA: KindName,
  kindB: KindName,
  abilities: Iterable<Ability>,
  options: OracleOptions = {},
): Verdict {
  const able = new Set(abilities)
  const verdicts = familiesOf(kinds[kindA], able)
    .filter((family) => familiesOf(kinds[kindB], able).includes(family))
    .map((family) => judge(situation(kindA, kindB, family, able, options)))
  return verdicts.find((one) => one.possible) ?? verdicts[0] ?? NO_FAMILY
}

/**
 * The odds that one of `probes` datagrams to different ports hits one of `open` ports out of `ports`: 256 open and
 * 1,024 probes of 64,512 give 98 %.
 */
export function birthdayOdds(open: number, probes: number, ports: number): number {
  let miss = 1
  for (let i = 0; i < probes && miss > 0; i++) miss *= Math.max(0, 1 - open / (ports - i))
  return 1 - miss
}

const ALL_PORTS = LAST_PORT - FIRST_PORT + 1

/** A row of the theory. The first row that applies decides. */
export interface OracleRow {
  readonly when: string
  /** Abilities it takes; the row is passed over without them. */
  readonly needs: readonly Ability[]
  /** undefined: not possible. */
  readonly by: Method | undefined
  readonly reason: string
  readonly source: string
  /** @internal */
  readonly applies: (situation: Situation) => boolean
}

/** One side as the other meets it. */
interface Side {
  readonly behaviour: Behaviour
  /** The other can know the port of the mapping towards it: it is the one that the helper sees. */
  readonly isKnown: boolean
  /** Anybody's packet to the known port comes in. */
  readonly isOpen: boolean
  readonly mapsPorts: boolean
}

interface Situation {
  readonly a: Side
  readonly b: Side
  readonly able: ReadonlySet<Ability>
  readonly shared: Kind['shared']
  readonly isolated: boolean
}

/** In the order in which they are asked: the simplest method first. */
export const oracleRows: readonly OracleRow[] = [
  {
    when: 'either side cannot send UDP',
    needs: [],
    by: undefined,
    reason: 'No UDP leaves the site: only a relay over TCP or TLS is left.',
    source: 'RFC 8656 §3.1',
    applies: ({ a, b }) => isShut(a) || isShut(b),
  },
  {
    when: 'both are clients of the same router, which lets them talk',
    needs: ['host-candidates'],
    by: 'host-candidates',
    reason: 'They reach each other’s private address on their own wire.',
    source: 'RFC 8445 §5.1.1.1, RFC 5128 §3.3.2',
    applies: ({ shared, isolated }) => shared === 'router' && !isolated,
  },
  {
    when: 'both are behind the same NAT, and it does no hairpin',
    needs: [],
    by: undefined,
    reason: 'Their only known addresses are outside of the NAT, and it sends nothing back in.',
    source: 'RFC 4787 §6 (REQ-9)',
    applies: ({ shared, a }) => shared !== 'nothing' && a.behaviour.hairpin === 'none',
  },
  {
    when: 'B’s port is known and open to everybody',
    needs: [],
    by: 'dial',
    reason: 'A sends to it. B answers to where that came from, which A’s NAT has just opened for B.',
    source: 'RFC 4787 §5, RFC 5128 §2.5',
    applies: ({ b }) => b.isOpen,
  },
  {
    when: 'B’s router maps a port on request, and is the outermost',
    needs: ['port-mapping'],
    by: 'port-mapping',
    reason: 'The mapped port is open to everybody.',
    source: 'RFC 6887 §11, RFC 6886 §3.3',
    applies: ({ b }) => b.mapsPorts,
  },
  {
    when: 'A’s router maps a port on request, and is the outermost',
    needs: ['port-mapping', 'punch'],
    by: 'port-mapping',
    reason: 'B is told to send to A’s mapped port, which is open to everybody.',
    source: 'RFC 6887 §11, RFC 5128 §3.2',
    applies: ({ a }) => a.mapsPorts,
  },
  {
    when: 'A’s port is known and open to everybody',
    needs: ['punch'],
    by: 'punch',
    reason: 'Connection reversal: B is told, and sends to A.',
    source: 'RFC 5128 §3.2',
    applies: ({ a }) => a.isOpen,
  },
  {
    when: 'both mappings are known',
    needs: ['punch'],
    by: 'punch',
    reason: 'Each side’s first packet opens its own NAT for the other, whatever the filtering.',
    source: 'RFC 5128 §3.3.1, RFC 4787 §4.1 (REQ-1)',
    applies: ({ a, b }) => a.isKnown && b.isKnown,
  },
  {
    when: 'one mapping is known with address-dependent filtering, the other is endpoint-dependent',
    needs: ['punch'],
    by: 'punch',
    reason:
      'The known side has sent to the other’s address, so a packet from any port of it comes in; the answer goes to where it came from.',
    source: 'RFC 4787 §5 (REQ-8)',
    applies: (s) =>
      either(s, (x, y) => x.isKnown && x.behaviour.filtering === 'address-dependent' && !y.isKnown),
  },
  {
    when: 'the endpoint-dependent sides give sequential ports',
    needs: ['punch', 'prediction'],
    by: 'prediction',
    reason: 'The next port follows from the last one seen, while nobody else opens mappings in between.',
    source: 'RFC 5128 §3.5',
    applies: ({ a, b }) => [a, b].every((one) => one.isKnown || one.behaviour.ports === 'sequential'),
  },
  {
    when: 'one mapping is known, the other is endpoint-dependent within a block of ports',
    needs: ['punch', 'exhaustive'],
    by: 'exhaustive',
    reason: `The dependent side keeps sending to the known port; the known side sends to all ${text(PORT_BLOCK)} ports of the block in which the helper saw the other.`,
    source: 'RFC 6888 §5 (REQ-14), RFC 5128 §3.5',
    applies: (s) => either(s, (x, y) => x.isKnown && y.behaviour.ports === 'block'),
  },
  {
    when: 'one mapping is known, the other is endpoint-dependent',
    needs: ['punch', 'birthday'],
    by: 'birthday',
    reason: `The dependent side opens ${text(BIRTHDAY.sockets)} mappings towards the known port; ${text(BIRTHDAY.probes)} probes to random ports hit one of them with a probability of ${text(100 * birthdayOdds(BIRTHDAY.sockets, BIRTHDAY.probes, ALL_PORTS))} %.`,
    source: 'RFC 5128 §3.5, RFC 4787 §4.2.1',
    applies: ({ a, b }) => a.isKnown || b.isKnown,
  },
  {
    when: 'one mapping is known, the other is endpoint-dependent',
    needs: ['punch', 'exhaustive'],
    by: 'exhaustive',
    reason: `The dependent side keeps sending to the known port from one socket; the known side sends to all ${text(ALL_PORTS)} ports.`,
    source: 'RFC 5128 §3.5, RFC 4787 §4.2.1',
    applies: ({ a, b }) => a.isKnown || b.isKnown,
  },
  {
    when: 'both are endpoint-dependent, one of them address-dependent only',
    needs: ['punch', 'exhaustive'],
    by: 'exhaustive',
    reason:
      'Towards the other’s address it has one port. Each side sends to every port of the other: the one packet that hits that port comes from a port it has sent to.',
    source: 'RFC 4787 §4.1, §5',
    applies: (s) => either(s, (x) => x.behaviour.mapping === 'address-dependent'),
  },
  {
    when: 'one mapping is known with address-and-port-dependent filtering, the other is endpoint-dependent',
    needs: [],
    by: undefined,
    reason:
      'The dependent side’s packets come from a port that nobody knows, and the known side lets in only the one that it has sent to.',
    source: 'RFC 5128 §5.2, RFC 4787 §4.1 (REQ-1)',
    applies: (s) => s.able.has('punch') && either(s, (x, y) => x.isKnown && !y.isKnown),
  },
  {
    when: 'both mappings are address-and-port-dependent',
    needs: [],
    by: undefined,
    reason: `A packet comes in only when its port on both sides is right at once, and at least one of the two is a guess: one out of ${text(ALL_PORTS)} (of ${text(PORT_BLOCK)} within a block) for every pair tried.`,
    source: 'RFC 5128 §5.2, RFC 4787 §4.1 (REQ-1)',
    applies: ({ able }) => able.has('punch'),
  },
  {
    when: 'B lets in answers only, and nobody tells it to send first',
    needs: [],
    by: undefined,
    reason: 'A’s packets come unasked, and B’s filter drops them.',
    source: 'RFC 4787 §5 (REQ-8)',
    applies: () => true,
  },
]

/**
 * Kinds that are the same to the oracle, by what matters for a path: what a reader of the table wants to compare.
 * `shared`: two peers of such a kind sit behind the same NAT, and then rows of their own come first.
 */
export function oracleClasses(): ReadonlyMap<string, readonly KindName[]> {
  const classes = new Map<string, KindName[]>()
  for (const name of kindNames) {
    const { behaviour, families } = kinds[name]
    const label = `${classOf(behaviour)}${families.includes(6) ? `, IPv${families.join(' and IPv')}` : ''}`
    classes.set(label, [...(classes.get(label) ?? []), name])
  }
  return classes
}

function judge(s: Situation): Verdict {
  const row = oracleRows.find(({ needs, applies }) => needs.every((one) => s.able.has(one)) && applies(s))
  if (!row) throw new Error('the last row of the oracle applies always')
  const { by, reason, source } = row
  return { possible: by !== undefined, by, reason, source }
}

const NO_FAMILY: Verdict = {
  possible: false,
  by: undefined,
  reason: 'The two have no address family in common (or cannot use it).',
  source: 'RFC 8445 §6.1.2.2',
}

function situation(
  kindA: KindName,
  kindB: KindName,
  family: 4 | 6,
  able: ReadonlySet<Ability>,
  { late = false }: OracleOptions,
): Situation {
  const [a, b] = [kinds[kindA], kinds[kindB]]
  return {
    a: sideOf(a, family, false),
    b: sideOf(b, family, late && !able.has('low-ttl')),
    able,
    shared: kindA === kindB ? a.shared : 'nothing',
    isolated: a.routers.some((router) => router.isolated),
  }
}

function familiesOf({ name, families }: Kind, able: ReadonlySet<Ability>): readonly (4 | 6)[] {
  return families.filter((family) =>
    family === 6 ? able.has('ipv6') : name !== 'nat64' || able.has('nat64'),
  )
}

function sideOf(kind: Kind, family: 4 | 6, isPreceded: boolean): Side {
  // IPv6 is not translated: a NAT64 client's own IPv6 passes a stateful firewall.
  const behaviour = kind.name === 'nat64' && family === 6 ? kinds.firewall6.behaviour : kind.behaviour
  const isMovable =
    kind.routers.some(
      ({ netfilter }) => netfilter?.source === 'masquerade' && netfilter.input === 'accept',
    ) && behaviour?.filtering !== 'endpoint-independent'
  if (!behaviour) return { behaviour: SHUT, isKnown: false, isOpen: false, mapsPorts: false }
  // A packet that comes first takes the port on an unfiltered Linux router: the mapping towards its sender moves.
  const isMoved = isPreceded && isMovable
  const isKnown =
    !isMoved &&
    (behaviour.mapping === 'endpoint-independent' ||
      behaviour.ports === 'preserving' ||
      behaviour.ports === 'fixed')
  return {
    behaviour: isMoved ? { ...behaviour, mapping: 'address-and-port-dependent', ports: 'random' } : behaviour,
    isKnown,
    isOpen: isKnown && behaviour.filtering === 'endpoint-independent',
    mapsPorts: kind.routers.at(-1)?.portMapping ?? false,
  }
}

const SHUT: Behaviour = {
  mapping: 'endpoint-independent',
  filtering: 'address-and-port-dependent',
  ports: 'random',
  lifetime: 0,
  hairpin: 'none',
}

function isShut(side: Side): boolean {
  return side.behaviour === SHUT
}

function either({ a, b }: Situation, holds: (x: Side, y: Side) => boolean): boolean {
  return holds(a, b) || holds(b, a)
}

/** `64,512`, `98` */
function text(value: number): string {
  return Math.round(value).toLocaleString('en')
}

function classOf(behaviour: Behaviour | undefined): string {
  if (!behaviour) return 'no UDP'
  const { mapping, filtering, ports } = behaviour
  if (mapping === 'endpoint-independent' || ports === 'preserving') {
    if (filtering === 'endpoint-independent') return 'open'
    return filtering === 'address-dependent' ? 'known, address filter' : 'known, port filter'
  }
  if (mapping === 'address-dependent') return 'per address'
  return ports === 'random' ? 'dependent, random' : `dependent, ${ports}`
}
