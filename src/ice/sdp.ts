import { parseCandidate } from './candidate.ts'
import { IceUsageError } from './errors.ts'
import type { IceCandidate } from './types.ts'

/** `candidate:1 1 udp 2130706431 192.0.2.1 1315 typ host` (RFC 8839 §5.1), without the `a=`. */
export function toSdp(candidate: IceCandidate): string {
  const { type, address, port, priority, foundation, related } = candidate
  const own = `candidate:${foundation} 1 udp ${priority} ${address} ${port} typ ${type === 'mapped' ? 'srflx' : type}`
  // raddr and rport must be there for all but host candidates (§5.1): `0.0.0.0 9` says nothing.
  const { address: raddr, port: rport } = related ?? {
    address: address.includes(':') ? '::' : '0.0.0.0',
    port: 9,
  }
  return type === 'host' ? own : `${own} raddr ${raddr} rport ${rport}`
}

/**
 * Reads a `candidate:` line, with or without `a=`; extensions behind the known parts are ignored.
 *
 * @returns undefined for what natwork cannot use: TCP, another component than 1, a name in place of an address (mDNS).
 * @throws {IceUsageError} `ERR_NATWORK_ICE_INVALID` when it is no candidate line.
 */
export function fromSdp(line: string): IceCandidate | undefined {
  const match = LINE.exec(line.trim())
  if (match === null) {
    throw new IceUsageError('ERR_NATWORK_ICE_INVALID', `"${line.slice(0, 100)}" is not a candidate line`)
  }
  const [, foundation, component, transport = '', priority, address = '', port, type, rest = ''] = match
  if (component !== '1' || transport.toLowerCase() !== 'udp' || !/^[\d.]+$|:/.test(address)) return undefined
  const related = /^ raddr (\S+) rport (\d{1,5})/.exec(rest)
  return parseCandidate({
    type,
    address,
    port: Number(port),
    priority: Number(priority),
    foundation,
    ...(related && { related: { address: related[1], port: Number(related[2]) } }),
  })
}

const LINE =
  /^(?:a=)?candidate:([A-Za-z0-9+/]{1,32}) (\d{1,3}) (\S{1,10}) (\d{1,10}) (\S{1,255}) (\d{1,5}) typ (\w{1,16})( .*)?$/
