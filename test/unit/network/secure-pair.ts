import { handshake } from '../../../src/network/handshake.ts'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import type { SecureStream } from '../../../src/network/secure-stream.ts'
import { duplexPair, type End } from './duplex-pair.ts'

export const [alice, bob] = await Promise.all([
  createIdentity(generatePrivateKey()),
  createIdentity(generatePrivateKey()),
])

interface Pair {
  a: SecureStream
  b: SecureStream
  rawA: End
  rawB: End
}

/** TLS between alice, who called, and bob, over a pair in memory. */
export async function securePair(): Promise<Pair> {
  const [rawA, rawB] = duplexPair()
  const [a, b] = await Promise.all([
    handshake(rawA, 'client', alice, { timeout: 10_000 }),
    handshake(rawB, 'server', bob, { timeout: 10_000 }),
  ])
  return { a, b, rawA, rawB }
}
