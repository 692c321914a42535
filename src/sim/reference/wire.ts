import { familyOf } from '../../core/address.ts'
import type { SocketAddress } from '../../core/address.ts'
import { canonicalAddress } from '../packet.ts'

/** What the reference punch says. Every message begins with four bytes of magic and one of type. */
export type Message =
  /** Peer to helper, again and again: here is my side of a session. `dials`: tell me the other's addresses. */
  | { readonly type: 'register'; readonly session: Uint8Array; readonly side: 0 | 1; readonly dials: boolean }
  /** Helper to peer: the session's key, and the addresses of the other side as far as they may be known. */
  | { readonly type: 'introduce'; readonly key: Uint8Array; readonly addresses: readonly SocketAddress[] }
  /** Peer to peer. `heard`: one of yours came to me from where this goes. */
  | { readonly type: 'punch'; readonly key: Uint8Array; readonly side: 0 | 1; readonly heard: boolean }
  /** Peer to peer, once connected: a datagram of the application. */
  | { readonly type: 'data'; readonly key: Uint8Array; readonly side: 0 | 1; readonly data: Uint8Array }

export const SESSION_LENGTH = 8
export const KEY_LENGTH = 16
/** An introduction carries at most so many addresses: one per family is what a helper sees. */
const MAX_ADDRESSES = 4

const MAGIC = [0x4e, 0x57, 0x70, 0x31] // "NWp1"
const HEADER = MAGIC.length + 1
const REGISTER = 1
const INTRODUCE = 2
const PUNCH = 3
const DATA = 4

export function encode(message: Message): Uint8Array {
  switch (message.type) {
    case 'register':
      return Uint8Array.of(...MAGIC, REGISTER, message.side, Number(message.dials), ...message.session)
    case 'introduce': {
      const addresses = message.addresses.slice(0, MAX_ADDRESSES).flatMap((at) => {
        const ip = bytesOf(at.address)
        return [ip.length, ...ip, at.port >> 8, at.port & 255]
      })
      return Uint8Array.of(...MAGIC, INTRODUCE, ...message.key, ...addresses)
    }
    case 'punch':
      return Uint8Array.of(...MAGIC, PUNCH, message.side, Number(message.heard), ...message.key)
    case 'data':
      return Uint8Array.of(...MAGIC, DATA, message.side, 0, ...message.key, ...message.data)
  }
}

/** Undefined for everything that {@link encode} does not write. */
export function decode(bytes: Uint8Array): Message | undefined {
  if (bytes.length < HEADER || MAGIC.some((byte, i) => bytes[i] !== byte)) return undefined
  const type = bytes[HEADER - 1]
  if (type === INTRODUCE) return decodeIntroduction(bytes)
  const side = bytes[HEADER]
  const flag = bytes[HEADER + 1]
  if ((side !== 0 && side !== 1) || (flag !== 0 && flag !== 1)) return undefined
  const rest = bytes.slice(HEADER + 2)
  if (type === REGISTER && rest.length === SESSION_LENGTH) {
    return { type: 'register', session: rest, side, dials: flag === 1 }
  }
  if (type === PUNCH && rest.length === KEY_LENGTH)
    return { type: 'punch', key: rest, side, heard: flag === 1 }
  if (type === DATA && rest.length >= KEY_LENGTH) {
    return { type: 'data', key: rest.slice(0, KEY_LENGTH), side, data: rest.slice(KEY_LENGTH) }
  }
  return undefined
}

function decodeIntroduction(bytes: Uint8Array): Message | undefined {
  let at = HEADER + KEY_LENGTH
  if (bytes.length < at) return undefined
  const key = bytes.slice(HEADER, at)
  const addresses: SocketAddress[] = []
  while (at < bytes.length) {
    const length = bytes[at] ?? 0
    const end = at + 1 + length + 2
    if ((length !== 4 && length !== 16) || end > bytes.length || addresses.length === MAX_ADDRESSES) {
      return undefined
    }
    const port = (bytes[end - 2] ?? 0) * 256 + (bytes[end - 1] ?? 0)
    addresses.push({ address: textOf(bytes.subarray(at + 1, end - 2)), port })
    at = end
  }
  return { type: 'introduce', key, addresses }
}

function bytesOf(address: string): number[] {
  if (familyOf(address) === 4) return address.split('.').map(Number)
  const [head = '', tail] = address.split('::')
  const groups = (text: string): number[] =>
    text === ''
      ? []
      : text.split(':').flatMap((one) => [Number.parseInt(one, 16) >> 8, Number.parseInt(one, 16) & 255])
  const before = groups(head)
  const after = tail === undefined ? [] : groups(tail)
  return [...before, ...new Array<number>(16 - before.length - after.length).fill(0), ...after]
}

function textOf(ip: Uint8Array): string {
  if (ip.length === 4) return ip.join('.')
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((ip[2 * i] ?? 0) * 256 + (ip[2 * i + 1] ?? 0)).toString(16),
  )
  return canonicalAddress(groups.join(':'))
}
