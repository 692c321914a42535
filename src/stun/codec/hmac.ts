import crypto from 'node:crypto'

type Algorithm = 'sha1' | 'sha256'

/** Bytes of the blocks that SHA-1 and SHA-256 work on. */
const BLOCK = 64

/**
 * HMAC (RFC 2104) of `first` followed by `rest`, in memory that the next call overwrites. Every request of TURN costs
 * several: two hashes in one call each are three times as fast as node's Hmac object, which is a stream and garbage.
 */
export const hmac = makeHmac(crypto.hash)

/** @param hash `crypto.hash`, which Node has since 20.12 and 21.7; undefined before that. */
export function makeHmac(
  hash: typeof crypto.hash | undefined,
): (algorithm: Algorithm, key: Uint8Array, first: Uint8Array, rest: Uint8Array) => Buffer {
  if (hash === undefined) {
    return (algorithm, key, first, rest) =>
      crypto.createHmac(algorithm, key).update(first).update(rest).digest()
  }
  let inner = Buffer.allocUnsafeSlow(2_048)
  const outer = { sha1: Buffer.allocUnsafeSlow(BLOCK + 20), sha256: Buffer.allocUnsafeSlow(BLOCK + 32) }
  const digests = { sha1: Buffer.allocUnsafeSlow(20), sha256: Buffer.allocUnsafeSlow(32) }
  return (algorithm, key, first, rest) => {
    const end = BLOCK + first.length + rest.length
    if (end > inner.length) inner = Buffer.allocUnsafeSlow(2 * end)
    const around = outer[algorithm]
    const short = key.length > BLOCK ? hash(algorithm, key, 'buffer') : key
    for (let n = 0; n < BLOCK; n++) {
      const byte = short[n] ?? 0
      inner[n] = byte ^ 0x36
      around[n] = byte ^ 0x5c
    }
    inner.set(first, BLOCK)
    inner.set(rest, BLOCK + first.length)
    // Through a string: node makes one faster than a Buffer.
    around.write(hash(algorithm, inner.subarray(0, end), 'binary'), BLOCK, 'latin1')
    const digest = digests[algorithm]
    digest.write(hash(algorithm, around, 'binary'), 'latin1')
    return digest
  }
}
