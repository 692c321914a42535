import { formatAddress, type SocketAddress } from '../../core/address.ts'
import { SECOND, type Micros } from '../../core/machine.ts'
import { Attribute, ErrorCode, Method, StunPeerError } from '../../stun/index.ts'
import { CONNECT_TIMEOUT } from '../protocol/index.ts'
import { TurnUsageError } from '../errors.ts'
import type { Requests } from './requests.ts'

export interface ConnectsHandler {
  connected(peer: SocketAddress, id: number): void
  failed(peer: SocketAddress, error: StunPeerError): void
  mismatched(now: Micros, error: StunPeerError): void
}

/** RFC 6062's Connect requests: several at once, but one per peer (§4.3). */
export class Connects {
  readonly #requests: Requests
  readonly #handler: ConnectsHandler
  // Bounded by MAX_IN_FLIGHT.
  readonly #open = new Map<string, SocketAddress>()
  /** Peers that could not be reached, and until when they are left alone. Bounded by MAX_RESTING. */
  readonly #resting = new Map<string, { until: Micros; error: StunPeerError }>()

  constructor(requests: Requests, handler: ConnectsHandler) {
    this.#requests = requests
    this.#handler = handler
  }

  /** @throws {TurnUsageError} `ERR_NATWORK_TURN_BUSY` */
  connect(now: Micros, peer: SocketAddress): void {
    const key = formatAddress(peer)
    if (this.#open.has(key) || this.#open.size >= MAX_IN_FLIGHT) {
      throw new TurnUsageError(
        'ERR_NATWORK_TURN_BUSY',
        `the relay is connecting to ${key} or to ${MAX_IN_FLIGHT} peers already: wait for the answer`,
      )
    }
    const resting = this.#resting.get(key)
    if (resting !== undefined && now < resting.until) {
      this.#handler.failed(peer, resting.error)
      return
    }
    this.#resting.delete(key)
    this.#open.set(key, peer)
    this.#requests.ask(now, {
      method: Method.Connect,
      attributes: (builder) => builder.xorAddress(Attribute.XorPeerAddress, peer),
      timing: { ti: CONNECT_TIMEOUT + 10 * SECOND },
      done: (at, answer) => {
        this.#open.delete(key)
        const id = answer.ok ? answer.response.uint32(Attribute.ConnectionId) : undefined
        if (id !== undefined) {
          this.#handler.connected(peer, id)
          return
        }
        const error = answer.ok ? noIdError() : answer.error
        if (!answer.ok && answer.status === ErrorCode.AllocationMismatch) this.#handler.mismatched(at, error)
        if (!answer.ok && answer.status === ErrorCode.ConnectionTimeoutOrFailure) this.#rest(at, key, error)
        this.#handler.failed(peer, error)
      },
    })
  }

  /** The allocation is gone: nobody answers any more. */
  clear(error: StunPeerError): void {
    for (const peer of this.#open.values()) this.#handler.failed(peer, error)
    this.#open.clear()
  }

  /** "MUST wait at least 10 seconds" (§4.3). */
  #rest(now: Micros, key: string, error: StunPeerError): void {
    for (const [other, { until }] of this.#resting) {
      if (until <= now || this.#resting.size >= MAX_RESTING) this.#resting.delete(other)
    }
    this.#resting.set(key, { until: now + 10 * SECOND, error })
  }
}

const MAX_IN_FLIGHT = 12
const MAX_RESTING = 64

function noIdError(): StunPeerError {
  return new StunPeerError(
    'ERR_NATWORK_STUN_INVALID_RESPONSE',
    'the TURN server’s answer is unusable: it has no CONNECTION-ID',
  )
}
