import { AUTHORITATIVE_ANSWER, decode, encode, type Answer, type Packet } from 'dns-packet'
import { familyOf } from '../core/address.ts'
import { canonicalIp } from '../core/ip.ts'

/** What nodes are found as (RFC 6763 §7). */
export const SERVICE = '_natwork._udp.local'

/** RFC 6762 §3: where multicast DNS is spoken. */
export const MDNS_PORT = 5353
export const MDNS_GROUP = { 4: '224.0.0.251', 6: 'ff02::fb' } as const

/** Seconds, RFC 6762 §10: 120 for what names an address, 75 minutes for the rest. */
export const ADDRESS_TTL = 120
export const NAME_TTL = 4_500
/** Seconds, RFC 6762 §6.7: for who is no multicast DNS querier, and will not hear what changes. */
const LEGACY_TTL = 10

/** Bytes, RFC 6762 §17. */
const MAX_MESSAGE = 9_000
/** Records and questions of a message: each costs a stranger 12 bytes, and us a name of up to 127 labels. */
const MAX_RECORDS = 64
/** Addresses of one node in one message, theirs and ours: with eight IPv6 ones it still fits an Ethernet frame. */
export const MAX_ADDRESSES = 8
/** Names in a query that need not answer: that many fit a frame. */
const MAX_KNOWN = 10

/** A node as it is announced: `LABEL._natwork._udp.local`, which is its host name, too. */
export interface Announced {
  readonly label: string
  readonly port: number
  /** IP literals without zones. */
  readonly addresses: readonly string[]
}

/** What a message asks. */
export interface Query {
  readonly kind: 'query'
  readonly id: number
  readonly questions: readonly { readonly name: string; readonly type: string }[]
  /** Labels whose answer is not needed (RFC 6762 §7.1). */
  readonly known: ReadonlySet<string>
}

/** What a message says of one node. */
export interface Saying extends Announced {
  /** Seconds; 0 is good-bye. */
  readonly ttl: number
}

export interface Response {
  readonly kind: 'response'
  readonly said: readonly Saying[]
}

/** What there is in a datagram about natwork; undefined when that is nothing, or it is no message. Never throws. */
export function readMessage(bytes: Uint8Array): Query | Response | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (!isWorthReading(buffer)) return undefined
  try {
    const packet = decode(buffer)
    return packet.type === 'query' ? readQuery(packet) : readResponse(packet)
  } catch {
    return undefined
  }
}

/** Says where a node is, to everybody; with a `ttl` of 0, that it goes. */
export function writeAnnouncement(own: Announced, isGoodbye = false): Uint8Array {
  const lifetime = (seconds: number): number => (isGoodbye ? 0 : seconds)
  return encode({
    type: 'response',
    flags: AUTHORITATIVE_ANSWER,
    answers: records(own, lifetime(NAME_TTL), lifetime(ADDRESS_TTL), true),
  })
}

/** RFC 6762 §6.7: the same as an ordinary answer, for who asks from another port, such as `dig`. */
export function writeLegacyAnswer(own: Announced, { id, questions }: Query): Uint8Array {
  // Of what was asked only that comes back which has an answer: the rest may be no names at all.
  const answered = questions.flatMap(({ name, type }) => {
    const known = [SERVICE, nameOf(own.label)].find((one) => isSame(one, name))
    const asked = TYPES.find((one) => one === type)
    return known === undefined || asked === undefined ? [] : [{ name: known, type: asked }]
  })
  return encode({
    type: 'response',
    id,
    flags: AUTHORITATIVE_ANSWER,
    questions: answered.slice(0, 1),
    answers: records(own, LEGACY_TTL, LEGACY_TTL, false),
  })
}

/** Asks who is there. Of `known`, `remaining` seconds long, nobody needs to answer. */
export function writeQuery(
  known: readonly { readonly label: string; readonly remaining: number }[],
): Uint8Array {
  return encode({
    type: 'query',
    questions: [{ name: SERVICE, type: 'PTR' }],
    answers: known.slice(0, MAX_KNOWN).map(({ label, remaining }) => ({
      ...{ name: SERVICE, type: 'PTR', ttl: remaining, data: nameOf(label) },
    })),
  })
}

