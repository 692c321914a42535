import { timingSafeEqual } from 'node:crypto'
import type { SocketAddress } from '../../core/address.ts'
import { SECOND, type Micros } from '../../core/machine.ts'
import { hmac } from '../codec/hmac.ts'

const COOKIE = 'obMatJos2'

/** The 13 characters that a nonce of RFC 8489 begins with: the cookie and the 24 security features (§9.2, §18.1). */
export function nonceCookie(features: number): string {
  return COOKIE + Buffer.of(features >>> 16, (features >>> 8) & 255, features & 255).toString('base64')
}

/** The 24 security features of a nonce (`SecurityFeature` names the bits); undefined from a server of RFC 5389. */
export function securityFeatures(nonce: string): number | undefined {
  const encoded = nonce.slice(COOKIE.length, COOKIE.length + 4)
  if (!nonce.startsWith(COOKIE) || !/^[A-Za-z0-9+/]{4}$/.test(encoded)) return undefined
  return Buffer.from(encoded, 'base64').readUIntBE(0, 3)
}

/**
 * Nonces that a server need not remember: each holds the time it was made and an HMAC over that time and the client's
 * address and port, so that it is of use to nobody else ("MUST NOT choose the same NONCE for two requests unless they
 * have the same source IP address and port", RFC 8489 §9.2.4) and cannot be made by a stranger.
 */
export class NonceMint {
  readonly #secret: Uint8Array
  readonly #cookie: string
  readonly #lifetime: Micros

  /**
   * @param secret 16 bytes or more of randomness, kept for as long as nonces shall be recognised.
   * @param lifetime how long a nonce is valid; after that the client is told 438 and gets a new one.
   */
  constructor(secret: Uint8Array, features: number, lifetime: Micros) {
    this.#secret = Uint8Array.from(secret)
    this.#cookie = nonceCookie(features)
    this.#lifetime = lifetime
  }

  make(now: Micros, client: SocketAddress): string {
    return this.#at(Math.floor(now / SECOND), client)
  }

  /** In constant time. Nonces of other servers, of other clients and of the future are as stale as old ones. */
  isValid(now: Micros, client: SocketAddress, nonce: string): boolean {
    const seconds = parseInt(nonce.slice(this.#cookie.length, this.#cookie.length + 8), 16)
    const age = now - seconds * SECOND
    if (!(age >= 0 && age <= this.#lifetime + SECOND)) return false
    const expected = Buffer.from(this.#at(seconds, client))
    const given = Buffer.from(nonce)
    return expected.length === given.length && timingSafeEqual(expected, given)
  }

  #at(seconds: number, client: SocketAddress): string {
    const time = (seconds % 0x100000000).toString(16).padStart(8, '0')
    const bound = Buffer.from(`${this.#cookie}${time}${client.address}|${client.port}`, 'latin1')
    const code = hmac('sha256', this.#secret, bound, nothing)
    // 96 bits: guessing one within its lifetime is hopeless, and what goes to unverified addresses stays short.
    return this.#cookie + time + code.toString('base64url', 0, 12)
  }
}

const nothing = new Uint8Array(0)
