import { createServer, type Server } from 'node:http'
import { formatAddress, type SocketAddress } from '../../core/index.ts'
import { systemError } from '../errors.ts'
import { RelayMetrics } from './metrics.ts'
import type { RelaySnapshot } from './snapshot.ts'

/** What `natwork relay status` shows. */
export interface RelayStatus extends Omit<RelaySnapshot, 'counters' | 'errors'> {
  readonly pid: number
  readonly version: string
  readonly packets: number
  readonly bytes: number
  readonly refusals: number
}

export interface Admin {
  readonly address: SocketAddress
  close(): Promise<void>
}

/**
 * The port for operators: `/metrics` for Prometheus, `/status` as JSON. It has no login: it belongs on a loopback
 * address.
 *
 * @param look at the relay: asked for each request.
 * @throws {SystemError} `ERR_NATWORK_RELAY_ADMIN`
 */
export async function startAdmin(
  at: SocketAddress,
  look: () => Promise<RelaySnapshot>,
  version: string,
): Promise<Admin> {
  const metrics = new RelayMetrics()
  const server = createServer((request, response) => {
    const answer = async (): Promise<void> => {
      if (request.method !== 'GET') response.writeHead(405).end()
      else if (request.url === '/metrics') {
        response.setHeader('Content-Type', metrics.contentType).end(await metrics.text(await look()))
      } else if (request.url === '/status') {
        const status = JSON.stringify(statusOf(await look(), version))
        response.setHeader('Content-Type', 'application/json').end(status)
      } else response.writeHead(404).end('/metrics and /status are here\n')
    }
    answer().catch(() => response.destroy())
  })
  server.maxConnections = 64
  await listen(server, at)
  const { port } = server.address() as { port: number }
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

function statusOf(snapshot: RelaySnapshot, version: string): RelayStatus {
  const { counters, errors, ...rest } = snapshot
  return {
    pid: process.pid,
    version,
    ...rest,
    packets: counters.packetsToPeers + counters.packetsFromPeers,
    bytes: counters.bytesToPeers + counters.bytesFromPeers,
    refusals: errors.reduce((sum, [, count]) => sum + count, 0),
  }
}
