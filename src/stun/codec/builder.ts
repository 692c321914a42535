import type { SocketAddress } from '../../core/address.ts'
import { StunUsageError } from '../errors.ts'
import { padded, readUint16, writeUint16, writeUint32 } from './bytes.ts'
import { crc32 } from './crc32.ts'
import { integrityOf } from './integrity.ts'
import { writeIp } from '../../core/ip.ts'
import { Attribute, attributeName, reasonPhrase, type MessageClass } from './registry.ts'
import {
  FINGERPRINT_XOR,
  HEADER_LENGTH,
  MAGIC_COOKIE,
  TRANSACTION_ID_LENGTH,
  type OfferedAlgorithm,
  type StunView,
} from './view.ts'

/**
 * Writes STUN messages, one after the other, into one buffer:
 *
 *     const bytes = builder
 *       .start(Method.Binding, MessageClass.Request, transactionId)
 *       .text(Attribute.Software, 'natwork')
 *       .fingerprint()
 *       .copy()
 *
 * Attributes stand in the message in the order of the calls. The integrity attributes and FINGERPRINT cover what
 * stands before them: call them last, in this order (RFC 8489 §14.5–14.7). Every byte up to the end of the message is
 * written, padding included: nothing of an earlier message leaves the machine.
 */
export class StunBuilder {
  readonly #capacity: number
  #buffer: Uint8Array
  #end = 0

  /** @param capacity the longest message in bytes, header included: 20–65,552. The buffer grows up to it on demand. */
  constructor(capacity = 65_552) {
    if (!(capacity >= HEADER_LENGTH && capacity <= 65_552)) {
      throw new StunUsageError(
        'ERR_NATWORK_STUN_ENCODE',
        `a STUN message has 20–65,552 bytes, so a buffer of ${capacity} is of no use`,
      )
    }
    this.#capacity = capacity
    this.#buffer = new Uint8Array(Math.min(capacity, 1500))
  }