export function nameOf(label: string): string {
  return `${label}.${SERVICE}`
}

/**
 * Decoding all that strangers send would cost up to 34 ms a datagram. So nothing is decoded that does not hold our
 * name, byte by byte, or that is long for what it can have to say.
 */
function isWorthReading(buffer: Buffer): boolean {
  if (buffer.length < HEADER || buffer.length > MAX_MESSAGE) return false
  // RFC 6762 §18.3, §18.11: other operations and codes are ignored.
  if ((buffer.readUInt16BE(2) & OPCODE_AND_RCODE) !== 0) return false
  const counts = [4, 6, 8, 10].map((at) => buffer.readUInt16BE(at))
  return counts.reduce((sum, count) => sum + count, 0) <= MAX_RECORDS && buffer.includes(NEEDLE)
}

const HEADER = 12
const OPCODE_AND_RCODE = 0x780f
const NEEDLE = Buffer.from('\x08_natwork\x04_udp')

function readQuery({ id = 0, questions = [], answers = [] }: Packet): Query {
  const known = answers.flatMap((answer) =>
    // RFC 6762 §7.1: a record whose time is half over is to be said again.
    answer.type === 'PTR' && isSame(answer.name, SERVICE) && (answer.ttl ?? 0) >= NAME_TTL / 2
      ? (labelOf(answer.data) ?? [])
      : [],
  )
  return { kind: 'query', id, questions, known: new Set(known) }
}

function readResponse({ answers = [], additionals = [] }: Packet): Response {
  const all = [...answers, ...additionals]
  const said = all.flatMap((record): Saying[] => {
    const label = record.type === 'SRV' ? labelOf(record.name) : undefined
    if (label === undefined || record.type !== 'SRV') return []
    const { port, target } = record.data
    if (port === 0) return []
    const found = all.flatMap((one) =>
      (one.type === 'A' || one.type === 'AAAA') && isSame(one.name, target) ? [one] : [],
    )
    const addresses = [...new Set(found.map(({ data }) => canonicalIp(data)))].slice(0, MAX_ADDRESSES)
    const ttl = Math.min(record.ttl ?? 0, ...found.map((one) => one.ttl ?? 0))
    return [{ label, port, addresses, ttl }]
  })
  return { kind: 'response', said }
}

/** The first label of an instance's name. */
function labelOf(name: string): string | undefined {
  const suffix = `.${SERVICE}`
  return isSame(name.slice(-suffix.length), suffix) ? name.slice(0, -suffix.length).toLowerCase() : undefined
}

/** RFC 6762 §16: case makes no difference. */
export function isSame(name: string, other: string): boolean {
  return name.length === other.length && name.toLowerCase() === other.toLowerCase()
}

const TYPES = ['PTR', 'SRV', 'TXT', 'A', 'AAAA', 'NSEC'] as const

/**
 * All there is to say, in one message. The instance is its own host name, so that the machine's stays unsaid. `flush`
 * marks what is this node's alone (RFC 6762 §10.2).
 */
function records(
  { label, port, addresses }: Announced,
  ttl: number,
  addressTtl: number,
  flush: boolean,
): Answer[] {
  const name = nameOf(label)
  const there = addresses.slice(0, MAX_ADDRESSES).map((address): Answer => {
    return { name, type: familyOf(address) === 4 ? 'A' : 'AAAA', ttl: addressTtl, flush, data: address }
  })
  const types = ['TXT', 'SRV', ...new Set(there.map(({ type }) => type))]
  return [
    { name: SERVICE, type: 'PTR', ttl, data: name },
    { name, type: 'SRV', ttl: addressTtl, flush, data: { port, target: name } },
    // RFC 6763 §6.1: must be there, though there is nothing to say.
    { name, type: 'TXT', ttl, flush, data: '' },
    ...there,
    // RFC 6762 §6.1: and nothing else.
    { name, type: 'NSEC', ttl: addressTtl, flush, data: { nextDomain: name, rrtypes: types } },
  ]
}
