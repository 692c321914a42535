import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { StunBuilder } from '../codec/builder.ts'
import { Attribute, ErrorCode, MessageClass, Method, requiredAttributes } from '../codec/registry.ts'
import type { StunView } from '../codec/view.ts'
import type { Authentication, ServerAuth } from '../credentials/server.ts'
import { SourceLimiter, type RateLimit } from './limiter.ts'

export interface StunServerOptions {
  readonly rng: Rng
  /** Said in SOFTWARE where there is room; default: nothing. */
  readonly software?: string
  /** Who may ask; default: everybody ("SHOULD NOT utilize the … credential mechanism", RFC 8489 §12). */
  readonly auth?: ServerAuth
  /** Over UDP; default 100 per second and source network, 200 at once. `false`: no limit, for a closed network. */
  readonly rateLimit?: RateLimit | false
  /** The two addresses and two ports of RFC 5780; default: one of each, and CHANGE-REQUEST is refused. */
  readonly origins?: Origins
}

/** The four sockets of an RFC 5780 server. An origin's number is 2 × (which address) + (which port). */
export interface Origins {
  readonly addresses: readonly [string, string]
  readonly ports: readonly [number, number]
}

/** Since the start. */
export interface StunServerCounters {
  readonly requests: number
  readonly responses: number
  /** Responses that were errors. */
  readonly errors: number
  /** Requests dropped by the rate limit. */
  readonly limited: number
}

/** A response, and where it goes. */
export interface Reply {
  readonly data: Uint8Array
  readonly to: SocketAddress
  /** The number of the socket to send it from (RFC 5780 CHANGE-REQUEST); the receiving one's without {@link Origins}. */
  readonly from: number
}

/** How a request came in. */
export interface Arrival {
  readonly source: SocketAddress
  /** The number of the socket; 0 without {@link Origins}. */
  readonly origin: number
  /** By TCP or TLS: the source address is verified, and there is no other socket to answer from. */
  readonly reliable: boolean
}

/**
 * Answers Binding requests (RFC 8489 §6.3.1, §12; RFC 5780 §6). It holds no state per client.
 *
 * It is no good as a reflector: to an address that nothing has verified, a response has what the RFCs demand and not a
 * byte more than the request, and every source network has its share of requests. What they demand of a plain server
 * is 12 bytes more than a bare request of 20 (an IPv4 packet of 60 bytes for one of 48, 1.25 ×); an RFC 5780 server
 * must say three addresses more (96 for 48, 2 ×), and a challenge for credentials must carry realm and nonce (2.67 × with
 * a realm of 11 characters).
 */
export class StunResponder {
  readonly #options: StunServerOptions
  readonly #limiter: SourceLimiter | undefined
  readonly #understood: ReadonlySet<number>
  readonly #builder = new StunBuilder()
  readonly #counters = { requests: 0, responses: 0, errors: 0, limited: 0 }

  constructor(options: StunServerOptions) {
    const { rng, rateLimit = { perSecond: 100, burst: 200 }, origins } = options
    this.#options = options
    this.#limiter = rateLimit === false ? undefined : new SourceLimiter(rng, rateLimit)
    this.#understood =
      origins === undefined
        ? understood
        : new Set([...understood, Attribute.ChangeRequest, Attribute.ResponsePort])
  }

  get counters(): StunServerCounters {
    return { ...this.#counters }
  }

  /** The answer to a Binding request; undefined when there is to be none. */
  respond(now: Micros, request: StunView, arrival: Arrival): Reply | undefined {
    const counters = this.#counters
    counters.requests++
    const { source, reliable } = arrival
    const responsePort = this.#responsePort(request, reliable)
    // A response to another port than the request's may go to a third party: it costs more (RFC 5780 §7.5).
    const cost = responsePort === undefined ? 1 : RESPONSE_PORT_COST
    if (!reliable && this.#limiter?.take(now, source.address, cost) === false) {
      counters.limited++
      return undefined
    }
    counters.responses++
    if (this.#options.auth === undefined) return this.#answer(request, arrival, responsePort, undefined)
    // RFC 3489 messages have no credentials that we would trust.
    if (request.isClassic) return this.#error(request, arrival, ErrorCode.BadRequest)
    const authentication = this.#options.auth.check(now, request, source)
    return authentication.ok
      ? this.#answer(request, arrival, responsePort, authentication)
      : this.#error(request, arrival, authentication.code, undefined, authentication.challenge)
  }

  #answer(
    request: StunView,
    arrival: Arrival,
    responsePort: number | undefined,
    authentication: Authentication | undefined,
  ): Reply {
    return (
      this.#rejection(request, arrival, authentication) ??
      this.#success(request, arrival, responsePort, authentication)
    )
  }

  /** Undefined when the request does not ask for another port, or may not. */
  #responsePort(request: StunView, reliable: boolean): number | undefined {
    return reliable || this.#options.origins === undefined
      ? undefined
      : request.uint16(Attribute.ResponsePort)
  }

