import { familyOf } from '../core/address.ts'
import {
  SECOND,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../core/machine.ts'
import { PortControlClient, type PortControlOptions } from './control/client.ts'
import { SERVER_PORT } from './control/nat-pmp.ts'
import type { MappingEvent } from './mapping.ts'
import type { HttpResponse } from './upnp/http.ts'
import { UpnpClient, type UpnpEvent } from './upnp/client.ts'

/**
 * Keeps one UDP port mapped on one gateway, by the best protocol that it speaks: PCP, NAT-PMP, UPnP-IGD. The gateway is
 * searched by UPnP while the others are asked, and mapped by it when they cannot. With IPv6 it is PCP alone.
 *
 * When there is none, or it is lost, this tries again by itself.
 */
export class GatewayMapper implements Machine<GatewayEvent> {
  readonly #control: PortControlClient
  readonly #upnp: UpnpClient | undefined
  readonly #gateway: string
  #isOpen = false
  #openedAt: Micros = 0
  #retryAt: Micros = Infinity
  /** How the faster protocols failed. */
  #failure: Unavailable | undefined
  /** Told last, so that it is told once. */
  #told: string | undefined
  /** Answers to `close` that are still to come. */
  #closing = 0
  // Drained after every mutation.
  readonly #events: GatewayEvent[] = []

  constructor(options: PortControlOptions) {
    this.#gateway = options.gateway
    this.#control = new PortControlClient(options)
    this.#upnp = familyOf(options.gateway) === 4 ? new UpnpClient(options) : undefined
  }

  open(now: Micros): void {
    this.#isOpen = true
    this.#openedAt = now
    this.#retryAt = Infinity
    this.#upnp?.search(now)
    this.#control.open(now)
    this.#collect(now)
  }

  /** Has the mapping removed; `removed` follows, within 3 seconds. */
  close(now: Micros): void {
    this.#isOpen = false
    this.#retryAt = Infinity
    this.#closing = this.#upnp ? 2 : 1
    this.#control.close(now)
    this.#upnp?.close(now)
    this.#collect(now)
  }

  /** The network has changed in some way: looks after the mapping, or tries again, at once. */
  recheck(now: Micros): void {
    this.#control.recheck(now)
    this.#upnp?.recheck(now)
    if (this.#retryAt !== Infinity) this.#retryAt = now
  }

  handleHttp(now: Micros, id: number, response: HttpResponse): void {
    this.#upnp?.handleHttp(now, id, response)
    this.#collect(now)
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    if (path.remote.address !== this.#gateway) return false
    const machine = path.remote.port === SERVER_PORT ? this.#control : this.#upnp
    const isOurs = machine?.handleDatagram(now, path, bytes) ?? false
    if (isOurs) this.#collect(now)
    return isOurs
  }

  handleTimeout(now: Micros): void {
    if (now >= this.#retryAt) {
      this.open(now)
    } else {
      this.#control.handleTimeout(now)
      this.#upnp?.handleTimeout(now)
      this.#collect(now)
    }
  }

  pollTransmit(): Transmit | undefined {
    return this.#control.pollTransmit() ?? this.#upnp?.pollTransmit()
  }

  pollEvent(): GatewayEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    const retry = this.#retryAt === Infinity ? undefined : { at: this.#retryAt, reason: 'port mapping retry' }
    return [this.#control.pollTimeout(), this.#upnp?.pollTimeout(), retry].reduce((earliest, each) =>
      earliest && (!each || earliest.at <= each.at) ? earliest : each,
    )
  }

  #collect(now: Micros): void {
    for (let event = this.#control.pollEvent(); event; event = this.#control.pollEvent()) {
      if (event.type === 'unavailable' && this.#isOpen && this.#upnp) {
        this.#failure = event
        this.#upnp.open(now)
      } else {
        this.#on(now, event)
      }
    }
    for (let event = this.#upnp?.pollEvent(); event; event = this.#upnp?.pollEvent()) {
      if (event.type === 'http') this.#events.push(event)
      else if (event.type !== 'found') this.#on(now, event)
    }
  }

  #on(now: Micros, event: MappingEvent): void {
    switch (event.type) {
      case 'mapped':
        this.#told = undefined
        this.#events.push(event)
        return
      case 'lost':
        this.#events.push(event)
        // At once, but a gateway that grants and forgets must not keep us busy.
        this.#retryAt = Math.max(now, this.#openedAt + RETRY_SPACING)
        return
      case 'unavailable':
        this.#unavailable(now, event)
        return
      case 'removed':
        this.#closing -= 1
        if (this.#closing === 0) this.#events.push(event)
    }
  }

  #unavailable(now: Micros, last: Unavailable): void {
    const first = this.#failure ?? last
    this.#failure = undefined
    const retryAfter = Math.min(first.retryAfter, last.retryAfter)
    this.#retryAt = now + retryAfter
    const refused = [first, last].find(({ reason }) => reason === 'refused')
    const told: Unavailable = refused ?? { ...last, message: this.#upnp ? SPEAKS_NONE : SPEAKS_NO_PCP }
    if (told.message !== this.#told) this.#events.push({ ...told, retryAfter })
    this.#told = told.message
  }
}

export type GatewayEvent = Exclude<UpnpEvent, { type: 'found' }>

type Unavailable = MappingEvent & { readonly type: 'unavailable' }

const RETRY_SPACING: Micros = 5 * SECOND
const SPEAKS_NONE =
  'the router speaks none of PCP, NAT-PMP and UPnP-IGD: switch one of them on in the router, or forward the port there'
const SPEAKS_NO_PCP =
  'the router does not speak PCP over IPv6: where its firewall is closed, open the port there'
