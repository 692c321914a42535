import { familyOf, type SocketAddress } from '../../core/address.ts'
import type { Logger } from '../../core/logger.ts'
import { systemRng } from '../../core/ports.ts'
import { UdpEndpoint, type Attachment } from '../../socket/index.ts'
import { GatewayMapper, type GatewayEvent } from '../gateway.ts'
import type { MappingEvent } from '../mapping.ts'
import type { HttpRequest } from '../upnp/http.ts'
import { hearAnnouncements } from './announcements.ts'
import type { DefaultGateway } from './gateways.ts'
import { fetchFromGateway } from './http.ts'

/** One gateway's mapper on a UDP port of its own: the router looks at where requests come from. */
export class GatewaySession {
  readonly gateway: DefaultGateway
  readonly internal: SocketAddress
  readonly #endpoint: UdpEndpoint
  readonly #mapper: GatewayMapper
  readonly #attachment: Attachment
  readonly #stopHearing: () => void
  readonly #ended = new AbortController()
  readonly #removed: Promise<void>

  /** @throws {SystemError} the socket's own codes. */
  static async open(
    gateway: DefaultGateway,
    port: number,
    logger: Logger,
    onEvent: (event: MappingEvent) => void,
  ): Promise<GatewaySession> {
    const endpoint = await UdpEndpoint.bind({ host: gateway.own, port: 0, recvBufferSize: 65_536, logger })
    return new GatewaySession(gateway, port, endpoint, logger, onEvent)
  }

  private constructor(
    gateway: DefaultGateway,
    port: number,
    endpoint: UdpEndpoint,
    logger: Logger,
    onEvent: (event: MappingEvent) => void,
  ) {
    this.gateway = gateway
    this.internal = { address: gateway.own, port }
    this.#endpoint = endpoint
    this.#mapper = new GatewayMapper({ rng: systemRng, gateway: gateway.address, internal: this.internal })
    this.#mapper.open(endpoint.now())
    let onRemoved = (): void => undefined
    this.#removed = new Promise((resolve) => (onRemoved = resolve))
    this.#attachment = endpoint.attach(this.#mapper, (event: GatewayEvent) => {
      if (event.type === 'http') void this.#fetch(event.request)
      else if (event.type === 'removed') onRemoved()
      else onEvent(event)
    })
    this.#stopHearing = hearAnnouncements(gateway, logger, (remote, bytes) => {
      this.#mapper.handleDatagram(endpoint.now(), { remote }, bytes)
      this.#attachment.wake()
    })
  }

  get family(): 4 | 6 {
    return familyOf(this.gateway.own)
  }

  recheck(): void {
    this.#mapper.recheck(this.#endpoint.now())
    this.#attachment.wake()
  }

  /** Has the mapping removed, which takes up to 3 seconds where the router is silent, and ends. */
  async close(): Promise<void> {
    this.#stopHearing()
    this.#mapper.close(this.#endpoint.now())
    this.#attachment.wake()
    await this.#removed
    this.#ended.abort()
    await this.#endpoint.close()
  }

  async #fetch(request: HttpRequest): Promise<void> {
    const response = await fetchFromGateway(request, this.gateway.own, this.#ended.signal)
    if (this.#endpoint.closed) return
    this.#mapper.handleHttp(this.#endpoint.now(), request.id, response)
    this.#attachment.wake()
  }
}
