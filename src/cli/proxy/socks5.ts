/*
 * The server's half of SOCKS 5 (RFC 1928): no authentication, CONNECT only. Bytes in, bytes and one target out; no
 * socket. At most 519 bytes are ever kept: a greeting of 2 + 255 and a request of 4 + 1 + 255 + 2.
 */

/** Reply codes of RFC 1928 §6. */
export const socksReplies = {
  succeeded: 0,
  generalFailure: 1,
  notAllowed: 2,
  hostUnreachable: 4,
  connectionRefused: 5,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const

export type SocksReply = keyof typeof socksReplies

/** What came of some bytes. `reply` goes to the client in every case. */
export type SocksStep =
  | { readonly state: 'more'; readonly reply: Uint8Array }
  /** The client wants `host`:`port`. `rest` is what it sent ahead: the beginning of the stream. */
  | {
      readonly state: 'request'
      readonly reply: Uint8Array
      readonly host: string
      readonly port: number
      readonly rest: Uint8Array
    }
  /** Send `reply`, if any, and close. */
  | { readonly state: 'failed'; readonly reply: Uint8Array; readonly why: string }

const VERSION = 5
const NO_AUTHENTICATION = 0
const NO_ACCEPTABLE_METHODS = 0xff
const CONNECT = 1
const IPV4 = 1
const DOMAIN_NAME = 3
const IPV6 = 4
const nothing = new Uint8Array()

export class SocksHandshake {
  #bytes: Uint8Array = nothing
  #greeted = false

  /** Takes the next bytes of the client. Not to be called again after `request` or `failed`. */
  push(chunk: Uint8Array): SocksStep {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    if (this.#greeted) return this.#readRequest(nothing)
    return this.#readGreeting()
  }

  // RFC 1928 §3: version, number of methods, methods.
  #readGreeting(): SocksStep {
    const [version, count] = this.#bytes
    if (version !== undefined && version !== VERSION)
      return failed(`this is no SOCKS 5 but version ${version}`)
    if (count === undefined || this.#bytes.length < 2 + count) return this.#more(nothing)
    const methods = this.#bytes.subarray(2, 2 + count)
    if (!methods.includes(NO_AUTHENTICATION)) {
      return failed('the client insists on a password', Uint8Array.of(VERSION, NO_ACCEPTABLE_METHODS))
    }
    this.#greeted = true
    this.#bytes = this.#bytes.subarray(2 + count)
    return this.#readRequest(Uint8Array.of(VERSION, NO_AUTHENTICATION))
  }

  // RFC 1928 §4: version, command, reserved, address type, address, port.
  #readRequest(reply: Uint8Array): SocksStep {
    const bytes = this.#bytes
    const [version, command, , type, length] = bytes
    if (version !== undefined && version !== VERSION) return failed('the request is malformed', reply)
    if (command !== undefined && command !== CONNECT) {
      return failed('only CONNECT is supported', concat(reply, encodeSocksReply('commandNotSupported')))
    }
    if (type === undefined || length === undefined) return this.#more(reply)
    const start = type === DOMAIN_NAME ? 5 : 4
    const size = type === IPV4 ? 4 : type === IPV6 ? 16 : type === DOMAIN_NAME ? length : undefined
    if (size === undefined) {
      return failed('unknown address type', concat(reply, encodeSocksReply('addressTypeNotSupported')))
    }
    const end = start + size
    if (bytes.length < end + 2) return this.#more(reply)
    const address = bytes.subarray(start, end)
    const host =
      type === DOMAIN_NAME
        ? Buffer.from(address).toString('latin1')
        : type === IPV4
          ? address.join('.')
          : formatIPv6(address)
    const port = ((bytes[end] ?? 0) << 8) | (bytes[end + 1] ?? 0)
    return { state: 'request', reply, host, port, rest: bytes.subarray(end + 2) }
  }

  // The chunk may lie in a buffer that its owner uses again.
  #more(reply: Uint8Array): SocksStep {
    this.#bytes = Uint8Array.from(this.#bytes)
    return { state: 'more', reply }
  }
}

/** The answer to a request (RFC 1928 §6). The bound address has no meaning here, so it is 0.0.0.0:0. */
export function encodeSocksReply(reply: SocksReply): Uint8Array {
  return Uint8Array.of(VERSION, socksReplies[reply], 0, IPV4, 0, 0, 0, 0, 0, 0)
}

const failed = (why: string, reply: Uint8Array = nothing): SocksStep => ({ state: 'failed', reply, why })

const concat = (a: Uint8Array, b: Uint8Array): Uint8Array => Buffer.concat([a, b])

function formatIPv6(bytes: Uint8Array): string {
  const groups: string[] = []
  for (let i = 0; i < 16; i += 2) groups.push((((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16))
  return groups.join(':')
}
