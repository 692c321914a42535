import type { Scenario, Step } from '../scenario.ts'

/**
 * The classic cases by name. eim: endpoint-independent mapping (port-restricted cone); edm: endpoint-dependent mapping
 * (symmetric); dmz: open to everybody at a fixed port.
 */
export const classicScenarios: readonly Scenario[] = [
  {
    name: 'dmz-dmz',
    summary: 'Two DMZ hosts reach each other without any coordination.',
    kinds: { a: 'dmz', b: 'dmz' },
    steps: oneDials(true),
  },
  {
    name: 'edm-to-dmz',
    summary: 'A host behind a symmetric NAT dials a DMZ host.',
    kinds: { a: 'symmetric', b: 'dmz' },
    steps: oneDials(true),
  },
  {
    name: 'dmz-to-edm',
    summary: 'A DMZ host cannot dial a host behind a symmetric NAT that has not spoken to it.',
    kinds: { a: 'dmz', b: 'symmetric' },
    steps: oneDials(false),
  },
  {
    name: 'dmz-to-edm-after-edm-spoke',
    summary: 'Once the host behind the symmetric NAT has spoken to the DMZ host, that one’s packets come in.',
    kinds: { a: 'dmz', b: 'symmetric' },
    steps: [
      ...oneDials(false),
      { do: 'dial', who: 'b' },
      { do: 'expect', direct: true, within: 3000 },
      { do: 'send', who: 'a', arrives: true, within: 500 },
    ],
  },
  {
    name: 'eim-to-dmz',
    summary: 'A host behind a port-restricted NAT dials a DMZ host.',
    kinds: { a: 'port-restricted', b: 'dmz' },
    steps: oneDials(true),
  },
  {
    name: 'eim-eim-uncoordinated',
    summary: 'Without coordination one port-restricted NAT drops what the other side sends.',
    kinds: { a: 'port-restricted', b: 'port-restricted' },
    steps: oneDials(false),
  },
  {
    name: 'eim-eim',
    summary: 'With coordination two port-restricted NATs open for each other.',
    kinds: { a: 'port-restricted', b: 'port-restricted' },
    steps: bothDial(true),
  },
  {
    name: 'edm-eim',
    summary: 'Symmetric against port-restricted: simple punching fails.',
    kinds: { a: 'symmetric', b: 'port-restricted' },
    steps: bothDial(false),
  },
  {
    name: 'edm-edm',
    summary: 'Symmetric against symmetric: simple punching fails.',
    kinds: { a: 'symmetric', b: 'symmetric' },
    steps: bothDial(false),
  },
  {
    name: 'edm-address-restricted',
    summary: 'Symmetric against address-restricted: the address is enough for the filter.',
    kinds: { a: 'symmetric', b: 'address-restricted' },
    steps: bothDial(true),
  },
]

/** What goes wrong, or right, over time. */
export const courseScenarios: readonly Scenario[] = [
  {
    name: 'literal-late',
    summary: 'An unfiltered Linux router: the other’s early packet moves the mapping of who starts late.',
    kinds: { a: 'port-restricted', b: 'port-restricted-literal' },
    steps: lateStart(false),
  },
  {
    name: 'literal-late-low-ttl',
    summary:
      'The same with a low TTL on the opening packets: they die between the routers, and nothing moves.',
    kinds: { a: 'port-restricted', b: 'port-restricted-literal' },
    steps: lateStart(true, 5),
  },
  {
    name: 'filtered-late',
    summary: 'A router that drops what is sent to itself does not mind a late start.',
    kinds: { a: 'port-restricted', b: 'port-restricted' },
    steps: lateStart(true),
  },
  {
    name: 'mapping-expires',
    summary: 'A NAT with a short lifetime forgets a silent path; the client’s own packet opens it again.',
    kinds: { a: 'dmz', b: 'short-lifetime' },
    steps: [
      ...bothDial(true),
      { do: 'wait', ms: 12_000 },
      { do: 'send', who: 'a', arrives: false, within: 500 },
      { do: 'send', who: 'b', arrives: true, within: 500 },
      { do: 'send', who: 'a', arrives: true, within: 500 },
    ],
  },
  {
    name: 'reboot',
    summary: 'After its router’s reboot a client is unreachable until it speaks.',
    kinds: { a: 'dmz', b: 'port-restricted' },
    steps: [
      ...bothDial(true),
      { do: 'wait', ms: 2000 },
      { do: 'reboot', who: 'b' },
      { do: 'send', who: 'a', arrives: false, within: 500 },
      { do: 'send', who: 'b', arrives: true, within: 500 },
      { do: 'send', who: 'a', arrives: true, within: 500 },
    ],
  },
  {
    name: 'blocked-path',
    summary: 'A path that is blocked carries nothing, and carries again when it is open.',
    kinds: { a: 'port-restricted', b: 'port-restricted' },
    steps: [
      ...bothDial(true),
      { do: 'wait', ms: 2000 },
      { do: 'block' },
      { do: 'send', who: 'a', arrives: false, within: 500 },
      { do: 'unblock' },
      { do: 'send', who: 'a', arrives: true, within: 500 },
      { do: 'send', who: 'b', arrives: true, within: 500 },
    ],
  },
]

export const scenarios: readonly Scenario[] = [...classicScenarios, ...courseScenarios]

function oneDials(direct: boolean): Step[] {
  return [
    { do: 'start', who: 'b', dials: false },
    { do: 'start', who: 'a', dials: true },
    { do: 'expect', direct, within: 3000 },
  ]
}

function bothDial(direct: boolean): Step[] {
  return [
    { do: 'start', who: 'b', dials: true },
    { do: 'start', who: 'a', dials: true },
    { do: 'expect', direct, within: 3000 },
  ]
}

function lateStart(direct: boolean, openingTtl?: number): Step[] {
  return [
    { do: 'start', who: 'b', dials: true, late: 300 },
    { do: 'start', who: 'a', dials: true, ...(openingTtl !== undefined && { openingTtl }) },
    { do: 'expect', direct, within: 3000 },
  ]
}
