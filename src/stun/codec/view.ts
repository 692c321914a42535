import type { SocketAddress } from '../../core/address.ts'
import { padded, readUint16, readUint32 } from './bytes.ts'
import { crc32 } from './crc32.ts'
import { integrityIsRight } from './integrity.ts'
import { readIpv4, readIpv6 } from '../../core/ip.ts'
import { Attribute, type MessageClass } from './registry.ts'

export const HEADER_LENGTH = 20
export const MAGIC_COOKIE = 0x2112a442
export const TRANSACTION_ID_LENGTH = 12
/** What FINGERPRINT's CRC is XORed with (RFC 8489 §14.7). */
export const FINGERPRINT_XOR = 0x5354554e

/** An algorithm of PASSWORD-ALGORITHMS, which this package may not know (RFC 8489 §14.11). */
export interface OfferedAlgorithm {
  readonly algorithm: number
  readonly parameters: Uint8Array
}

/**
 * Reads a STUN message in place: no copy, nothing parsed before it is asked for. One view serves many messages, one
 * after the other:
 *
 *     if (!view.open(bytes)) return false // not STUN
 *     if (view.method === Method.Binding && view.messageClass === MessageClass.Request) …
 *     for (let at = view.first(); at !== -1; at = view.next(at)) view.typeAt(at) …
 *
 * The bytes belong to whoever received them; whatever is returned as a `Uint8Array` is a part of them. Reading never
 * throws: an attribute that is absent, or whose length is wrong for its type, reads as undefined.
 *
 * Of attributes that appear twice the first counts (§14). Those behind MESSAGE-INTEGRITY are not seen, except
 * MESSAGE-INTEGRITY-SHA256 and FINGERPRINT; those behind MESSAGE-INTEGRITY-SHA256 are not seen, except FINGERPRINT
 * (§9): nobody vouches for them.
 */
export class StunView {
  #bytes: Uint8Array = NOTHING
  /** Where the attributes that are seen in order end. */
  #end = 0
  #integritySha256 = -1
  #fingerprint = -1
  /** Present, but not reached by iterating up to `#end`. */
  #trailingSha256 = -1

  /**
   * Is this a STUN message? At least 20 bytes, the top two bits zero, the magic cookie, a length field that is the
   * bytes behind the header and a multiple of 4, attributes that fill it exactly, and FINGERPRINT, where present, last
   * and right. That is strict enough to tell it from uTP and ChannelData on one socket.
   *
   * @param classic take messages without the cookie too, as RFC 3489 wrote them: never on a shared socket.
   * @returns false when it is none, and then the view is empty.
   */
  open(bytes: Uint8Array, classic = false): boolean {
    this.#bytes = NOTHING
    this.#end = 0
    this.#integritySha256 = -1
    this.#fingerprint = -1
    this.#trailingSha256 = -1
    const size = bytes.length
    if (
      size < HEADER_LENGTH ||
      readUint16(bytes, 0) > 0x3fff ||
      readUint16(bytes, 2) !== size - HEADER_LENGTH ||
      size % 4 !== 0 ||
      (!classic && readUint32(bytes, 4) !== MAGIC_COOKIE)
    ) {
      return false
    }
    let end = -1
    let sha256 = -1
    let fingerprint = -1
    let at = HEADER_LENGTH
    while (at < size) {
      const type = readUint16(bytes, at)
      const next = at + 4 + padded(readUint16(bytes, at + 2))
      if (next > size) return false
      if (type === Attribute.MessageIntegrity) {
        if (end === -1) end = next
      } else if (type === Attribute.MessageIntegritySha256) {
        if (sha256 === -1) {
          sha256 = at
          if (end === -1) end = next
          else this.#trailingSha256 = at
        }
      } else if (type === Attribute.Fingerprint) {
        if (next !== size || !fingerprintIsRight(bytes, at)) return false
        fingerprint = at
      }
      at = next
    }
    this.#bytes = bytes
    this.#end = end === -1 ? size : end
    this.#integritySha256 = sha256
    this.#fingerprint = fingerprint
    return true
  }

  /** The whole message. */
  get bytes(): Uint8Array {
    return this.#bytes
  }

