/** The longest first message of TLS that is waited for; OpenSSL's own bound for it is larger than any in use. */
export const maxClientHello = 16_384
/** Records that it may be cut into: clients send one, those that hide from a censor a few. */
const maxRecords = 32

/** `undefined`: more bytes are needed; `false`: this is no ClientHello. Otherwise the protocols that it offers (RFC 7301). */
export type Offered = readonly string[] | false | undefined

const handshakeRecord = 22
const clientHello = 1
const alpnExtension = 16

/**
 * Which protocols the first message of a TLS connection offers (RFC 8446 §4.1.2), without consuming it: what they are
 * decides who takes the connection. Never throws, whatever the bytes.
 */
export function offeredProtocols(bytes: Uint8Array): Offered {
  const message = handshakeMessage(bytes)
  if (message === undefined || message === false) return message
  const reader = new Reader(message)
  reader.skip(2 + 32) // legacy_version, random
  reader.skip(reader.uint(1)) // legacy_session_id
  reader.skip(reader.uint(2)) // cipher_suites
  reader.skip(reader.uint(1)) // legacy_compression_methods
  const extensions = reader.part(reader.uint(2))
  while (extensions.left > 0) {
    const type = extensions.uint(2)
    const body = extensions.part(extensions.uint(2))
    if (type !== alpnExtension) continue
    const names: string[] = []
    const list = body.part(body.uint(2))
    while (list.left > 0) names.push(list.text(list.uint(1)))
    return [list, body, extensions].some(({ failed }) => failed) ? false : names
  }
  return reader.failed || extensions.failed ? false : []
}

/**
 * The ClientHello out of the records that it is cut into (RFC 8446 §5.1). Asked again at every segment, so that its cost is
 * bounded by {@link maxRecords}: what is there is joined once, when the message is whole.
 */
function handshakeMessage(bytes: Uint8Array): Uint8Array | false | undefined {
  const parts: Uint8Array[] = []
  let length = 0
  for (let at = 0; parts.length < maxRecords;) {
    // What is wrong is told by the first bytes, not after waiting for all.
    if (at < bytes.length && bytes[at] !== handshakeRecord) return false
    if (at + 1 < bytes.length && bytes[at + 1] !== 3) return false
    if (at + 5 > bytes.length) return undefined
    const size = ((bytes[at + 3] ?? 0) << 8) | (bytes[at + 4] ?? 0)
    if (size === 0 || size > maxClientHello) return false
    const part = bytes.subarray(at + 5, at + 5 + size)
    parts.push(part)
    length += part.length
    const start = startOf(parts)
    if (start.length >= 1 && start[0] !== clientHello) return false
    if (start.length === 4) {
      const wanted = ((start[1] ?? 0) << 16) | ((start[2] ?? 0) << 8) | (start[3] ?? 0)
      if (wanted > maxClientHello) return false
      if (length >= 4 + wanted) return Buffer.concat(parts).subarray(4, 4 + wanted)
    }
    if (part.length < size) return undefined
    at += 5 + size
  }
  return false
}

/** The message's type and length, as far as they are there. */
function startOf(parts: readonly Uint8Array[]): number[] {
  const start: number[] = []
  for (const part of parts) {
    start.push(...part.subarray(0, 4 - start.length))
    if (start.length === 4) break
  }
  return start
}

/** Reads fields one after the other; past the end everything is empty, and `failed` says so. */
class Reader {
  readonly #bytes: Uint8Array
  #at = 0
  failed = false

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  uint(size: number): number {
    let value = 0
    for (const byte of this.#take(size)) value = value * 256 + byte
    return value
  }

  skip(size: number): void {
    this.#take(size)
  }

  part(size: number): Reader {
    return new Reader(this.#take(size))
  }

  text(size: number): string {
    return Buffer.from(this.#take(size)).toString('latin1')
  }

  #take(size: number): Uint8Array {
    if (size > this.left) {
      this.failed = true
      this.#at = this.#bytes.length
      return new Uint8Array()
    }
    this.#at += size
    return this.#bytes.subarray(this.#at - size, this.#at)
  }
}
