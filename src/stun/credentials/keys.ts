import { createHash } from 'node:crypto'
import { PasswordAlgorithm } from '../codec/registry.ts'
import { opaqueString } from './opaque-string.ts'

/** The HMAC key of short-term credentials (RFC 8489 §9.1.1). */
export function shortTermKey(password: string): Uint8Array {
  return Buffer.from(opaqueString(password))
}

/**
 * The HMAC key of long-term credentials (RFC 8489 §9.2.2, §18.5.1): 16 bytes by MD5, which is for peers of RFC 5389,
 * or 32 bytes by SHA-256. A server needs to store only this, not the password.
 */
export function longTermKey(
  algorithm: PasswordAlgorithm,
  username: string,
  realm: string,
  password: string,
): Uint8Array {
  return createHash(algorithm === PasswordAlgorithm.Md5 ? 'md5' : 'sha256')
    .update(`${opaqueString(unquoted(username))}:${opaqueString(unquoted(realm))}:${opaqueString(password)}`)
    .digest()
}

/** The 32 bytes that stand for a username in USERHASH (RFC 8489 §14.4). */
export function userhash(username: string, realm: string): Uint8Array {
  return createHash('sha256')
    .update(`${opaqueString(username)}:${opaqueString(realm)}`)
    .digest()
}

/** "with any quotes and trailing nulls removed" (§9.2.2). */
function unquoted(text: string): string {
  return text.replace(/\0+$/, '').replace(/^"(.*)"$/s, '$1')
}
