import type { Machine, Micros, Path, Transmit } from '../../core/machine.ts'
import { MessageClass, Method } from '../codec/registry.ts'
import { StunView } from '../codec/view.ts'
import { isBindingRequest, type StunResponder } from './responder.ts'

export interface StunServerPlace {
  /** The number of this socket, with RFC 5780's four; default 0. */
  readonly origin?: number
  /** Takes what must leave by another socket: hand it to that one's {@link StunServer.send}. */
  readonly forward?: (origin: number, transmit: Transmit) => void
  /** Answer RFC 3489's messages without magic cookie too: only on a port that speaks nothing but STUN. */
  readonly classic?: boolean
}

/**
 * A Binding server on one UDP port, which may be shared. Attach it behind an ICE agent: connectivity checks are Binding
 * requests too, and belong to the agent when they are its own. Indications (keep-alives) are taken and need no answer.
 */
export class StunServer implements Machine {
  readonly #responder: StunResponder
  readonly #origin: number
  readonly #forward: ((origin: number, transmit: Transmit) => void) | undefined
  readonly #classic: boolean
  readonly #view = new StunView()
  // One answer per datagram, taken before the next one comes, or dropped beyond MAX_WAITING.
  readonly #transmits: Transmit[] = []

  constructor(responder: StunResponder, place: StunServerPlace = {}) {
    this.#responder = responder
    this.#origin = place.origin ?? 0
    this.#forward = place.forward
    this.#classic = place.classic ?? false
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const view = this.#view
    if (!view.open(bytes, this.#classic)) return false
    if (!isBindingRequest(view)) {
      return view.method === Method.Binding && view.messageClass === MessageClass.Indication
    }
    const reply = this.#responder.respond(now, view, {
      source: path.remote,
      origin: this.#origin,
      reliable: false,
    })
    if (reply === undefined) return true
    const transmit = {
      path: reply.to === path.remote ? path : { remote: reply.to },
      data: reply.data,
    }
    if (reply.from === this.#origin) this.send(transmit)
    else this.#forward?.(reply.from, transmit)
    return true
  }

  /** Takes a datagram to send from this port. */
  send(transmit: Transmit): void {
    if (this.#transmits.length < MAX_WAITING) this.#transmits.push(transmit)
  }

  handleTimeout(): void {
    // It waits for nothing.
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift()
  }

  pollEvent(): undefined {
    return undefined
  }

  pollTimeout(): undefined {
    return undefined
  }
}

const MAX_WAITING = 4096
