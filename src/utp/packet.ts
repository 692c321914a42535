/** BEP 29 "header format": version 1, 20 bytes, big endian. */
export const HEADER_SIZE = 20

/** BEP 29 "type". */
export const ST_DATA = 0
export const ST_FIN = 1
export const ST_STATE = 2
export const ST_RESET = 3
export const ST_SYN = 4

/** BEP 29 "extension": selective acks. */
export const EXTENSION_SELECTIVE_ACK = 1
/**
 * The "extension bits" of early BEP 29 (8 bytes; libutp still parses them). We use them in SYN and the answer to it, to
 * say how many packets our receiver puts back in order; elsewhere they open a chain of padding.
 */
export const EXTENSION_BITS = 2
const EXTENSION_BITS_LENGTH = 8
/**
 * What lies beyond the longest selective-ack mask: `[distance of the first bit from the ack, 2 bytes][mask]`. Only for
 * peers that told their capabilities, and at most {@link FAR_MASKS} in a packet.
 */
export const EXTENSION_FAR_ACK = 0x71
const FAR_HEADER = 2
/** A piece of a packet's payload: `[its offset, 2 bytes][size of the whole, 2 bytes]`. Only for capable peers, too. */
export const EXTENSION_FRAGMENT = 0x72
const FRAGMENT_LENGTH = 4
export const FRAGMENT_SIZE = 2 + FRAGMENT_LENGTH
/** Unknown to everybody, therefore skipped by everybody (BEP 29: "Unknown extensions can be skipped"). */
const EXTENSION_PADDING = 0x70
/** libutp takes no first extension above 2, so a chain of padding begins with empty extension bits. */
const PADDING_OPENING = 2 + EXTENSION_BITS_LENGTH
/** `[next, length]` and up to 255 bytes. */
const PADDING_BLOCK = 2 + 255

/** Selective-ack masks have a one-byte length, in multiples of 4: 2,016 packets at most. */
export const MAX_SELECTIVE_ACK = 252
export const FAR_MASKS = 2

/** STUN's magic cookie lies where our timestamp does: see {@link stamp}. */
const STUN_MAGIC_COOKIE = 0x2112a442

/** `nat`, then our version of the bits. */
const CAPABILITY_MARK = 0x6e617401

/** A parsed header. One is made per machine and filled again for every datagram: nothing is allocated per packet. */
export class Packet {
  type = ST_DATA
  connectionId = 0
  timestamp = 0
  timestampDifference = 0
  window = 0
  sequence = 0
  ack = 0
  /** Where the selective-ack mask begins, and its length in bytes; 0 when there is none. */
  sackAt = 0
  sackLength = 0
  /** The masks of {@link EXTENSION_FAR_ACK}: how many, the distance of each one's first bit, where it begins, its bytes. */
  farMasks = 0
  readonly farDistance = new Int32Array(FAR_MASKS)
  readonly farAt = new Int32Array(FAR_MASKS)
  readonly farLength = new Int32Array(FAR_MASKS)
  /** The whole of which the payload is a piece, in bytes, and where it lies there; 0 when it is no piece. */
  fragmentTotal = 0
  fragmentOffset = 0
  /** How many packets the peer puts back in order, when it says so (see {@link EXTENSION_BITS}); else 0. */
  reorderLimit = 0
  /** Of a SYN: how many datagrams of it came before (see {@link writeCapabilities}). */
  part = 0
  /** Where the payload begins; it ends with the datagram. */
  payloadAt = 0
}

/**
 * Reads `bytes` into `packet`.
 *
 * @returns false when this is no uTP packet of version 1: too short, an unknown version or type, extensions that lie
 *   about their length, a selective ack that is no multiple of 4 bytes, or STUN's magic cookie in the timestamp's place.
 */
export function parsePacket(bytes: Uint8Array, packet: Packet): boolean {
  const length = bytes.length
  if (length < HEADER_SIZE) return false
  const first = bytes[0] as number
  const type = first >> 4
  if ((first & 15) !== 1 || type > ST_SYN) return false
  const timestamp = read32(bytes, 4)
  if (timestamp === STUN_MAGIC_COOKIE) return false
  packet.type = type
  packet.connectionId = read16(bytes, 2)
  packet.timestamp = timestamp
  packet.timestampDifference = read32(bytes, 8)
  packet.window = read32(bytes, 12)
  packet.sequence = read16(bytes, 16)
  packet.ack = read16(bytes, 18)
  packet.sackAt = 0
  packet.sackLength = 0
  packet.farMasks = 0
  packet.fragmentTotal = 0
  packet.reorderLimit = packet.part = 0
  let extension = bytes[1] as number
  let at = HEADER_SIZE
  while (extension !== 0) {
    if (at + 2 > length) return false
    const next = bytes[at] as number
    const size = bytes[at + 1] as number
    const body = at + 2
    at = body + size
    if (at > length) return false
    if (extension === EXTENSION_SELECTIVE_ACK) {
      if (size === 0 || (size & 3) !== 0) return false
      packet.sackAt = body
      packet.sackLength = size
    } else if (extension === EXTENSION_FAR_ACK && size > FAR_HEADER && packet.farMasks < FAR_MASKS) {
      const i = packet.farMasks++
      packet.farDistance[i] = read16(bytes, body)
      packet.farAt[i] = body + FAR_HEADER
      packet.farLength[i] = size - FAR_HEADER
    } else if (extension === EXTENSION_FRAGMENT && size === FRAGMENT_LENGTH) {
      packet.fragmentOffset = read16(bytes, body)
      packet.fragmentTotal = read16(bytes, body + 2)
    } else if (extension === EXTENSION_BITS && size === EXTENSION_BITS_LENGTH) {
      if (read32(bytes, body) === CAPABILITY_MARK) {
        packet.reorderLimit = read16(bytes, body + 4)
        packet.part = read16(bytes, body + 6)
      }
    }
    extension = next
  }
  packet.payloadAt = at
  return true
}

