import { Resolver } from 'node:dns/promises'
import type { Nat64Prefix } from '../../core/nat64.ts'
import { nat64Prefixes } from '../behaviour/nat64.ts'

/**
 * Asks the name server here for the IPv6 form of a name that only has IPv4 (RFC 7050): an answer shows that IPv4 is
 * reached through NAT64, and by which prefix. Empty where there is none, or no answer within 3 seconds.
 */
export async function discoverNat64(
  resolve6: (name: string) => Promise<string[]> = systemResolve6,
): Promise<Nat64Prefix[]> {
  try {
    return nat64Prefixes(await resolve6(WELL_KNOWN_NAME))
  } catch {
    return [] // "no such record" is the usual answer
  }
}

/** RFC 7050 §2.2. */
const WELL_KNOWN_NAME = 'ipv4only.arpa'

function systemResolve6(name: string): Promise<string[]> {
  return new Resolver({ timeout: 1_500, tries: 2 }).resolve6(name)
}
