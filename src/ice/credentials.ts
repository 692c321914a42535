import type { Rng } from '../core/ports.ts'
import { shortTermKey } from '../stun/credentials/index.ts'
import { IceUsageError } from './errors.ts'
import type { IceParameters } from './types.ts'

/** One side's credentials, with the key that its password makes. */
export interface Credentials extends IceParameters {
  readonly key: Uint8Array
}

/** 48 random bits in the fragment, 144 in the password: RFC 8445 §5.3 asks for 24 and 128. */
export function newCredentials(rng: Rng): Credentials {
  const ufrag = randomText(rng, 8)
  const pwd = randomText(rng, 24)
  return { ufrag, pwd, options: ['trickle', 'renomination'], key: shortTermKey(pwd) }
}

/** @throws {IceUsageError} `ERR_NATWORK_ICE_INVALID` for what RFC 8839 §5.4 does not allow. */
export function readCredentials({ ufrag, pwd, options = [] }: IceParameters): Credentials {
  if (!/^[A-Za-z0-9+/]{4,256}$/.test(ufrag) || !/^[A-Za-z0-9+/]{22,256}$/.test(pwd)) {
    throw new IceUsageError(
      'ERR_NATWORK_ICE_INVALID',
      'the peer’s ICE credentials are not what RFC 8839 §5.4 allows: 4–256 and 22–256 of A–Z a–z 0–9 + /',
    )
  }
  return { ufrag, pwd, options, key: shortTermKey(pwd) }
}

function randomText(rng: Rng, length: number): string {
  const bytes = new Uint8Array(length)
  rng.fill(bytes)
  return Array.from(bytes, (byte) => ALPHABET.charAt(byte & 63)).join('')
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