  /** Begins a message. `transactionId` has 12 bytes, uniformly random for a new transaction (§5). */
  start(method: number, messageClass: MessageClass, transactionId: Uint8Array): this {
    if (transactionId.length !== TRANSACTION_ID_LENGTH || method < 0 || method > 0xfff) {
      throw new StunUsageError(
        'ERR_NATWORK_STUN_ENCODE',
        'a STUN message needs a method of 12 bits and a transaction id of 12 bytes',
      )
    }
    writeUint16(this.#buffer, 0, messageType(method, messageClass))
    writeUint32(this.#buffer, 4, MAGIC_COOKIE)
    this.#buffer.set(transactionId, 8)
    return this.#begun()
  }

  /** Begins the answer to `request`: same method, same transaction id, and no cookie for one that had none (§6.3.1.1). */
  startResponse(request: StunView, messageClass: MessageClass): this {
    const from = request.bytes
    writeUint16(this.#buffer, 0, messageType(request.method, messageClass))
    for (let n = 4; n < HEADER_LENGTH; n++) this.#buffer[n] = from[n] ?? 0
    return this.#begun()
  }

  #begun(): this {
    writeUint16(this.#buffer, 2, 0)
    this.#end = HEADER_LENGTH
    return this
  }

  /** The length so far, header included. */
  get length(): number {
    return this.#end
  }

  /** Takes back everything behind `length`, which {@link length} was earlier in this message. */
  truncate(length: number): this {
    this.#end = length
    writeUint16(this.#buffer, 2, length - HEADER_LENGTH)
    return this
  }

  /** Writes the attribute's header and padding, and returns where its value goes. */
  #reserve(type: number, length: number): number {
    const at = this.#end
    const end = at + 4 + padded(length)
    if (at === 0) throw new StunUsageError('ERR_NATWORK_STUN_ENCODE', 'call start before adding attributes')
    if (end > this.#capacity) {
      throw new StunUsageError(
        'ERR_NATWORK_STUN_ENCODE',
        `${attributeName(type)} of ${length} bytes does not fit: the message would have ${end} of ${this.#capacity}`,
      )
    }
    if (end > this.#buffer.length) {
      const grown = new Uint8Array(Math.min(this.#capacity, 2 * end))
      grown.set(this.view())
      this.#buffer = grown
    }
    writeUint16(this.#buffer, at, type)
    writeUint16(this.#buffer, at + 2, length)
    if (length % 4 !== 0) writeUint32(this.#buffer, end - 4, 0)
    this.#end = end
    writeUint16(this.#buffer, 2, end - HEADER_LENGTH)
    return at + 4
  }

  /** Any attribute, by its bytes. */
  bytes(type: number, value: Uint8Array): this {
    // Reserving may replace the buffer: first that, then what is written into it.
    const at = this.#reserve(type, value.length)
    this.#buffer.set(value, at)
    return this
  }

  /** An attribute without a value: DONT-FRAGMENT, USE-CANDIDATE. */
  flag(type: number): this {
    this.#reserve(type, 0)
    return this
  }

  /** `length` zero bytes: PADDING. */
  zeros(type: number, length: number): this {
    const at = this.#reserve(type, length)
    this.#buffer.fill(0, at, at + length)
    return this
  }

  /**
   * USERNAME, REALM, NONCE, SOFTWARE, ALTERNATE-DOMAIN and the like, as UTF-8.
   *
   * @throws {StunUsageError} `ERR_NATWORK_STUN_ENCODE` when it is longer than its attribute may be (§14).
   */
  text(type: number, value: string): this {
    const limit = textLimits.get(type)
    const length = Buffer.byteLength(value)
    if (limit !== undefined && (length > limit.bytes || characters(value) > limit.characters)) {
      throw new StunUsageError(
        'ERR_NATWORK_STUN_ENCODE',
        `${attributeName(type)} may have ${limit.characters} characters in ${limit.bytes} bytes of UTF-8: shorten it`,
      )
    }
    const at = this.#reserve(type, length)
    utf8.encodeInto(value, this.#buffer.subarray(at, at + length))
    return this
  }

  /** One byte: alone (EVEN-PORT), or with three zero ones behind it (`reserved`: REQUESTED-TRANSPORT). */
  uint8(type: number, value: number, reserved = false): this {
    const at = this.#reserve(type, reserved ? 4 : 1)
    if (reserved) writeUint32(this.#buffer, at, 0)
    this.#buffer[at] = value
    return this
  }

  /** Two bytes and two zero ones (RESPONSE-PORT, CHANNEL-NUMBER). */
  uint16(type: number, value: number): this {
    const at = this.#reserve(type, 4)
    writeUint16(this.#buffer, at, value)
    writeUint16(this.#buffer, at + 2, 0)
    return this
  }

  /** Four bytes (LIFETIME, PRIORITY, CHANGE-REQUEST). */
  uint32(type: number, value: number): this {
    const at = this.#reserve(type, 4)
    writeUint32(this.#buffer, at, value)
    return this
  }

  /** A transport address in the clear: MAPPED-ADDRESS, ALTERNATE-SERVER, OTHER-ADDRESS, RESPONSE-ORIGIN. */
  address(type: number, value: SocketAddress): this {
    this.#address(type, value)
    return this
  }

  /** A transport address XORed with the cookie and the transaction id: XOR-MAPPED-ADDRESS and its kin (§14.2). */
  xorAddress(type: number, value: SocketAddress): this {
    const at = this.#address(type, value)
    const buffer = this.#buffer
    writeUint16(buffer, at + 2, value.port ^ readUint16(buffer, 4))
    for (let n = at + 4; n < this.#end; n++) buffer[n] = (buffer[n] ?? 0) ^ (buffer[n - at] ?? 0)
    return this
  }

  #address(type: number, { address, port }: SocketAddress): number {
    const length = address.includes(':') ? 20 : 8
    const at = this.#reserve(type, length)
    const buffer = this.#buffer
    buffer[at] = 0
    buffer[at + 1] = length === 8 ? 1 : 2
    writeUint16(buffer, at + 2, port)
    if (writeIp(address, buffer, at + 4) === 0) {
      this.truncate(at - 4)
      throw new StunUsageError(
        'ERR_NATWORK_STUN_ENCODE',
        `"${address}" is not an IP address: resolve the name first`,
      )
    }
    return at
  }

  /** ERROR-CODE, with the recommended words unless others are given (§14.8). */
  errorCode(code: number, reason = reasonPhrase(code)): this {
    const length = Buffer.byteLength(reason)
    if (code < 300 || code > 699 || length > 509 || characters(reason) > 127) {
      throw new StunUsageError(
        'ERR_NATWORK_STUN_ENCODE',
        'ERROR-CODE takes 300–699 and a reason of at most 127 characters',
      )
    }
    const at = this.#reserve(Attribute.ErrorCode, 4 + length)
    writeUint16(this.#buffer, at, 0)
    this.#buffer[at + 2] = Math.floor(code / 100)
    this.#buffer[at + 3] = code % 100
    utf8.encodeInto(reason, this.#buffer.subarray(at + 4, at + 4 + length))
    return this
  }

  /** UNKNOWN-ATTRIBUTES, the companion of 420. */
  unknownAttributes(types: readonly number[]): this {
    let at = this.#reserve(Attribute.UnknownAttributes, 2 * types.length)
    for (const type of types) {
      writeUint16(this.#buffer, at, type)
      at += 2
    }
    return this
  }

  /** PASSWORD-ALGORITHMS, or PASSWORD-ALGORITHM with a list of one. */
  passwordAlgorithms(
    type: typeof Attribute.PasswordAlgorithms | typeof Attribute.PasswordAlgorithm,
    list: readonly OfferedAlgorithm[],
  ): this {
    const length = list.reduce((sum, { parameters }) => padded(sum) + 4 + parameters.length, 0)
    const from = this.#reserve(type, length)
    this.#buffer.fill(0, from, from + length)
    let at = from
    for (const { algorithm, parameters } of list) {
      writeUint16(this.#buffer, at, algorithm)
      writeUint16(this.#buffer, at + 2, parameters.length)
      this.#buffer.set(parameters, at + 4)
      at = padded(at + 4 + parameters.length)
    }
    return this
  }

  /** MESSAGE-INTEGRITY: HMAC-SHA1 over everything so far (§14.5). */
  integrity(key: Uint8Array): this {
    return this.#integrity(Attribute.MessageIntegrity, 'sha1', key, 20)
  }

  /**
   * MESSAGE-INTEGRITY-SHA256: HMAC-SHA256 over everything so far (§14.6).
   *
   * @param length 16–32, a multiple of 4; less than 32 only where the usage allows truncation.
   */
  integritySha256(key: Uint8Array, length = 32): this {
    if (length < 16 || length > 32 || length % 4 !== 0) {
      throw new StunUsageError(
        'ERR_NATWORK_STUN_ENCODE',
        'MESSAGE-INTEGRITY-SHA256 has 16–32 bytes, a multiple of 4',
      )
    }
    return this.#integrity(Attribute.MessageIntegritySha256, 'sha256', key, length)
  }

  #integrity(type: number, algorithm: 'sha1' | 'sha256', key: Uint8Array, length: number): this {
    const at = this.#reserve(type, length)
    const code = integrityOf(algorithm, key, this.#buffer, at - 4, length)
    this.#buffer.set(code.subarray(0, length), at)
    return this
  }

  /** FINGERPRINT: nothing may follow it (§14.7). */
  fingerprint(): this {
    const at = this.#reserve(Attribute.Fingerprint, 4)
    writeUint32(this.#buffer, at, crc32(this.#buffer, at - 4) ^ FINGERPRINT_XOR)
    return this
  }

  /** The message, in this builder's buffer: it is overwritten by the next one. */
  view(): Uint8Array {
    return this.#buffer.subarray(0, this.#end)
  }

  /** The message, for keeps. */
  copy(): Uint8Array {
    const bytes = Buffer.allocUnsafe(this.#end)
    bytes.set(this.view())
    return bytes
  }
}

/** RFC 8489 appendix A. */
export function messageType(method: number, messageClass: MessageClass): number {
  return (
    ((method & 0x0f80) << 2) |
    ((method & 0x0070) << 1) |
    (method & 0x000f) |
    ((messageClass & 2) << 7) |
    ((messageClass & 1) << 4)
  )
}

const utf8 = new TextEncoder()
const characters = (text: string): number => Array.from(text).length

/** "fewer than 128 characters (which can be as long as 509 bytes when encoding them)", and the exceptions (§14). */
const textLimits: ReadonlyMap<number, { bytes: number; characters: number }> = new Map([
  [Attribute.Username, { bytes: 508, characters: 508 }],
  [Attribute.Realm, { bytes: 509, characters: 127 }],
  [Attribute.Nonce, { bytes: 509, characters: 127 }],
  [Attribute.Software, { bytes: 509, characters: 127 }],
  [Attribute.AlternateDomain, { bytes: 255, characters: 255 }],
])
