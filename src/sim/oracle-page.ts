import { kindNames, kinds } from './kinds.ts'
import type { Behaviour } from './kinds.ts'
import { ALL_ABILITIES, directPathPossible, oracleClasses, oracleRows, SIMPLE_PUNCH } from './oracle.ts'
import type { Ability } from './oracle.ts'

/** The theory as a page of Markdown: the kinds, the rows, and who reaches whom. */
export function renderOracle(): string {
  return [
    '# Can the two have a direct path?',
    '',
    '<!-- Generated from src/sim/kinds.ts and src/sim/oracle.ts by `npm run docs:oracle`. -->',
    '',
    'What the theory says about every pair of router kinds, from `directPathPossible(kindA, kindB, abilities)` in',
    '`natwork/sim`. The reference punch is run for every ordered pair in the simulator, and gets through exactly',
    'where this page says that simple punching can.',
    '',
    '## The router kinds',
    '',
    'RFC 4787’s words, as an observer outside sees the whole chain of routers. EI: endpoint-independent; AD:',
    'address-dependent; APD: address-and-port-dependent.',
    '',
    ...kindTable(),
    '',
    '## The rows',
    '',
    'A dials B. The first row that applies, and whose abilities both programs have, decides. A mapping is _known_',
    'when the port that a helper sees is the port that the peer sees: it is endpoint-independent, or preserves the',
    'client’s port.',
    '',
    ...rowTable(),
    '',
    '## Simple punching',
    '',
    'Down: A, across: B. Classes of kinds that the rows cannot tell apart, while A and B do not share a NAT.',
    '',
    ...[...oracleClasses()].map(
      ([label, names]) => `- **${label}**: ${names.map((name) => `\`${name}\``).join(', ')}`,
    ),
    '',
    ...matrix(SIMPLE_PUNCH),
    '',
    '## With every ability',
    '',
    ...matrix(ALL_ABILITIES),
    '',
    '## Two peers of one kind that share a NAT',
    '',
    ...sharedTable(),
    '',
    '## An unfiltered Linux router and a late start',
    '',
    'An unfiltered router (`port-restricted-literal`) answers a datagram to itself with ICMP and keeps a conntrack entry.',
    'When the other side’s packet comes before the client’s own has left, that entry holds the port, and the client’s',
    'mapping towards that peer moves to a random one: a known mapping has become a dependent one. Both sides starting',
    'within the one-way delay, opening packets with a low TTL, or the router’s input drop avoid it.',
    '',
    ...lateTable(),
    '',
  ].join('\n')
}

function kindTable(): string[] {
  return table(
    ['Kind', 'What it is', 'Mapping', 'Filtering', 'Ports', 'Lifetime', 'Hairpin'],
    kindNames.map((name) => {
      const { summary, behaviour } = kinds[name]
      return [`\`${name}\``, summary, ...(behaviour ? words(behaviour) : ['–', '–', '–', '–', '–'])]
    }),
  )
}

function words({ mapping, filtering, ports, lifetime, hairpin }: Behaviour): string[] {
  const short = {
    'endpoint-independent': 'EI',
    'address-dependent': 'AD',
    'address-and-port-dependent': 'APD',
  }
  return [
    short[mapping],
    short[filtering],
    ports,
    lifetime === Infinity ? 'no end' : `${lifetime} s`,
    hairpin,
  ]
}

function rowTable(): string[] {
  return table(
    ['', 'When', 'With', 'A direct path?', 'Why', 'Source'],
    oracleRows.map((row, i) => [
      String(i + 1),
      row.when,
      row.needs.join(', ') || 'nothing',
      row.by === undefined ? 'no' : `by ${row.by}`,
      row.reason,
      row.source,
    ]),
  )
}

function matrix(abilities: readonly Ability[]): string[] {
  // A class's first member speaks for it; of a shared kind it is one that sits elsewhere than its peer.
  const classes = [...oracleClasses()].map(([label, [name = 'none']]) => [label, name] as const)
  return table(
    ['', ...classes.map(([label]) => label)],
    classes.map(([label, a]) => [
      `**${label}**`,
      ...classes.map(([, b]) => directPathPossible(a, b, abilities).by ?? 'no'),
    ]),
  )
}

function sharedTable(): string[] {
  return table(
    ['Kind', 'Simple punching', 'With host candidates too'],
    kindNames
      .filter((name) => kinds[name].shared !== 'nothing')
      .map((name) => [
        `\`${name}\``,
        directPathPossible(name, name, SIMPLE_PUNCH).by ?? 'no',
        directPathPossible(name, name, [...SIMPLE_PUNCH, 'host-candidates']).by ?? 'no',
      ]),
  )
}

function lateTable(): string[] {
  const b = 'port-restricted-literal'
  const late = { late: true }
  return table(
    [`A, with \`${b}\` as B`, 'Together', 'B late', 'B late, A with low TTL'],
    (['port-restricted', 'address-restricted', 'dmz', 'symmetric'] as const).map((a) => [
      `\`${a}\``,
      directPathPossible(a, b, SIMPLE_PUNCH).by ?? 'no',
      directPathPossible(a, b, SIMPLE_PUNCH, late).by ?? 'no',
      directPathPossible(a, b, [...SIMPLE_PUNCH, 'low-ttl'], late).by ?? 'no',
    ]),
  )
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)]
}
