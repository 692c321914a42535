import { timingSafeEqual } from 'node:crypto'
import { Attribute } from './registry.ts'
import { readUint16 } from './bytes.ts'
import { hmac } from './hmac.ts'

/**
 * The HMAC of a message up to the attribute header at `at`, with the length field as if the message ended with that
 * attribute, whose value is `length` bytes (RFC 8489 §14.5, §14.6). The message itself is not touched; the next call
 * overwrites what this one returned.
 */
export function integrityOf(
  algorithm: 'sha1' | 'sha256',
  key: Uint8Array,
  message: Uint8Array,
  at: number,
  length: number,
): Uint8Array {
  const end = at + 4 + length - 20
  start[0] = message[0] ?? 0
  start[1] = message[1] ?? 0
  start[2] = end >>> 8
  start[3] = end & 255
  return hmac(algorithm, key, start, message.subarray(4, at))
}

// One for all calls.
const start = new Uint8Array(4)

/**
 * Checks the MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 attribute whose header is at `at`, in constant time.
 *
 * @param minimum the shortest MESSAGE-INTEGRITY-SHA256 that is accepted, 16–32 (§14.6: 32 unless the usage says else).
 */
export function integrityIsRight(key: Uint8Array, message: Uint8Array, at: number, minimum: number): boolean {
  const length = readUint16(message, at + 2)
  const sha1 = readUint16(message, at) === Attribute.MessageIntegrity
  if (sha1 ? length !== 20 : length < minimum || length < 16 || length > 32 || length % 4 !== 0) return false
  const expected = integrityOf(sha1 ? 'sha1' : 'sha256', key, message, at, length)
  return timingSafeEqual(expected.subarray(0, length), message.subarray(at + 4, at + 4 + length))
}
