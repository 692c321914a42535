import type { SocketAddress } from '../../core/address.ts'
import { systemRng } from '../../core/ports.ts'
import type { Attachment, UdpEndpoint } from '../../socket/index.ts'
import { StunClient, type StunClientOptions } from '../client/client.ts'
import { abortedError, Exchanges, type StunAnswer, type StunAsk } from './exchanges.ts'

/**
 * STUN requests from a UDP port that may carry other protocols too: what the servers see is that port's own mapping.
 *
 *     const agent = new StunAgent(endpoint)
 *     const { response } = await agent.request({ address: '192.0.2.1', port: 3478 })
 *     response.mappedAddress()
 */
export class StunAgent {
  readonly #endpoint: UdpEndpoint
  readonly #exchanges: Exchanges
  readonly #attachment: Attachment

  constructor(endpoint: UdpEndpoint, options: Omit<StunClientOptions, 'rng'> = {}) {
    const client = new StunClient({ ...options, rng: systemRng })
    this.#endpoint = endpoint
    this.#exchanges = new Exchanges(client, () => {
      this.#attachment.wake()
    })
    this.#attachment = endpoint.attach(client, (event) => {
      this.#exchanges.settle(event)
    })
  }

  /**
   * Asks, by default for a Binding, and waits for the success response.
   *
   * @throws {StunPeerError} what the server answered instead, or that it did not answer.
   * @throws {StunUsageError} `ERR_NATWORK_STUN_ABORTED`, `ERR_NATWORK_STUN_BUSY`, `ERR_NATWORK_STUN_ENCODE`.
   */
  request(server: SocketAddress, ask: StunAsk = {}): Promise<StunAnswer> {
    return this.#exchanges.start(this.#endpoint.now(), { path: this.#endpoint.path(server) }, ask)
  }

  /** Leaves the port. Open requests reject with `ERR_NATWORK_STUN_ABORTED`. */
  close(): void {
    this.#attachment.detach()
    this.#exchanges.close(abortedError(undefined))
  }
}
