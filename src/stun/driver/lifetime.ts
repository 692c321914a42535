import { familyOf, type SocketAddress } from '../../core/address.ts'
import { systemRng } from '../../core/ports.ts'
import { UdpEndpoint } from '../../socket/index.ts'
import { lifetimeLadder, probeLifetime, type Lifetime } from '../behaviour/lifetime.ts'
import type { Finding } from '../behaviour/report.ts'
import { abortedError } from './exchanges.ts'

export interface DiscoverLifetimeOptions {
  /** The longest silence to try, and how long this takes, in seconds: 5–3,600, default 120. */
  readonly longest?: number
  readonly signal?: AbortSignal
}

/**
 * Finds out how long the NAT here keeps the mapping of a silent UDP socket, by a server with RFC 5780: between two
 * times, one at most a quarter longer than the other.
 *
 * @throws {StunUsageError} `ERR_NATWORK_STUN_ABORTED`
 * @throws {SystemError} the socket's own codes.
 */
export async function discoverLifetime(
  server: SocketAddress,
  { longest = 120, signal }: DiscoverLifetimeOptions = {},
): Promise<Finding<Lifetime>> {
  const host = familyOf(server.address) === 6 ? '::' : '0.0.0.0'
  const times = lifetimeLadder(longest)
  const endpoints: UdpEndpoint[] = []
  try {
    while (endpoints.length <= times.length) {
      endpoints.push(await UdpEndpoint.bind({ host, port: 0, recvBufferSize: 65_536 }))
    }
    const [knocking, ...idle] = endpoints
    return await new Promise((resolve, reject) => {
      if (signal?.aborted === true || knocking === undefined) throw abortedError(signal)
      const giveUp = probeLifetime({ knocking, idle }, { rng: systemRng, server, times }, (lifetime) => {
        signal?.removeEventListener('abort', onAbort)
        resolve(lifetime)
      })
      const onAbort = (): void => {
        giveUp()
        reject(abortedError(signal))
      }
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  } finally {
    await Promise.all(endpoints.map((endpoint) => endpoint.close()))
  }
}
