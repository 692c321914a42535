import type { Socket } from 'node:net'
import { formatAddress, type SocketAddress } from '../../../core/address.ts'
import { silentLogger, type Logger } from '../../../core/logger.ts'
import type { Path } from '../../../core/machine.ts'
import type { UdpEndpoint } from '../../../socket/index.ts'
import type { ClientAuth } from '../../../stun/index.ts'
import type { Allocation, AllocationRequest, TurnEvent } from '../../client/index.ts'
import { dial, type DialTarget } from './dial.ts'
import { abortedError } from './errors.ts'
import type { OnTurnEvent, RelayLink } from './link.ts'
import { RelayAllocation } from './relay.ts'
import { StreamLink } from './stream.ts'
import { TcpRelayAllocation } from './tcp.ts'
import { UdpLink } from './udp.ts'

export interface OpenRelayOptions {
  /** `new LongTermAuth(username, password)`; one object per server. */
  readonly auth?: ClientAuth
  readonly request?: AllocationRequest
  readonly logger?: Logger
  /** Gives up. Without it a server that does not answer takes 39.5 s. */
  readonly signal?: AbortSignal
}

/** What peers send to the relayed address. `bytes` is the caller's again when this returns. */
export type OnRelayedData = (path: Path, bytes: Uint8Array) => void

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
  onData: OnRelayedData = (path, bytes) => endpoint.deliver(path, bytes),
): Promise<RelayAllocation> {
  const { auth, request = {}, logger = silentLogger } = options
  return firstAllocation(
    options,
    (onEvent) => new UdpLink(endpoint, server, { auth, request, onEvent, onData }),
    (link, allocation) => new RelayAllocation(link, allocation, logger),
  )
}

/**
 * The same over a TCP or TLS connection of its own.
 *
 * @throws {TurnPeerError} `ERR_NATWORK_TURN_CONNECTION`, `ERR_NATWORK_TURN_PROXY` besides.
 */
export async function openRelayOverStream(
  target: DialTarget,
  options: OpenRelayOptions,
  onData: OnRelayedData,
): Promise<RelayAllocation> {
  const { logger = silentLogger } = options
  const socket = await dialFirst(target, options)
  return firstAllocation(
    options,
    (onEvent) => streamLink(socket, target, options, onEvent, onData),
    (link, allocation) => new RelayAllocation(link, allocation, logger),
  )
}

/** A relayed TCP port (RFC 6062). */
export async function openTcpRelay(
  target: DialTarget,
  options: OpenRelayOptions,
): Promise<TcpRelayAllocation> {
  const { logger = silentLogger } = options
  const socket = await dialFirst(target, options)
  return firstAllocation(
    options,
    (onEvent) => streamLink(socket, target, options, onEvent, () => undefined),
    (link, allocation) => new TcpRelayAllocation(link, allocation, logger),
  )
}

function dialFirst(target: DialTarget, { signal }: OpenRelayOptions): Promise<Socket> {
  return dial(target, signal ?? new AbortController().signal)
}

function streamLink(
  socket: Socket,
  target: DialTarget,
  { auth, request = {}, logger = silentLogger }: OpenRelayOptions,
  onEvent: OnTurnEvent,
  onData: OnRelayedData,
): StreamLink {
  return new StreamLink(socket, target, { auth, request, logger, onEvent, onData })
}

/** Drives a link to its first allocation; ends the link when there is none. */
function firstAllocation<L extends RelayLink, R extends { handle(event: TurnEvent): void }>(
  { signal, logger = silentLogger }: OpenRelayOptions,
  makeLink: (onEvent: OnTurnEvent) => L,
  makeRelay: (link: L, allocation: Allocation) => R,
): Promise<R> {
  return new Promise((resolve, reject) => {
    let relay: R | undefined
    const onEvent = (event: TurnEvent): void => {
      if (relay !== undefined) {
        relay.handle(event)
      } else if (event.type === 'allocated') {
        signal?.removeEventListener('abort', onAbort)
        const { allocation } = event
        logger.info('a relay gave an allocation', {
          server: formatAddress(allocation.server),
          transport: link.transport,
          relayed: allocation.relayed.map(formatAddress),
        })
        relay = makeRelay(link, allocation)
        resolve(relay)
      } else if (event.type === 'failed') {
        signal?.removeEventListener('abort', onAbort)
        reject(event.error)
        void link.end()
      } else if (event.type === 'closed') {
        void link.end()
      }
    }
    const link = makeLink(onEvent)
    const onAbort = (): void => {
      reject(abortedError(signal))
      link.client.close(link.now())
      link.wake()
    }
    if (signal?.aborted === true) {
      onAbort()
      return
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    link.client.allocate(link.now())
    link.wake()
  })
}
