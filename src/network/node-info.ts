import { createPublicKey, sign, verify, type KeyObject } from 'node:crypto'
import { z } from 'zod'
import { formatAddress, type SocketAddress } from '../core/address.ts'
import { PeerError } from '../core/errors.ts'
import {
  addressSchema,
  formatHelper,
  helperSchema,
  maxRecordHelpers,
  portSchema,
  type HelperReference,
} from './helper-reference.ts'
import type { Identity } from './identity.ts'
import { isNodeId, nodeIdOfSpki, type NodeId } from './node-id.ts'

/**
 * What a node says about itself, signed by its key: plain JSON, so that it can be kept and passed on by anything.
 * Whoever holds a record can check it without asking anybody.
 */
export interface NodeInfo {
  readonly id: NodeId
  /** SubjectPublicKeyInfo, DER, base64. Its SHA-256 is the id. */
  readonly publicKey: string
  /** UDP addresses where the node may be reached, best first; at most 16, possibly none. */
  readonly addresses: readonly SocketAddress[]
  /** Grows with every record of this node: the highest is the truth. */
  readonly sequence: number
  /** Unix time in seconds after which the addresses are only a guess. */
  readonly expires: number
  /** X25519, 32 bytes, base64: signals for this node are sealed with it. In records of version 2, as all that follows. */
  readonly sealKey?: string
  /** Nodes through which this one hears signals, at most 4: the way to a node that no address leads to. */
  readonly helpers?: readonly HelperReference[]
  /** It forwards signals for others. */
  readonly helps?: boolean
  /** TCP port at its addresses where a helper takes TLS, from nodes whose networks block UDP. In records of version 3. */
  readonly tls?: number
  /** Ed25519 over {@link canonical}, base64. */
  readonly signature: string
}

export const maxAddresses = 16

export interface NodeInfoFields {
  readonly addresses: readonly SocketAddress[]
  readonly sequence: number
  readonly expires: number
  /** None by default. */
  readonly helpers?: readonly HelperReference[]
  /** False by default. */
  readonly helps?: boolean
  /** None by default. */
  readonly tls?: number | undefined
}

export function signNodeInfo(identity: Identity, fields: NodeInfoFields): NodeInfo {
  const unsigned = {
    id: identity.id,
    publicKey: identity.publicKey.toString('base64'),
    addresses: fields.addresses.slice(0, maxAddresses),
    sequence: fields.sequence,
    expires: fields.expires,
    sealKey: identity.sealKey.publicKey.toString('base64'),
    helpers: (fields.helpers ?? []).slice(0, maxRecordHelpers),
    helps: fields.helps ?? false,
    ...(fields.tls !== undefined && { tls: fields.tls }),
  }
  return { ...unsigned, signature: sign(null, canonical(unsigned), identity.privateKey).toString('base64') }
}

/**
 * Checks what came from elsewhere (the network, a file): its shape, that the key is the id's, and the signature.
 * Expiry is not an error: see {@link NodeInfo.expires}.
 *
 * @throws {PeerError} `ERR_NATWORK_NODE_INFO`
 */
export function verifyNodeInfo(record: unknown): NodeInfo {
  const parsed = schema.safeParse(record)
  if (!parsed.success) throw invalid(z.prettifyError(parsed.error))
  const info = parsed.data
  const spki = Buffer.from(info.publicKey, 'base64')
  if (nodeIdOfSpki(spki) !== info.id) throw invalid(`its public key is not that of ${info.id}`)
  const publicKey = readPublicKey(spki)
  if (publicKey?.asymmetricKeyType !== 'ed25519') throw invalid('its key is not an Ed25519 key')
  if (!verify(null, canonical(info), publicKey, Buffer.from(info.signature, 'base64'))) {
    throw invalid(`its signature is not by ${info.id}`)
  }
  return info
}

const version1 = z.strictObject({
  id: z.string().max(64).refine(isNodeId, 'not a node id'),
  publicKey: z.base64().max(128),
  addresses: z.array(addressSchema).max(maxAddresses),
  sequence: z.int().min(0),
  expires: z.int().min(0),
  signature: z.base64().max(128),
})

const version2 = version1.extend({
  sealKey: z.base64().length(44),
  helpers: z.array(helperSchema).max(maxRecordHelpers),
  helps: z.boolean(),
  tls: portSchema().exactOptional(),
})

// What version 2 brought comes together or not at all: what is signed is never a matter of taste.
const schema = z.union([version2, version1])

// One text per record, whatever order or spacing a JSON carrier gave it.
function canonical(info: Omit<NodeInfo, 'signature'>): Buffer {
  const { id, publicKey, addresses, sequence, expires, sealKey, helpers = [], helps, tls } = info
  const version1 = [id, publicKey, addresses.map(formatAddress), sequence, expires]
  if (sealKey === undefined) return text(1, version1)
  const version2 = [...version1, sealKey, helpers.map(formatHelper), helps]
  // Only what has to say it is of version 3, so that older nodes read the records of all others.
  const isOlder = tls === undefined && helpers.every((helper) => helper.tls === undefined)
  return isOlder ? text(2, version2) : text(3, [...version2, tls ?? 0])
}

function text(version: number, fields: readonly unknown[]): Buffer {
  return Buffer.from(`natwork node record ${version}\n${JSON.stringify(fields)}`)
}

function readPublicKey(spki: Buffer): KeyObject | undefined {
  try {
    return createPublicKey({ key: spki, format: 'der', type: 'spki' })
  } catch {
    return undefined
  }
}

function invalid(why: string): PeerError {
  return new PeerError('ERR_NATWORK_NODE_INFO', `the node record does not hold: ${why}`)
}