/** Writes the fields that never change for one packet; {@link stamp} writes the rest each time it is sent. */
export function writeHeader(
  into: Uint8Array,
  type: number,
  extension: number,
  connectionId: number,
  sequence: number,
): void {
  into[0] = (type << 4) | 1
  into[1] = extension
  write16(into, 2, connectionId)
  write16(into, 16, sequence)
}

/**
 * Writes the fields that are new with every transmission, in place. The timestamp is never 0x2112A442: a STUN server
 * sharing the port would take the packet for STUN (RFC 8489 §5), so that one microsecond is told as the next.
 */
export function stamp(into: Uint8Array, now: number, difference: number, window: number, ack: number): void {
  const timestamp = now >>> 0
  write32(into, 4, timestamp === STUN_MAGIC_COOKIE ? timestamp + 1 : timestamp)
  write32(into, 8, difference)
  write32(into, 12, window)
  write16(into, 18, ack)
}

/** Size of the extension that {@link writeCapabilities} writes. */
export const CAPABILITIES_SIZE = 2 + EXTENSION_BITS_LENGTH

/**
 * The only extension of a SYN or the answer to it: what our receiver takes (see {@link EXTENSION_BITS}). `part`: 1 in the
 * datagram right behind a SYN, which has the bytes that did not fit in there, and the SYN's numbers; else 0.
 */
export function writeCapabilities(into: Uint8Array, at: number, reorderLimit: number, part = 0): void {
  into[at] = 0
  into[at + 1] = EXTENSION_BITS_LENGTH
  write32(into, at + 2, CAPABILITY_MARK)
  write16(into, at + 6, reorderLimit)
  write16(into, at + 8, part)
}

/** Padding comes in steps that a chain of extensions can make: 0, 10, and 12 or more bytes. */
export function canPad(bytes: number): boolean {
  return bytes === PADDING_OPENING || bytes >= PADDING_OPENING + 2
}

/** Fills `bytes` bytes after the header with extensions that every receiver skips. The header says {@link EXTENSION_BITS}. */
export function writePadding(into: Uint8Array, bytes: number): void {
  const end = HEADER_SIZE + bytes
  let left = bytes - PADDING_OPENING
  let at = HEADER_SIZE
  into.fill(0, at, end)
  into[at] = left === 0 ? 0 : EXTENSION_PADDING
  into[at + 1] = EXTENSION_BITS_LENGTH
  at += PADDING_OPENING
  while (left > 0) {
    let block = left > PADDING_BLOCK ? PADDING_BLOCK : left
    // One byte left over would hold no block: leave two.
    if (left - block === 1) block -= 1
    left -= block
    into[at] = left === 0 ? 0 : EXTENSION_PADDING
    into[at + 1] = block - 2
    at += block
  }
}

function read16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
}

function read32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  )
}

function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = (value >> 8) & 0xff
  bytes[at + 1] = value & 0xff
}

function write32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = (value >>> 24) & 0xff
  bytes[at + 1] = (value >>> 16) & 0xff
  bytes[at + 2] = (value >>> 8) & 0xff
  bytes[at + 3] = value & 0xff
}

/** The only extension of a piece. The header says {@link EXTENSION_FRAGMENT}. */
export function writeFragment(into: Uint8Array, offset: number, total: number): void {
  into[HEADER_SIZE] = 0
  into[HEADER_SIZE + 1] = FRAGMENT_LENGTH
  write16(into, HEADER_SIZE + 2, offset)
  write16(into, HEADER_SIZE + 4, total)
}

/** The extension chain of a bare acknowledgement. */
export class AckWriter {
  #into: Uint8Array
  #at = HEADER_SIZE
  #nextAt = 1

  constructor(into: Uint8Array) {
    this.#into = into
  }

  /** Opens a selective ack of `length` bytes, and says where they go. */
  near(length: number): number {
    return this.#open(EXTENSION_SELECTIVE_ACK, length)
  }

  /** The same for a far one. */
  far(distance: number, length: number): number {
    const at = this.#open(EXTENSION_FAR_ACK, length + FAR_HEADER)
    write16(this.#into, at, distance)
    return at + FAR_HEADER
  }

  #open(extension: number, length: number): number {
    const at = this.#at
    this.#into[this.#nextAt] = extension
    this.#nextAt = at
    this.#into[at] = 0
    this.#into[at + 1] = length
    this.#at = at + 2 + length
    return at + 2
  }
}

/** Bytes of a packet with a mask of each of these lengths; 0 stands for none. */
export function ackSize(near: number, far: number, second: number): number {
  return (
    HEADER_SIZE +
    (near > 0 ? 2 + near : 0) +
    (far > 0 ? 2 + FAR_HEADER + far : 0) +
    (second > 0 ? 2 + FAR_HEADER + second : 0)
  )
}

/** How far beyond the ack the first bit of a selective-ack mask lies; least significant bits come first (BEP 29). */
export const NEAR_DISTANCE = 2
