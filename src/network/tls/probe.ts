import { createIdentity, generatePrivateKey } from '../identity.ts'
import { handshake } from '../handshake.ts'
import { parseHelper } from '../helper-reference.ts'
import { dialTcp, tlsPlacesOfConfigured, type TlsPlace } from './place.ts'

/** Milliseconds for one place to answer. */
const patience = 5_000

/**
 * Whether a helper answers by TLS, as it would to a node whose network blocks UDP. Nothing is asked of it, and it learns
 * no lasting identity.
 *
 * @param helper `ID@HOST:PORT`, or with `/TLS`.
 * @returns where, or undefined.
 * @throws {UsageError} `ERR_NATWORK_HELPER`
 */
export async function findTls(helper: string, signal: AbortSignal): Promise<TlsPlace | undefined> {
  const configured = parseHelper(helper)
  const identity = await createIdentity(generatePrivateKey())
  const tries = tlsPlacesOfConfigured(configured).map(async (place) => {
    const raw = await dialTcp(place, AbortSignal.any([signal, AbortSignal.timeout(patience)]))
    const stream = await handshake(raw, 'client', identity, { timeout: patience, signal })
    stream.on('error', () => undefined).destroy()
    if (stream.peer !== configured.id) throw new Error('another node')
    return place
  })
  return await Promise.any(tries).catch(() => undefined)
}