  /** The error that this request deserves, if any. */
  #rejection(
    request: StunView,
    arrival: Arrival,
    authentication: Authentication | undefined,
  ): Reply | undefined {
    const unknown = request.unknownRequired(this.#understood).filter(
      // RFC 3489 clients always say "change nothing".
      (type) => !(request.isClassic && type === Attribute.ChangeRequest && request.uint32(type) === 0),
    )
    if (unknown.length > 0) {
      return this.#error(request, arrival, ErrorCode.UnknownAttribute, authentication, (response) =>
        response.unknownAttributes(
          // RFC 3489 knows no padding: an odd list says its last type twice.
          request.isClassic && unknown.length % 2 === 1 ? [...unknown, ...unknown.slice(-1)] : unknown,
        ),
      )
    }
    const change =
      request.has(Attribute.ChangeRequest) && request.uint32(Attribute.ChangeRequest) === undefined
    const hasPort = request.has(Attribute.ResponsePort)
    const port = request.uint16(Attribute.ResponsePort) ?? 0
    // RESPONSE-PORT and PADDING exclude each other (RFC 5780 §6.1). Below 1024 are services, not clients.
    if (change || (hasPort && (port < 1024 || request.has(Attribute.Padding)))) {
      return this.#error(request, arrival, ErrorCode.BadRequest, authentication)
    }
    return undefined
  }

  #success(
    request: StunView,
    arrival: Arrival,
    responsePort: number | undefined,
    authentication: Authentication | undefined,
  ): Reply {
    const { source, reliable } = arrival
    const { origins } = this.#options
    const response = this.#builder.startResponse(request, MessageClass.Success)
    if (!request.isClassic) response.xorAddress(Attribute.XorMappedAddress, source)
    let from = arrival.origin
    if (origins !== undefined) {
      // Bits A (address) and B (port) of CHANGE-REQUEST turn the bits of an origin's number (RFC 5780 §6.1 table 1).
      const flags = reliable ? 0 : (request.uint32(Attribute.ChangeRequest) ?? 0)
      from = arrival.origin ^ ((flags >> 1) & 3)
      response.address(Attribute.MappedAddress, source)
      const [originType, otherType] = request.isClassic ? classicAddresses : addresses
      response.address(originType, addressOf(origins, from))
      response.address(otherType, addressOf(origins, arrival.origin ^ 3))
    } else if (request.isClassic) {
      response.address(Attribute.MappedAddress, source)
    }
    this.#finish(request, arrival, response, authentication)
    const to = responsePort === undefined ? source : { address: source.address, port: responsePort }
    return { data: response.copy(), to, from }
  }

  #error(
    request: StunView,
    arrival: Arrival,
    code: number,
    authentication?: Authentication,
    details?: (response: StunBuilder) => void,
  ): Reply {
    this.#counters.errors++
    const response = this.#builder.startResponse(request, MessageClass.Error)
    response.errorCode(code)
    // The words are for people: they stay away when they would make the response longer than the request.
    if (!this.#mayGrow(arrival, authentication) && response.length > request.bytes.length) {
      response.truncate(HEADER).errorCode(code, '')
    }
    details?.(response)
    this.#finish(request, arrival, response, authentication)
    return { data: response.copy(), to: arrival.source, from: arrival.origin }
  }

  /** SOFTWARE and PADDING as far as they fit, then integrity and FINGERPRINT. */
  #finish(
    request: StunView,
    arrival: Arrival,
    response: StunBuilder,
    authentication: Authentication | undefined,
  ): void {
    const room = request.bytes.length - FINGERPRINT
    const { software } = this.#options
    if (software !== undefined && !request.isClassic) {
      const before = response.length
      response.text(Attribute.Software, software)
      if (!this.#mayGrow(arrival, authentication) && response.length > room) response.truncate(before)
    }
    // "SHOULD use a length … equal to the MTU": the client's own padding is the better measure, and never more than
    // what it has paid for.
    if (request.has(Attribute.Padding) && !arrival.reliable) {
      const left = room - response.length - 4 - (authentication?.ok === true ? INTEGRITY : 0)
      response.zeros(Attribute.Padding, Math.max(0, left & ~3))
    }
    if (authentication?.ok === true) authentication.sign(response)
    if (request.hasFingerprint) response.fingerprint()
  }

  /** A source is trusted for its TCP handshake, or for credentials. */
  #mayGrow(arrival: Arrival, authentication: Authentication | undefined): boolean {
    return arrival.reliable || authentication?.ok === true
  }
}

/** Is this what a {@link StunResponder} answers? */
export function isBindingRequest(view: StunView): boolean {
  return view.method === Method.Binding && view.messageClass === MessageClass.Request
}

const HEADER = 20
const FINGERPRINT = 8
/** The longest integrity attribute. */
const INTEGRITY = 36
const RESPONSE_PORT_COST = 5

const addresses = [Attribute.ResponseOrigin, Attribute.OtherAddress] as const
const classicAddresses = [Attribute.SourceAddress, Attribute.ChangedAddress] as const

function addressOf({ addresses: ips, ports }: Origins, origin: number): SocketAddress {
  return { address: origin & 2 ? ips[1] : ips[0], port: origin & 1 ? ports[1] : ports[0] }
}

/** What a plain server understands; the known but unexpected ones are ignored (RFC 8489 §6.3). */
const understood: ReadonlySet<number> = new Set(requiredAttributes)
