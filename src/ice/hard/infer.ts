import { familyOf } from '../../core/address.ts'
import type { Dependence } from '../../stun/behaviour/index.ts'
import type { Pair } from '../check-list.ts'
import type { IceCandidate, NatHints } from '../types.ts'

/**
 * What checks by way of relays show of the NATs, where nobody has said it: a relay is one more observer. Seen there with
 * the port that a STUN server sees, a side has one port for all; with another one, a new port per destination.
 */
export function inferOurs(hints: NatHints, named: readonly IceCandidate[], pairs: readonly Pair[]): NatHints {
  if (hints.mapping !== undefined) return hints
  const reflexive = named.filter((one) => one.type === 'srflx' && familyOf(one.address) === 4)
  for (const { base, mapped } of pairs) {
    if (base.via !== undefined || mapped === undefined) continue
    const sameHost = reflexive.filter((one) => one.address === mapped.address)
    if (sameHost.length === 0) continue
    return { ...hints, mapping: mappingOf(sameHost.some((one) => one.port === mapped.port)) }
  }
  return hints
}

/** The same of the peer, as our relays see it; with the newest port that its NAT gave. */
export function inferTheirs(hints: NatHints, pairs: readonly Pair[]): NatHints {
  let { mapping, lastPort } = hints
  const named = pairs
    .map(({ remote }) => remote.candidate)
    .filter((one) => one.type === 'srflx' && familyOf(one.address) === 4)
  for (const { base, remote, heard } of pairs) {
    const { type, address, port } = remote.candidate
    if (base.via?.kind !== 'relay' || heard === 0 || type === 'relay') continue
    if (!named.some((one) => one.address === address)) continue
    const isNamed = named.some((one) => one.address === address && one.port === port)
    if (hints.mapping === undefined) mapping ??= mappingOf(isNamed)
    if (!isNamed && isNewer(port, lastPort, hints)) lastPort = port
  }
  return { ...hints, ...(mapping && { mapping }), ...(lastPort !== undefined && { lastPort }) }
}

/** A sequential NAT's ports tell their age; of others it is not known. */
function isNewer(port: number, than: number | undefined, { ports, step = 1 }: NatHints): boolean {
  if (than === undefined || ports !== 'sequential') return true
  const ahead = (port - than) * Math.sign(step)
  return ahead > 0 && ahead < NEAR
}

/** How many ports further a flow of the same minutes may be. */
const NEAR = 4_096

function mappingOf(isSame: boolean): Dependence {
  return isSame ? 'endpoint-independent' : 'address-and-port-dependent'
}
