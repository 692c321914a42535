import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  randomBytes,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto'
import type { Identity } from '../identity.ts'
import { nodeIdOf, type NodeId } from '../node-id.ts'
import { rawSealKey, readSealKey, sealKeyLength } from '../seal-key.ts'

/** A signal as its receiver finds it, and as nobody between could read or make it. */
export interface OpenedSignal {
  readonly from: NodeId
  /** When it was sealed, by the sender's clock: Unix time, milliseconds. */
  readonly sentAt: number
  /** Unique to this signal, hexadecimal. */
  readonly nonce: string
  readonly text: string
}

/** Bytes of one sealed signal at most: it fits a frame of the control stream as base64. */
export const maxSealed = 11_000

const domain = Buffer.from('natwork signal 1\n')
const nonceLength = 16
const signatureLength = 64
const edKeyLength = 32
const tagLength = 16
const headLength = edKeyLength + 6 + nonceLength
// RFC 8410 §4.
const edSpkiHead = Buffer.from('302a300506032b6570032100', 'hex')

/**
 * Seals a text to a node: ephemeral X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439). Inside,
 * the sender's Ed25519 signature covers the receiver, the ephemeral key, the time and the nonce, so that no part can be
 * put into another envelope. Who carries it learns neither the words nor, from them, the sender.
 *
 *     ephemeral key 32 | sealed: sender's key 32 | time 6 | nonce 16 | text | signature 64 | tag 16
 *
 * The sealing key is used once, hence the cipher's nonce is all zeros.
 */
export function sealSignal(
  identity: Identity,
  to: { readonly id: NodeId; readonly sealKey: Uint8Array },
  text: string,
  now: number,
): Buffer {
  const ephemeral = generateKeyPairSync('x25519')
  const ephemeralKey = rawSealKey(ephemeral.publicKey)
  const shared = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: readSealKey(to.sealKey) })
  const time = Buffer.alloc(6)
  time.writeUIntBE(now, 0, 6)
  const body = Buffer.concat([
    identity.publicKey.subarray(edSpkiHead.length),
    time,
    randomBytes(nonceLength),
    Buffer.from(text),
  ])
  const signature = sign(null, signedPart(to.id, ephemeralKey, body), identity.privateKey)
  const cipher = createCipheriv('chacha20-poly1305', keyOf(shared, ephemeralKey, to.sealKey), zeros, {
    authTagLength: tagLength,
  })
  return Buffer.concat([
    ephemeralKey,
    cipher.update(body),
    cipher.update(signature),
    cipher.final(),
    cipher.getAuthTag(),
  ])
}

/** @returns undefined for everything that is not whole, not for this node, or not signed by who it says. */
export function openSignal(identity: Identity, sealed: Uint8Array): OpenedSignal | undefined {
  if (sealed.length > maxSealed) return undefined
  if (sealed.length < sealKeyLength + headLength + signatureLength + tagLength) return undefined
  const ephemeralKey = sealed.subarray(0, sealKeyLength)
  const plain = decrypt(identity, ephemeralKey, sealed.subarray(sealKeyLength))
  if (plain === undefined) return undefined
  const body = plain.subarray(0, plain.length - signatureLength)
  const sender = readEdKey(body.subarray(0, edKeyLength))
  const signature = plain.subarray(body.length)
  if (sender === undefined || !verify(null, signedPart(identity.id, ephemeralKey, body), sender, signature)) {
    return undefined
  }
  return {
    from: nodeIdOf(sender),
    sentAt: body.readUIntBE(edKeyLength, 6),
    nonce: body.toString('hex', edKeyLength + 6, headLength),
    text: body.toString('utf8', headLength),
  }
}

const zeros = Buffer.alloc(12)

function decrypt(identity: Identity, ephemeralKey: Uint8Array, sealed: Uint8Array): Buffer | undefined {
  const { privateKey, publicKey } = identity.sealKey
  try {
    // Throws for a key of small order (RFC 7748 §6.1), whose secret everybody knows.
    const shared = diffieHellman({ privateKey, publicKey: readSealKey(ephemeralKey) })
    const decipher = createDecipheriv('chacha20-poly1305', keyOf(shared, ephemeralKey, publicKey), zeros, {
      authTagLength: tagLength,
    })
    decipher.setAuthTag(sealed.subarray(sealed.length - tagLength))
    return Buffer.concat([decipher.update(sealed.subarray(0, sealed.length - tagLength)), decipher.final()])
  } catch {
    return undefined
  }
}

function keyOf(shared: Uint8Array, ephemeralKey: Uint8Array, receiverKey: Uint8Array): Buffer {
  const info = Buffer.concat([domain, ephemeralKey, receiverKey])
  return Buffer.from(hkdfSync('sha256', shared, '', info, 32))
}

function signedPart(to: NodeId, ephemeralKey: Uint8Array, body: Uint8Array): Buffer {
  return Buffer.concat([domain, Buffer.from(to), ephemeralKey, body])
}

function readEdKey(raw: Uint8Array): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.concat([edSpkiHead, raw]), format: 'der', type: 'spki' })
  } catch {
    return undefined
  }
}
