import { familyOf } from '../../core/address.ts'
import { silentLogger, type Logger } from '../../core/logger.ts'
import { systemRng } from '../../core/ports.ts'
import { UdpEndpoint } from '../../socket/index.ts'
import { PortControlProbe, silent, type PortControlReport, type ProtocolReport } from '../control/probe.ts'
import { uselessBecause, type MappingProtocol } from '../mapping.ts'
import { UpnpClient } from '../upnp/client.ts'
import { defaultGateways, type DefaultGateway } from './gateways.ts'
import { fetchFromGateway } from './http.ts'

export interface DiscoverGatewaysOptions {
  readonly signal?: AbortSignal
  readonly logger?: Logger
}

/** What one router offers. */
export interface GatewayReport {
  readonly gateway: string
  /** Our own address towards it. */
  readonly own: string
  readonly protocols: Readonly<Record<MappingProtocol, ProtocolReport>>
  /** Why a mapping there would be of no use, as far as the external address tells. */
  readonly reason: string | undefined
}

/**
 * Finds out which protocols for port mapping the routers here speak, and what external address each tells. Leaves no
 * mapping behind. Takes up to 4 seconds where a router is silent, and 10 where its UPnP service is.
 *
 * @throws the signal's reason.
 */
export async function discoverGateways(options: DiscoverGatewaysOptions = {}): Promise<GatewayReport[]> {
  const { signal, logger = silentLogger } = options
  const gateways = await defaultGateways()
  signal?.throwIfAborted()
  return Promise.all(gateways.map((gateway) => examine(gateway, logger, signal)))
}

async function examine(
  gateway: DefaultGateway,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<GatewayReport> {
  const { address, own } = gateway
  const endpoint = await UdpEndpoint.bind({ host: own, port: 0, recvBufferSize: 65_536, logger })
  const ended = new AbortController()
  const onAbort = (): void => ended.abort(signal?.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const [control, upnp] = await Promise.all([
      probeControl(endpoint, gateway, ended.signal),
      familyOf(own) === 4 ? probeUpnp(endpoint, gateway, ended.signal) : silent,
    ])
    const protocols = { ...control, 'upnp-igd': upnp }
    const external = Object.values(protocols).find((report) => report.external !== undefined)?.external
    const reason = external === undefined ? undefined : uselessBecause(external, undefined)
    return { gateway: address, own, protocols, reason }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    ended.abort()
    await endpoint.close()
  }
}

function probeControl(
  endpoint: UdpEndpoint,
  { address, own }: DefaultGateway,
  signal: AbortSignal,
): Promise<PortControlReport> {
  return new Promise((resolve, reject) => {
    const internal = { address: own, port: endpoint.address.port }
    const probe = new PortControlProbe(endpoint.now(), { rng: systemRng, gateway: address, internal })
    endpoint.attach(probe, resolve)
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}

function probeUpnp(
  endpoint: UdpEndpoint,
  { address, own }: DefaultGateway,
  signal: AbortSignal,
): Promise<ProtocolReport> {
  return new Promise((resolve, reject) => {
    const internal = { address: own, port: endpoint.address.port }
    const client = new UpnpClient({ rng: systemRng, gateway: address, internal })
    client.search(endpoint.now())
    const attachment = endpoint.attach(client, (event) => {
      if (event.type === 'http') {
        const { request } = event
        void fetchFromGateway(request, own, signal).then((response) => {
          if (endpoint.closed) return
          client.handleHttp(endpoint.now(), request.id, response)
          attachment.wake()
        })
      } else if (event.type === 'found') {
        const { gateway } = event
        resolve(gateway ? { available: true, external: gateway.address, message: undefined } : silent)
      }
    })
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}
