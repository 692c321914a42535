import type { Duplex } from 'node:stream'
import type { SocketAddress } from '../core/address.ts'
import type { Logger } from '../core/logger.ts'
import type { UdpEndpoint } from '../socket/index.ts'
import type { NetworkOptions } from './options.ts'

/** What the network needs from the uTP server. */
export interface Transport {
  start(): Promise<void>
  stop(): Promise<void>
  connect(address: SocketAddress, options: { signal: AbortSignal }): Promise<Duplex>
  readonly address: SocketAddress
  readonly endpoint: UdpEndpoint
}

export let createTransport: (
  options: NetworkOptions,
  logger: Logger,
  onConnection: (raw: Duplex, remote: SocketAddress) => void,
) => Transport

export function setTransport(x: typeof createTransport): void {
  createTransport = x
}
