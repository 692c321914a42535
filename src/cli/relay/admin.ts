import { createServer, type Server } from 'node:http'
import { Counter, Gauge, Registry } from 'prom-client'
import { formatAddress, type SocketAddress } from '../../core/index.ts'
import type { TurnService } from '../../turn/index.ts'
import { systemError } from '../errors.ts'

/** What `natwork relay status` shows. */
export interface RelayStatus {
  readonly pid: number
  readonly version: string
  /** Seconds. */
  readonly uptime: number
  readonly draining: boolean
  readonly udp: readonly string[]
  readonly streams: readonly string[]
  readonly packets: number
  readonly bytes: number
  readonly refusals: number
  /** The ones that relay most first; at most 100. */
  readonly allocations: readonly AllocationStatus[]
  readonly allocationCount: number
}

export interface AllocationStatus {
  readonly id: number
  readonly user: string
  readonly client: string
  readonly relayed: readonly string[]
  readonly permissions: number
  readonly channels: number
  readonly bytes: number
}

export interface Admin {
  readonly address: SocketAddress
  close(): Promise<void>
}

/**
 * The port for operators: `/metrics` for Prometheus, `/status` as JSON. It has no login: it belongs on a loopback
 * address.
 *
 * @throws {SystemError} `ERR_NATWORK_RELAY_ADMIN`
 */
export async function startAdmin(at: SocketAddress, service: TurnService, version: string): Promise<Admin> {
  const registry = metricsOf(service)
  const server = createServer((request, response) => {
    const answer = async (): Promise<void> => {
      if (request.method !== 'GET') response.writeHead(405).end()
      else if (request.url === '/metrics') {
        response.setHeader('Content-Type', registry.contentType).end(await registry.metrics())
      } else if (request.url === '/status') {
        response.setHeader('Content-Type', 'application/json').end(JSON.stringify(statusOf(service, version)))
      } else response.writeHead(404).end('/metrics and /status are here\n')
    }
    answer().catch(() => response.destroy())
  })
  server.maxConnections = 64
  await listen(server, at)
  const { port } = server.address() as { port: number }
  service.host.addListening(at.address, port)
  return {
    address: { address: at.address, port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function listen(server: Server, at: SocketAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        systemError('ERR_NATWORK_RELAY_ADMIN', `cannot listen on ${formatAddress(at)} (\`admin\`)`, error),
      )
    })
    server.listen(at.port, at.address, resolve)
  })
}

function statusOf(service: TurnService, version: string): RelayStatus {
  const { relay } = service.host
  const { counters } = relay
  const allocations = [...relay.allocations.values()].map((allocation) => ({
    id: allocation.id,
    user: allocation.username,
    client: formatAddress(allocation.link.remote),
    relayed: allocation.sockets.map(({ address }) => formatAddress(address)),
    permissions: allocation.permissionCount,
    channels: allocation.channelCount,
    bytes: allocation.bytesToPeers + allocation.bytesFromPeers,
  }))
  return {
    pid: process.pid,
    version,
    uptime: service.uptime,
    draining: relay.draining !== undefined,
    udp: service.udpAddresses.map(formatAddress),
    streams: service.streamAddresses.map(formatAddress),
    packets: counters.packetsToPeers + counters.packetsFromPeers,
    bytes: counters.bytesToPeers + counters.bytesFromPeers,
    refusals: [...counters.errors.values()].reduce((sum, one) => sum + one, 0),
    allocations: allocations.sort((a, b) => b.bytes - a.bytes).slice(0, 100),
    allocationCount: relay.allocations.size,
  }
}

/** Counters are read when they are asked for: the relay's own are what is true. */
function metricsOf(service: TurnService): Registry {
  const { relay } = service.host
  const { counters } = relay
  const registers = [new Registry()]
  const counter = (
    name: string,
    help: string,
    values: () => Iterable<[Record<string, string>, number]>,
  ): void => {
    const [first] = values()
    new Counter({
      name,
      help,
      registers,
      labelNames: Object.keys(first?.[0] ?? {}),
      collect() {
        this.reset()
        for (const [labels, value] of values()) this.inc(labels, value)
      },
    })
  }
  new Gauge({
    name: 'natwork_relay_allocations',
    help: 'Allocations that exist',
    registers,
    collect() {
      this.set(relay.allocations.size)
    },
  })
  new Gauge({
    name: 'natwork_relay_draining',
    help: '1 while no new allocations are taken',
    registers,
    collect() {
      this.set(relay.draining === undefined ? 0 : 1)
    },
  })
  const both = (toPeers: number, fromPeers: number): [Record<string, string>, number][] => [
    [{ direction: 'to_peers' }, toPeers],
    [{ direction: 'from_peers' }, fromPeers],
  ]
  counter('natwork_relay_allocations_made_total', 'Allocations since the start', () => [
    [{}, counters.allocationsMade],
  ])
  counter('natwork_relay_requests_total', 'Requests', () => [[{}, counters.requests]])
  counter('natwork_relay_packets_total', 'Datagrams relayed', () =>
    both(counters.packetsToPeers, counters.packetsFromPeers),
  )
  counter('natwork_relay_bytes_total', 'Bytes of payload relayed', () =>
    both(counters.bytesToPeers, counters.bytesFromPeers),
  )
  counter('natwork_relay_dropped_total', 'What was not relayed, and why', () => [
    [{ reason: 'from_client_without_permission' }, counters.droppedFromClients],
    [{ reason: 'from_peer_without_permission' }, counters.droppedFromPeers],
    [{ reason: 'bandwidth' }, counters.droppedByBandwidth],
  ])
  counter('natwork_relay_denied_peers_total', 'Peers that the policy refused', () => [
    [{}, counters.deniedPeers],
  ])
  counter('natwork_relay_rate_limited_total', 'Requests dropped by the rate limit', () => [
    [{}, counters.limited],
  ])
  const errors = (): [Record<string, string>, number][] => [
    [{ code: '401' }, counters.errors.get(401) ?? 0],
    ...[...counters.errors]
      .filter(([code]) => code !== 401)
      .map(([code, value]): [Record<string, string>, number] => [{ code: String(code) }, value]),
  ]
  counter('natwork_relay_errors_total', 'Error responses by code', errors)
  const [registry] = registers
  return registry ?? new Registry()
}
