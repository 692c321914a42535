import { readIpv6, writeIp } from '../core/ip.ts'

/** `ipv4` under a /96 prefix (RFC 6052 §2.2): how a host behind NAT64 reaches it. */
export function synthesize(prefix: string, ipv4: string): string {
  const ip = new Uint8Array(16)
  writeIp(prefix, ip, 0)
  writeIp(ipv4, ip, 12)
  return readIpv6(ip, 0)
}
