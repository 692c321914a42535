import { formatAddress } from '../../core/index.ts'
import type { Finding, Lifetime } from '../../stun/index.ts'
import { table, type Style } from '../output.ts'
import type { FamilyLook, Look } from './look.ts'

/** For programs: each verdict with `value` (null: not found out), `certain`, `observations` and `meaning`. */
export function inJson(seen: Look): object {
  const { local, ipv4, ipv6, nat64, portMapping, doubleNat } = seen
  return {
    local: formatAddress(local),
    ipv4: familyInJson(ipv4),
    ipv6: familyInJson(ipv6),
    nat64: finding(nat64),
    portMapping: finding(portMapping),
    doubleNat: finding(doubleNat),
  }
}

/** For people: the verdicts of each family, then what they rest on. */
export function describe(seen: Look, style: Style): string {
  const { local, ipv4, ipv6, nat64, portMapping, doubleNat } = seen
  const here: Row[] = [
    ['port mapping', portMapping, portMapping.value && (portMapping.value.join(', ') || 'none')],
    ['double NAT', doubleNat, doubleNat.value === undefined ? undefined : doubleNat.value ? 'yes' : 'no'],
    ['NAT64', nat64, nat64.value && (nat64.value.join(', ') || 'none')],
  ]
  const families = [
    ['IPv4', ipv4],
    ['IPv6', ipv6],
  ] as const
  const present = families.flatMap(([name, family]) => (family === undefined ? [] : [{ name, family }]))
  return [
    `Looked at from UDP ${formatAddress(local)}`,
    ...present.flatMap(({ name, family }) => ['', verdicts(style, name, rowsOf(family))]),
    '',
    verdicts(style, 'HERE', here),
    '',
    table(style, [
      ['SERVER', 'SEES THIS SOCKET AT', 'ROUND TRIP'],
      ...present.flatMap(({ family }) => servers(family)),
    ]),
    '',
    ...present.flatMap(({ family }) => reasons(rowsOf(family))).map((reason) => style.dim(`· ${reason}`)),
    ...reasons(here).map((reason) => style.dim(`· ${reason}`)),
  ].join('\n')
}

type Row = readonly [name: string, finding: Finding<unknown>, value: string | undefined]

function verdicts(style: Style, name: string, rows: readonly Row[]): string {
  return table(style, [
    [name, 'VERDICT', 'WHAT IT MEANS'],
    ...rows.map(([what, { certain, meaning }, value]) => [
      what,
      value === undefined ? 'not known' : certain ? value : `${value} (likely)`,
      meaning,
    ]),
  ])
}

function rowsOf({ behaviour, mtu, lifetime }: FamilyLook): Row[] {
  const { udp, translation, publicAddress, mapping, filtering, hairpin, ports } = behaviour
  const step = ports.step === undefined ? '' : `, step ${ports.step}`
  return [
    ['UDP', udp, udp.value === true ? 'passes' : 'blocked'],
    ['public address', publicAddress, publicAddress.value && formatAddress(publicAddress.value)],
    ['translation', translation, translation.value],
    ['mapping', mapping, mapping.value],
    ['filtering', filtering, filtering.value],
    ['port allocation', ports, ports.value && `${ports.value}${step}`],
    ['hairpin', hairpin, hairpin.value],
    ...optional('packet size', mtu, (bytes) => `${bytes} bytes`),
    ...optional('mapping lives', lifetime, inWords),
  ]
}

function optional<T>(name: string, one: Finding<T> | undefined, inWords: (value: T) => string): Row[] {
  return one === undefined ? [] : [[name, one, one.value === undefined ? undefined : inWords(one.value)]]
}

function inWords({ atLeast, lessThan }: Lifetime): string {
  const seconds = (time: number): string => String(Math.floor(time))
  if (lessThan === undefined) return `over ${seconds(atLeast)} s`
  return atLeast === 0 ? `under ${seconds(lessThan)} s` : `${seconds(atLeast)}–${seconds(lessThan)} s`
}

function servers({ behaviour }: FamilyLook): string[][] {
  return behaviour.observations.map(({ server, mapped, rtt }) => [
    formatAddress(server),
    mapped === undefined ? 'no answer' : formatAddress(mapped),
    rtt === undefined ? '' : `${(rtt / 1_000).toFixed(1)} ms`,
  ])
}

/** What is not in the table of servers. */
function reasons(rows: readonly Row[]): string[] {
  const own = new Set(['UDP', 'public address', 'translation', 'mapping'])
  return rows.filter(([name]) => !own.has(name)).flatMap(([, { observations }]) => observations)
}

function familyInJson(family: FamilyLook | undefined): object | null {
  if (family === undefined) return null
  const { behaviour, mtu, lifetime } = family
  const { udp, publicAddress, translation, mapping, filtering, ports, hairpin, observations } = behaviour
  const address = publicAddress.value && formatAddress(publicAddress.value)
  return {
    udp: finding(udp),
    publicAddress: finding({ ...publicAddress, value: address }),
    translation: finding(translation),
    mapping: finding(mapping),
    filtering: finding(filtering),
    ports: finding(ports),
    hairpin: finding(hairpin),
    mtu: mtu === undefined ? null : finding(mtu),
    lifetime: lifetime === undefined ? null : finding(lifetime),
    servers: observations.map(({ server, mapped, rtt }) => ({
      server: formatAddress(server),
      mapped: mapped === undefined ? null : formatAddress(mapped),
      roundTrip: rtt === undefined ? null : rtt / 1_000,
    })),
  }
}

function finding<T>(one: Finding<T>): object {
  return { ...one, value: one.value ?? null }
}
