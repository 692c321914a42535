import type { SocketAddress } from '../../core/address.ts'
import { MILLISECOND, SECOND, type Micros, type Path } from '../../core/machine.ts'
import type { StunBuilder } from '../codec/builder.ts'
import type { StunView } from '../codec/view.ts'
import type { ClientAuth, Signature } from '../credentials/client.ts'
import type { StunPeerError } from '../errors.ts'

/** RFC 8489 §6.2.1 and §6.2.2, with the RFC's defaults. */
export interface Timing {
  /** The first retransmission timeout towards a server that is not known yet, µs; default 500 ms. */
  readonly rto: Micros
  /** Requests sent in all, over UDP; default 7. */
  readonly rc: number
  /** How many RTOs to wait after the last request; default 16. */
  readonly rm: number
  /** How long to wait for a response over TCP and TLS, µs; default 39.5 s. */
  readonly ti: Micros
}

export const defaultTiming: Timing = { rto: 500 * MILLISECOND, rc: 7, rm: 16, ti: 39_500 * MILLISECOND }

export interface StunRequest {
  /** Of 12 bits; `Method` names the known ones. */
  readonly method: number
  /** To whom; only responses from there count. */
  readonly path: Path
  /** Writes the attributes of the method. Called once per transaction: again for each re-authentication. */
  readonly attributes?: (builder: StunBuilder) => void
  readonly auth?: ClientAuth
  /** End the request with FINGERPRINT, as a socket shared with other protocols needs it; default true. */
  readonly fingerprint?: boolean
  /** The path is a TCP or TLS connection: sent once, {@link Timing.ti} to answer; default false. */
  readonly reliable?: boolean
  /** The address the response will come from, when it is another than the request goes to (RFC 5780 CHANGE-REQUEST). */
  readonly replyFrom?: SocketAddress
  /** Comprehension-required attributes that the caller understands in a response, besides those of RFC 8489. */
  readonly understood?: ReadonlySet<number>
  /** The path to an alternate server (300); default `{ remote }`. Undefined from it: do not follow. */
  readonly redirect?: (alternate: SocketAddress) => Path | undefined
  /** Overrides the client's for this request; with `rto` here, what is known of the server's RTT is not used. */
  readonly timing?: Partial<Timing>
}

/** What became of a request. The response is a copy of its own: keep it as long as you like. */
export type StunClientEvent =
  | {
      readonly type: 'response'
      readonly transaction: StunTransaction
      readonly response: StunView
      /** Where the response came from. */
      readonly path: Path
      /** The round trip, µs; undefined when a retransmission makes it ambiguous. */
      readonly rtt: Micros | undefined
    }
  | { readonly type: 'failed'; readonly transaction: StunTransaction; readonly error: StunPeerError }

/** An open request, from `StunClient.request` to its event. Only the client changes it. */
export class StunTransaction {
  readonly request: StunRequest
  path: Path
  auth: ClientAuth | undefined

  // The current attempt.
  id: Uint8Array = new Uint8Array(12)
  key = 0
  message: Uint8Array = new Uint8Array(0)
  signature: Signature | undefined
  startedAt: Micros = 0
  sent = 0
  interval: Micros = 0
  /** When to send again, or to give up. */
  nextAt: Micros = Infinity
  /** Between two attempts, after a 5xx: nothing is open on the wire. */
  resting = false
  /** A response came and failed the integrity check: what to say in place of "timeout" (§9.1.4, §9.2.5). */
  violated = false

  // Over all attempts: each is bounded (MAX_… in client.ts).
  challenges = 0
  serverErrors = 0
  /** Servers asked, and when: 300 never leads back to one of the last five minutes (§10). */
  readonly visited = new Map<string, Micros>()

  constructor(request: StunRequest) {
    this.request = request
    this.path = request.path
    this.auth = request.auth
  }
}

/** §10: "within the last five minutes". */
export const REDIRECT_MEMORY = 300 * SECOND
