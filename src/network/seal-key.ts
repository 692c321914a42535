import { createPrivateKey, createPublicKey, hkdfSync, type KeyObject } from 'node:crypto'

/** X25519 (RFC 7748): what signals to a node are sealed with. */
export interface SealKey {
  readonly privateKey: KeyObject
  /** 32 bytes, as RFC 7748 §5 writes them. */
  readonly publicKey: Buffer
}

export const sealKeyLength = 32

// RFC 8410 §7 and §4: every X25519 key in DER is such a head and 32 bytes.
const pkcs8Head = Buffer.from('302e020100300506032b656e04220420', 'hex')
const spkiHead = Buffer.from('302a300506032b656e032100', 'hex')

/**
 * The node's sealing key, derived from its identity by HKDF (RFC 5869), so that there is nothing more to keep, and
 * that no key serves two algorithms: who learns the one cannot compute the other.
 */
export function deriveSealKey(identity: KeyObject): SealKey {
  const scalar = deriveSecret(identity, 'natwork seal key 1')
  const privateKey = createPrivateKey({
    key: Buffer.concat([pkcs8Head, scalar]),
    format: 'der',
    type: 'pkcs8',
  })
  return { privateKey, publicKey: rawSealKey(createPublicKey(privateKey)) }
}

/** 32 bytes that only this node knows, the same in every run; other ones for each purpose. */
export function deriveSecret(identity: KeyObject, purpose: string): Buffer {
  const seed = identity.export({ type: 'pkcs8', format: 'der' }).subarray(-32)
  return Buffer.from(hkdfSync('sha256', seed, '', purpose, 32))
}

export function rawSealKey(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' }).subarray(spkiHead.length)
}

/** @param raw 32 bytes; any such are a key (RFC 7748 §5). */
export function readSealKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([spkiHead, raw]), format: 'der', type: 'spki' })
}
