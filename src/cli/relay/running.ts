import type { Logger, SocketAddress } from '../../core/index.ts'
import { TurnService } from '../../turn/index.ts'
import { serviceOptions } from './config.ts'
import type { WorkerSettings } from './messages.ts'
import { snapshotOf, type RelaySnapshot } from './snapshot.ts'

/** A relay that serves, in this process or in several. */
export interface RunningRelay {
  readonly udpAddresses: readonly SocketAddress[]
  readonly streamAddresses: readonly SocketAddress[]
  snapshot(): Promise<RelaySnapshot>
  /**
   * Takes other settings, checked before by reading them; allocations stay.
   *
   * @throws {UsageError} when they cannot be taken: the old ones hold.
   */
  configure(settings: WorkerSettings): void
  /**
   * See {@link TurnService.drain}.
   *
   * @param begun called when no process takes new allocations any more.
   */
  drain(milliseconds: number, alternate: SocketAddress | undefined, begun: () => void): Promise<void>
  close(): Promise<void>
}

/** The relay in this process. */
export async function runHere(
  settings: WorkerSettings,
  admin: SocketAddress | undefined,
  logger: Logger,
): Promise<RunningRelay> {
  const { config, file, oldChannels } = settings
  const service = await TurnService.listen({
    ...serviceOptions(config, file),
    oldChannels: oldChannels || config.oldChannels,
    logger,
  })
  if (admin !== undefined) service.host.addListening(admin.address, admin.port)
  return {
    udpAddresses: service.udpAddresses,
    streamAddresses: service.streamAddresses,
    snapshot: () => Promise.resolve(snapshotOf(service)),
    configure: ({ config, file }) => {
      const { users, peers, tls, ...rest } = serviceOptions(config, file)
      service.configure({ ...rest, users, ...(peers && { peers }), ...(tls && { tls }) })
    },
    drain: (milliseconds, alternate, begun) => {
      const drained = service.drain(milliseconds, alternate)
      begun()
      return drained
    },
    close: () => service.close(),
  }
}
