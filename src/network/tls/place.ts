import { isIP } from 'node:net'
import { formatAddress, type SocketAddress } from '../../core/address.ts'
import { PeerError } from '../../core/errors.ts'
import { dial, type DialTarget } from '../../turn/driver/client/dial.ts'
import { proxyFor } from '../../turn/driver/client/proxy.ts'
import { asError } from '../errors.ts'
import { peerOf } from '../handshake.ts'
import { defaultTlsPort, type ConfiguredHelper, type HelperReference } from '../helper-reference.ts'
import type { NodeId } from '../node-id.ts'
import type { NodeInfo } from '../node-info.ts'
import { TcpStream } from './tcp-stream.ts'

/** Where a helper takes TLS. */
export interface TlsPlace {
  /** A name, or an IP literal: what an HTTP proxy is asked for. */
  readonly host: string
  readonly port: number
}

/** Where a node may be reached. */
export interface Places {
  /** UDP. */
  readonly addresses: readonly SocketAddress[]
  /** TCP. */
  readonly tls: readonly TlsPlace[]
  /** Whatever else is known of the node. */
  readonly only?: 'udp'
}

/** What a record, a ticket or a signal says of a helper. */
export function placesOfReference({ address, tls = defaultTlsPort }: HelperReference): Places {
  return { addresses: [address], tls: [{ host: address.address, port: tls }] }
}

/** What a node's own record says. */
export function tlsPlacesOf(info: NodeInfo | undefined): TlsPlace[] {
  const { addresses = [], tls } = info ?? {}
  if (tls === undefined) return []
  const hosts = new Set(addresses.map(({ address }) => address))
  return [...hosts].map((host) => ({ host, port: tls }))
}

/** Without a word of its port, the two that a helper takes by itself. */
export function tlsPlacesOfConfigured({ host, port, tls }: ConfiguredHelper): TlsPlace[] {
  return [...new Set(tls === undefined ? [defaultTlsPort, port] : [tls])].map((one) => ({ host, port: one }))
}

export function distinctTlsPlaces(places: readonly TlsPlace[]): TlsPlace[] {
  return places.filter(
    ({ host, port }, i) => places.findIndex((other) => other.host === host && other.port === port) === i,
  )
}

export function formatTlsPlace({ host, port }: TlsPlace): string {
  return isIP(host) === 6 ? formatAddress({ address: host, port }) : `${host}:${port}`
}

/**
 * A TCP connection to there, through the HTTP proxy that the environment names, if any.
 *
 * @throws {PeerError} `ERR_NATWORK_NODE_UNREACHABLE`; the signal's reason.
 */
export async function dialTcp(place: TlsPlace, signal: AbortSignal): Promise<TcpStream> {
  try {
    return new TcpStream(await dial({ ...targetOf(place), tls: undefined }, signal), place)
  } catch (error) {
    signal.throwIfAborted()
    const why = asError(error).message
    throw new PeerError('ERR_NATWORK_NODE_UNREACHABLE', why, { cause: error })
  }
}

/** How a relay at a helper is reached: the key in its certificate is what counts, not who signed it. */
export function relayTarget(place: TlsPlace, helper: NodeId): DialTarget {
  return {
    ...targetOf(place),
    tls: {
      ca: undefined,
      check: (socket) => {
        const found = peerOf(socket)
        if (found === helper) return
        throw new PeerError('ERR_NATWORK_IDENTITY', `expected ${helper}, found ${found}`)
      },
    },
  }
}

function targetOf({ host, port }: TlsPlace): Omit<DialTarget, 'tls'> {
  const proxy = proxyFor(process.env, host, port)
  const isLiteral = isIP(host) !== 0
  const address = proxy === undefined && isLiteral ? { address: host, port } : undefined
  return { host, port, address, proxy }
}
