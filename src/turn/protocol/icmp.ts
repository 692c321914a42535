/** RFC 8656 §18.13. For ICMPv4 and ICMPv6, by the peer's family. */
export interface IcmpError {
  readonly type: number
  readonly code: number
  /** Of "packet too big" and "fragmentation needed": the next hop's MTU. */
  readonly data: number
}

/** Bytes of the attribute ICMP. */
export const ICMP_LENGTH = 8

/** The value of the attribute ICMP: 16 bits of nothing, the type in 7, the code in 9, and 32 of data (RFC 8656 §18.13). */
export function writeIcmp({ type, code, data }: IcmpError, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, ICMP_LENGTH)
  view.setUint16(0, 0)
  view.setUint16(2, (type << 9) | code)
  view.setUint32(4, data)
}

/** Undefined for a value of another length. */
export function readIcmp(value: Uint8Array): IcmpError | undefined {
  if (value.length !== ICMP_LENGTH) return undefined
  const view = new DataView(value.buffer, value.byteOffset, ICMP_LENGTH)
  const typeAndCode = view.getUint16(2)
  return { type: typeAndCode >>> 9, code: typeAndCode & 0x1ff, data: view.getUint32(4) }
}

/** "fragmentation needed" or "packet too big": the errors with an MTU. */
export function isTooBig(family: 4 | 6, { type, code }: IcmpError): boolean {
  return family === 6 ? type === 2 : type === 3 && code === 4
}

/** What a datagram that is longer than the path takes meets on its way. */
export function tooBig(family: 4 | 6, mtu: number): IcmpError {
  return family === 6 ? { type: 2, code: 0, data: mtu } : { type: 3, code: 4, data: mtu }
}

/** The errors that clients are told of: unreachable, too big, time exceeded (RFC 8656 §11.5). */
export function isForClients(family: 4 | 6, { type }: IcmpError): boolean {
  return family === 6 ? type >= 1 && type <= 3 : type === 3 || type === 11
}