  /** The first 16 bits. */
  get messageType(): number {
    return readUint16(this.#bytes, 0)
  }

  /** 12 bits; `Method` names the known ones. */
  get method(): number {
    const type = this.messageType
    return ((type & 0x3e00) >> 2) | ((type & 0x00e0) >> 1) | (type & 0x000f)
  }

  get messageClass(): MessageClass {
    const type = this.messageType
    return (((type & 0x0100) >> 7) | ((type & 0x0010) >> 4)) as MessageClass
  }

  /** The 12 bytes of the transaction id. */
  get transactionId(): Uint8Array {
    return this.#bytes.subarray(8, HEADER_LENGTH)
  }

  /** The first 48 bits of the transaction id, to look a transaction up by; compare the rest too. */
  get transactionKey(): number {
    return transactionKeyOf(this.#bytes, 8)
  }

  /** True when the message has no magic cookie: RFC 3489's, with a transaction id of 16 bytes. */
  get isClassic(): boolean {
    return readUint32(this.#bytes, 4) !== MAGIC_COOKIE
  }

  get hasFingerprint(): boolean {
    return this.#fingerprint !== -1
  }

  /** The offset of the first attribute, or -1. */
  first(): number {
    return this.#step(HEADER_LENGTH)
  }

  /** The offset of the attribute behind the one at `at`, or -1. */
  next(at: number): number {
    if (at === this.#fingerprint) return -1
    if (at === this.#trailingSha256) return this.#fingerprint
    return this.#step(at + 4 + padded(this.lengthAt(at)))
  }

  #step(at: number): number {
    if (at < this.#end) return at
    return this.#trailingSha256 !== -1
      ? this.#trailingSha256
      : at >= this.#bytes.length
        ? -1
        : this.#fingerprint
  }

  typeAt(at: number): number {
    return readUint16(this.#bytes, at)
  }

  /** The length of the value, without padding. */
  lengthAt(at: number): number {
    return readUint16(this.#bytes, at + 2)
  }

  valueAt(at: number): Uint8Array {
    return this.#bytes.subarray(at + 4, at + 4 + this.lengthAt(at))
  }

  /** The offset of the first attribute of this type, or -1. */
  find(type: number): number {
    let at = this.first()
    while (at !== -1 && this.typeAt(at) !== type) at = this.next(at)
    return at
  }

  has(type: number): boolean {
    return this.find(type) !== -1
  }

  value(type: number): Uint8Array | undefined {
    const at = this.find(type)
    return at === -1 ? undefined : this.valueAt(at)
  }

  /** Invalid UTF-8 reads as U+FFFD. */
  text(type: number): string | undefined {
    const at = this.find(type)
    return at === -1 ? undefined : this.#text(at + 4, at + 4 + this.lengthAt(at))
  }

  #text(from: number, to: number): string {
    const bytes = this.#bytes
    return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('utf8')
  }

  /** A value of one byte, alone (EVEN-PORT) or with three reserved ones behind it (REQUESTED-TRANSPORT). */
  uint8(type: number): number | undefined {
    const at = this.find(type)
    if (at === -1 || (this.lengthAt(at) !== 1 && this.lengthAt(at) !== 4)) return undefined
    return this.#bytes[at + 4]
  }

  /** A value of two bytes, alone or with two reserved ones behind it (RESPONSE-PORT, CHANNEL-NUMBER). */
  uint16(type: number): number | undefined {
    const at = this.find(type)
    if (at === -1 || (this.lengthAt(at) !== 2 && this.lengthAt(at) !== 4)) return undefined
    return readUint16(this.#bytes, at + 4)
  }

  /** A value of four bytes (LIFETIME, PRIORITY, CHANGE-REQUEST). */
  uint32(type: number): number | undefined {
    const at = this.find(type)
    return at === -1 || this.lengthAt(at) !== 4 ? undefined : readUint32(this.#bytes, at + 4)
  }

  /** A transport address in the clear: MAPPED-ADDRESS, ALTERNATE-SERVER, OTHER-ADDRESS, RESPONSE-ORIGIN. */
  address(type: number): SocketAddress | undefined {
    const at = this.find(type)
    return at === -1 ? undefined : this.addressAt(at)
  }

  /** A transport address that is XORed with the cookie: XOR-MAPPED-ADDRESS, XOR-PEER-ADDRESS, XOR-RELAYED-ADDRESS. */
  xorAddress(type: number): SocketAddress | undefined {
    const at = this.find(type)
    return at === -1 ? undefined : this.xorAddressAt(at)
  }

  addressAt(at: number): SocketAddress | undefined {
    const bytes = this.#bytes
    const family = bytes[at + 5]
    const length = this.lengthAt(at)
    if (family === 1 && length === 8)
      return { address: readIpv4(bytes, at + 8), port: readUint16(bytes, at + 6) }
    if (family === 2 && length === 20)
      return { address: readIpv6(bytes, at + 8), port: readUint16(bytes, at + 6) }
    return undefined
  }

  xorAddressAt(at: number): SocketAddress | undefined {
    const bytes = this.#bytes
    const family = bytes[at + 5]
    const length = this.lengthAt(at)
    // What it was XORed with stands in the header: the cookie, then the transaction id.
    if (family === 1 && length === 8) {
      for (let n = 0; n < 4; n++) clear[n] = (bytes[at + 8 + n] ?? 0) ^ (bytes[4 + n] ?? 0)
      return { address: readIpv4(clear, 0), port: readUint16(bytes, at + 6) ^ readUint16(bytes, 4) }
    }
    if (family === 2 && length === 20) {
      for (let n = 0; n < 16; n++) clear[n] = (bytes[at + 8 + n] ?? 0) ^ (bytes[4 + n] ?? 0)
      return { address: readIpv6(clear, 0), port: readUint16(bytes, at + 6) ^ readUint16(bytes, 4) }
    }
    return undefined
  }

  /** The reflexive address of a Binding response: XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS from an RFC 3489 server. */
  mappedAddress(): SocketAddress | undefined {
    return this.xorAddress(Attribute.XorMappedAddress) ?? this.address(Attribute.MappedAddress)
  }

  /** ERROR-CODE: 300–699 and the server's words. Undefined too when the numbers are out of range (§14.8). */
  errorCode(): { code: number; reason: string } | undefined {
    const at = this.find(Attribute.ErrorCode)
    if (at === -1 || this.lengthAt(at) < 4) return undefined
    const hundreds = (this.#bytes[at + 6] ?? 0) & 7
    const number = this.#bytes[at + 7] ?? 0
    if (hundreds < 3 || hundreds > 6 || number > 99) return undefined
    return { code: hundreds * 100 + number, reason: this.#text(at + 8, at + 4 + this.lengthAt(at)) }
  }

  /** The types in UNKNOWN-ATTRIBUTES; empty when there is none. */
  unknownAttributes(): number[] {
    const value = this.value(Attribute.UnknownAttributes) ?? NOTHING
    return Array.from({ length: value.length >> 1 }, (_, n) => readUint16(value, 2 * n))
  }

  /** What PASSWORD-ALGORITHMS or PASSWORD-ALGORITHM lists; undefined when absent or when its lengths do not add up. */
  passwordAlgorithms(
    type: typeof Attribute.PasswordAlgorithms | typeof Attribute.PasswordAlgorithm,
  ): OfferedAlgorithm[] | undefined {
    const value = this.value(type)
    if (value === undefined || value.length === 0) return undefined
    const list: OfferedAlgorithm[] = []
    let at = 0
    while (at < value.length) {
      const end = at + 4 + readUint16(value, at + 2)
      if (at + 4 > value.length || end > value.length) return undefined
      list.push({ algorithm: readUint16(value, at), parameters: value.subarray(at + 4, end) })
      at = padded(end)
    }
    return list
  }

  /** The comprehension-required attributes that are not in `understood`, each once (§6.3.1). */
  unknownRequired(understood: ReadonlySet<number>): number[] {
    let unknown = NONE
    for (let at = this.first(); at !== -1; at = this.next(at)) {
      const type = this.typeAt(at)
      if (type < 0x8000 && !understood.has(type) && !unknown.includes(type)) {
        if (unknown === NONE) unknown = []
        unknown.push(type)
      }
    }
    return unknown
  }

  /** Is MESSAGE-INTEGRITY there and right? In constant time. */
  hasIntegrity(key: Uint8Array): boolean {
    const at = this.find(Attribute.MessageIntegrity)
    return at !== -1 && integrityIsRight(key, this.#bytes, at, 32)
  }

  /**
   * Is MESSAGE-INTEGRITY-SHA256 there and right? In constant time.
   *
   * @param minimum the shortest truncation accepted, 16–32 bytes; less than 32 only where the usage allows it (§14.6).
   */
  hasIntegritySha256(key: Uint8Array, minimum = 32): boolean {
    return this.#integritySha256 !== -1 && integrityIsRight(key, this.#bytes, this.#integritySha256, minimum)
  }
}

/** See {@link StunView.open}: for a demultiplexer that only wants to know. */
export function isStun(bytes: Uint8Array): boolean {
  return probe.open(bytes)
}

/** The first 48 of the 96 bits at `at`, exact in a double. */
export function transactionKeyOf(bytes: Uint8Array, at: number): number {
  return readUint32(bytes, at) * 0x10000 + readUint16(bytes, at + 4)
}

function fingerprintIsRight(bytes: Uint8Array, at: number): boolean {
  return (
    readUint16(bytes, at + 2) === 4 &&
    (crc32(bytes, at) ^ FINGERPRINT_XOR) >>> 0 === readUint32(bytes, at + 4)
  )
}

const NOTHING = new Uint8Array(0)
const NONE: number[] = []
const clear = new Uint8Array(16)
const probe = new StunView()
