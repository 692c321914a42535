import type { SocketAddress } from '../../../core/address.ts'
import type { Micros, Path } from '../../../core/machine.ts'
import { systemRng } from '../../../core/ports.ts'
import type { Attachment, UdpEndpoint } from '../../../socket/index.ts'
import type { ClientAuth } from '../../../stun/index.ts'
import { TurnClient, type AllocationRequest } from '../../client/index.ts'
import type { OnTurnEvent, RelayLink } from './link.ts'

/** An allocation over a UDP port that other protocols share. */
export class UdpLink implements RelayLink {
  readonly transport = 'udp'
  readonly client: TurnClient
  readonly #endpoint: UdpEndpoint
  readonly #attachment: Attachment

  constructor(
    endpoint: UdpEndpoint,
    server: SocketAddress,
    options: {
      readonly auth: ClientAuth | undefined
      readonly request: AllocationRequest
      readonly onEvent: OnTurnEvent
      readonly onData: (path: Path, bytes: Uint8Array) => void
    },
  ) {
    const { auth, request, onEvent, onData } = options
    const client: TurnClient = new TurnClient({
      rng: systemRng,
      server: endpoint.path(server),
      request,
      ...(auth && { auth }),
      output: (_now, data) => endpoint.send({ path: client.server, data }),
      input: onData,
    })
    this.client = client
    this.#endpoint = endpoint
    this.#attachment = endpoint.attach(client, onEvent)
  }

  get isOver(): boolean {
    return this.#endpoint.closed
  }

  now(): Micros {
    return this.#endpoint.now()
  }

  wake(): void {
    this.#attachment.wake()
  }

  end(): Promise<void> {
    this.#attachment.detach()
    return Promise.resolve()
  }
}
