import { createPublicKey, randomBytes, sign, verify, type KeyObject } from 'node:crypto'
import { base58btc } from 'multiformats/bases/base58'
import { formatAddress, parseAddress, type SocketAddress } from '../core/address.ts'
import { UsageError } from '../core/errors.ts'
import { formatHelper, parseHelperReference, type HelperReference } from './helper-reference.ts'
import type { Identity } from './identity.ts'
import { nodeIdOf, type NodeId } from './node-id.ts'
import { maxAddresses } from './node-info.ts'
import { isServiceName } from './services.ts'

/** What a ticket's text says. Possession of the text is the right to use it: treat it like a password. */
export interface Ticket {
  /** Names the ticket in records, logs and revocation; not secret and not enough to use it. */
  readonly ticketId: string
  /** The node that made it, and whose service it opens. */
  readonly id: NodeId
  /** Where that node was when it made the ticket; newer records are tried too. */
  readonly addresses: readonly SocketAddress[]
  /** Nodes through which it heard signals then, at most 2: the way to a node behind a NAT. */
  readonly helpers: readonly HelperReference[]
  readonly service: string
  /** Unix time, seconds. */
  readonly expires: number
  /** How many different nodes may use it, 1–1,000; each as often as it likes until it expires. */
  readonly uses: number
  /** The whole ticket: what is given to the other person. */
  readonly text: string
}

export const maxTicketUses = 1_000
export const maxTicketLength = 2_048
/** Each makes the text about 100 characters longer. */
export const maxTicketHelpers = 2

export type TicketTerms = Pick<Ticket, 'addresses' | 'service' | 'expires' | 'uses'> &
  Partial<Pick<Ticket, 'helpers'>>

const prefix = 'natwork1'
const domain = Buffer.from('natwork ticket 1\n')
// RFC 8410 §4: every Ed25519 SubjectPublicKeyInfo is these twelve bytes and the key.
const spkiHead = Buffer.from('302a300506032b6570032100', 'hex')
const keyLength = 32
const ticketIdLength = 10
const signatureLength = 64

/**
 * Layout after the prefix, base58btc (no characters that look alike, and a double click selects all of it):
 *
 *     key 32 | ticket id 10 | expires 6 | uses 2 | service length 1, service | addresses, then helpers as
 *     ID@address, all as text with spaces between | signature 64
 *
 * The signature covers everything before it: its holder can see that no word was altered, and since nobody can make one
 * without the key, it is the capability too.
 */
export function signTicket(identity: Identity, terms: TicketTerms): Ticket {
  const ticketId = randomBytes(ticketIdLength)
  const helpers = (terms.helpers ?? []).slice(0, maxTicketHelpers)
  const numbers = Buffer.alloc(8)
  numbers.writeUIntBE(terms.expires, 0, 6)
  numbers.writeUInt16BE(terms.uses, 6)
  const service = Buffer.from(terms.service)
  const body = Buffer.concat([
    identity.publicKey.subarray(spkiHead.length),
    ticketId,
    numbers,
    Buffer.of(service.length),
    service,
    Buffer.from([...terms.addresses.map(formatAddress), ...helpers.map(formatHelper)].join(' ')),
  ])
  const signature = sign(null, Buffer.concat([domain, body]), identity.privateKey)
  const text = prefix + base58btc.baseEncode(Buffer.concat([body, signature]))
  return { ...terms, helpers, ticketId: ticketId.toString('hex'), id: identity.id, text }
}

/**
 * Reads a ticket and checks that it is whole and unaltered. Whether it is still good only its node knows.
 *
 * @throws {UsageError} `ERR_NATWORK_TICKET`, saying what is wrong with it.
 */
export function parseTicket(text: string): Ticket {
  const trimmed = text.trim()
  if (!trimmed.startsWith(prefix)) {
    throw wrong(
      /^natwork\d/.test(trimmed)
        ? 'it was made by another version of natwork: update natwork on both machines'
        : `a ticket begins with "${prefix}"`,
    )
  }
  if (trimmed.length > maxTicketLength) throw wrong('it is too long; copy only the ticket itself')
  let bytes: Buffer
  try {
    bytes = Buffer.from(base58btc.baseDecode(trimmed.slice(prefix.length)))
  } catch {
    throw wrong('it holds a character that no ticket has; copy it again, whole and on one line')
  }
  return { ...parseBytes(bytes), text: trimmed }
}

function parseBytes(bytes: Buffer): Omit<Ticket, 'text'> {
  const body = bytes.subarray(0, Math.max(0, bytes.length - signatureLength))
  const key = readKey(body)
  const signature = bytes.subarray(body.length)
  if (key === undefined || !verify(null, Buffer.concat([domain, body]), key, signature)) {
    throw wrong('part of it is missing or altered; copy it again, whole and on one line')
  }
  // From here on the bytes are what a key's owner signed: still checked, since owners may be hostile.
  const at = keyLength + ticketIdLength + 9
  if (body.length < at) throw wrong('it is incomplete')
  const serviceEnd = at + (body[at - 1] ?? 0)
  const service = body.toString('utf8', at, serviceEnd)
  const uses = body.readUInt16BE(at - 3)
  const places = readPlaces(body.toString('latin1', serviceEnd))
  if (!isServiceName(service) || places === undefined || uses === 0) throw wrong('its terms make no sense')
  return {
    ticketId: body.toString('hex', keyLength, keyLength + ticketIdLength),
    id: nodeIdOf(key),
    ...places,
    service,
    expires: body.readUIntBE(at - 9, 6),
    uses,
  }
}

function readKey(body: Buffer): KeyObject | undefined {
  if (body.length < keyLength) return undefined
  const spki = Buffer.concat([spkiHead, body.subarray(0, keyLength)])
  return createPublicKey({ key: spki, format: 'der', type: 'spki' })
}

function readPlaces(text: string): Pick<Ticket, 'addresses' | 'helpers'> | undefined {
  const parts = text === '' ? [] : text.split(' ')
  const helpers = parts.filter((part) => part.includes('@'))
  const addresses = parts.filter((part) => !part.includes('@'))
  if (addresses.length > maxAddresses || helpers.length > maxTicketHelpers) return undefined
  try {
    return { addresses: addresses.map(parseAddress), helpers: helpers.map(parseHelperReference) }
  } catch {
    return undefined
  }
}

// The text itself is never repeated: it may be a real ticket with a typing error.
function wrong(why: string): UsageError {
  return new UsageError('ERR_NATWORK_TICKET', `this is not a usable ticket: ${why}.`)
}
