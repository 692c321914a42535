import type { SocketAddress } from '../../../core/address.ts'
import { formatAddress } from '../../../core/address.ts'
import { silentLogger, type Logger } from '../../../core/logger.ts'
import type { Path } from '../../../core/machine.ts'
import type { UdpEndpoint } from '../../../socket/index.ts'
import type { ClientAuth } from '../../../stun/index.ts'
import type { AllocationRequest, TurnEvent } from '../../client/index.ts'
import { TurnUsageError } from '../../errors.ts'
import type { OnTurnEvent, RelayLink } from './link.ts'
import { RelayAllocation } from './relay.ts'
import { UdpLink } from './udp.ts'

export interface OpenRelayOptions {
  readonly auth?: ClientAuth
  readonly request?: AllocationRequest
  readonly logger?: Logger
  readonly signal?: AbortSignal
}

/**
 * Gets an allocation over the endpoint's own port. What peers send to the relayed address is offered to the endpoint's
 * machines; paths of the allocation carry what they send.
 *
 * @throws {StunPeerError} what the server answered instead, or that it did not answer.
 * @throws {TurnUsageError} `ERR_NATWORK_TURN_ABORTED`, with the signal's reason as cause.
 */
export function openRelayOverUdp(
  endpoint: UdpEndpoint,
  server: SocketAddress,
  options: OpenRelayOptions = {},
): Promise<RelayAllocation> {
  return allocated(options, (onEvent) => {
    return new UdpLink(endpoint, server, {
      auth: options.auth,
      request: options.request ?? {},
      onEvent,
      onData: (path: Path, bytes: Uint8Array) => endpoint.deliver(path, bytes),
    })
  })
}

/** Drives a link to its first allocation; ends it when there is none. */
export function allocated(
  options: OpenRelayOptions,
  makeLink: (onEvent: OnTurnEvent) => RelayLink,
): Promise<RelayAllocation> {
  const { signal, logger = silentLogger } = options
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(abortedError(signal))
      return
    }
    let relay: RelayAllocation | undefined
    const onAbort = (): void => {
      settle()
      reject(abortedError(signal))
      link.client.close(link.now())
      link.wake()
    }
    const settle = (): void => signal?.removeEventListener('abort', onAbort)
    const onEvent = (event: TurnEvent): void => {
      if (relay !== undefined) {
        relay.handle(event)
      } else if (event.type === 'allocated') {
        settle()
        const { allocation } = event
        logger.info('a relay gave an allocation', {
          server: formatAddress(allocation.server),
          transport: link.transport,
          relayed: allocation.relayed.map(formatAddress),
        })
        relay = new RelayAllocation(link, allocation, logger)
        resolve(relay)
      } else if (event.type === 'failed') {
        settle()
        reject(event.error)
        void link.end()
      } else if (event.type === 'closed') {
        void link.end()
      }
    }
    const link = makeLink(onEvent)
    signal?.addEventListener('abort', onAbort, { once: true })
    link.client.allocate(link.now())
    link.wake()
  })
}

export function abortedError(signal: AbortSignal | undefined): TurnUsageError {
  return new TurnUsageError('ERR_NATWORK_TURN_ABORTED', 'the request for a relay was given up', {
    cause: signal?.reason,
  })
}
