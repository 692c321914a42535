import { UsageError } from '../core/errors.ts'
import { defaultExhaustive, type ExhaustiveBudget } from '../ice/types.ts'
import type { UtpLimits } from '../utp/index.ts'
import type { RelayServiceOptions } from './relay-service.ts'
import type { Service } from './services.ts'
import type { TicketStore } from './ticket-store.ts'
import type { TraversalService } from './traversal.ts'

export interface NetworkOptions {
  /** IP literal to bind: `0.0.0.0` (the default) is all of IPv4, `::` all of IPv6 and IPv4. */
  readonly host?: string
  /** UDP port, 1315 by default; 0 takes a free one. */
  readonly port?: number
  /** What is shared from the start; `network.services` changes it at any time. */
  readonly services?: Iterable<Service>
  /**
   * Where tickets are remembered, usually `directory.tickets`. By default in memory: then every ticket ends with this
   * object.
   */
  readonly tickets?: TicketStore
  /**
   * STUN servers that say this node's public address, as `stun:host:port`; none by default. Two of different addresses
   * check each other. Up to 4 are asked, every 25 s or sooner.
   */
  readonly stun?: readonly string[]
  /**
   * IP literals, at most one for IPv4 and one for IPv6, by which others reach every port of this machine although none of its interfaces
   * has them: behind a 1:1 NAT, as clouds give their machines. They come first in this node's record, and what it relays for
   * others is relayed there.
   */
  readonly publicAddresses?: readonly string[]
  /**
   * Asks the router to let others in to this node's port, by PCP, NAT-PMP or UPnP-IGD, and takes it back at the end.
   * Others can then come without a hole being punched. False by default; `natwork up` does it.
   */
  readonly portMapping?: boolean
  /**
   * Multicast DNS: tells everybody on the networks of this machine this node's id and port, and finds the nodes that do the
   * same, so that they are reached by id without a helper or the internet. `'browse'` looks, and says nothing of this
   * node. False by default: on a network of strangers an id says who is there.
   */
  readonly mdns?: boolean | 'browse'
  /**
   * Helpers, as `ID@HOST:PORT`: nodes that others can reach, and through which this one hears of those who want to connect.
   * They answer STUN too. This node hangs on up to 3 of them, and of those in the directory that say they help.
   */
  readonly helpers?: readonly string[]
  /**
   * Helps others: forwards sealed signals for whoever asks, known or not, and relays for them, within limits. For nodes that everybody can
   * reach; false by default, since it costs traffic and tells who speaks with whom.
   */
  readonly help?: boolean | HelpOptions
  /**
   * Searches every port where both NATs give a random one per destination, and nothing else gets through: what it may cost this
   * node, {@link defaultExhaustive} with `true`. Both nodes must want it, this one for all its peers. False by
   * default: it sends 6 Mbit/s for up to a minute and fills the routers' tables.
   */
  readonly exhaustive?: boolean | ExhaustiveBudget
  /** In place of the service that `stun` sets up. */
  readonly traversal?: TraversalService
  /**
   * Buffers, limits and time-outs of the uTP connections below, and their congestion control: `bbr` by default;
   * `{ connection: { congestion: 'ledbat' } }` makes a node give way to all other traffic.
   */
  readonly utp?: UtpLimits
  readonly limits?: Partial<NetworkLimits>
  readonly timeouts?: Partial<NetworkTimeouts>
}

/** How this node helps others. */
export interface HelpOptions {
  /** Relays data too (TURN on the same port), for nodes that find no direct path; true by default. */
  readonly relay?: boolean | RelayServiceOptions
  /**
   * The TCP port for nodes whose networks block UDP: control streams and the relay over TLS. By default 443 where this process may
   * have it, else the TCP port of the same number as the UDP port, else none; false: none.
   */
  readonly tls?: number | false
}

/** How far strangers and peers can load this node. Beyond a limit they hear `ERR_NATWORK_BUSY` or nothing. */
export interface NetworkLimits {
  /** Incoming pipes at a time, in total: 4,096. */
  readonly pipes: number
  /** Incoming pipes at a time, per peer: 512. */
  readonly pipesPerPeer: number
  /** Connections that have not yet said who they are and what they want: 512. */
  readonly handshakes: number
  /** The same, per IPv4 address or IPv6 /64: 256. */
  readonly handshakesPerAddress: number
  /** Control streams and pings by peers at a time: 64 in total, 8 of them per peer. */
  readonly controls: number
  readonly controlsPerPeer: number
  /** The same, per IPv4 address or IPv6 /64: 256. Ids cost nothing: one machine could take all places with many. */
  readonly controlsPerAddress: number
  /** Control streams at a time while this node helps others, instead of `controls`: 4,096. */
  readonly helped: number
}

/** Milliseconds. */
export interface NetworkTimeouts {
  /** From the first byte to a request, for incoming connections; the TLS handshake, for outgoing ones: 10,000. */
  readonly handshake: number
  /** `connect`, from the call to the service's yes: 30,000. */
  readonly connect: number
  /** Each callback of the context: 5,000. */
  readonly callback: number
  /** For a local service to accept a TCP connection: 10,000. */
  readonly service: number
  /** For a peer's control stream or ping to say something: 60,000. */
  readonly idle: number
  /**
   * Between two signs of life of a helper, 60,000 at most: 15,000, and less where the NAT between forgets sooner, which a node
   * finds out within the first half minute. A lost helper is noticed within twice that.
   */
  readonly keepAlive: number
  /**
   * For a path to be found through helpers, before a node that has some is dialled at its addresses too: 1,500. Such a node is
   * most likely behind a NAT, and a packet that comes before that was opened from inside can keep it shut for us.
   */
  readonly headStart: number
  /** For a refusal to arrive: 5,000. */
  readonly linger: number
}

export const defaultLimits: NetworkLimits = {
  pipes: 4_096,
  pipesPerPeer: 512,
  handshakes: 512,
  handshakesPerAddress: 256,
  controls: 64,
  controlsPerPeer: 8,
  controlsPerAddress: 256,
  helped: 4_096,
}

export const defaultTimeouts: NetworkTimeouts = {
  handshake: 10_000,
  connect: 30_000,
  callback: 5_000,
  service: 10_000,
  idle: 60_000,
  keepAlive: 15_000,
  headStart: 1_500,
  linger: 5_000,
}

/** @throws {UsageError} `ERR_NATWORK_EXHAUSTIVE` */
export function readExhaustive(wanted: boolean | ExhaustiveBudget | undefined): ExhaustiveBudget | undefined {
  if (wanted === undefined || typeof wanted === 'boolean')
    return wanted === true ? defaultExhaustive : undefined
  const { packets, perSecond } = wanted
  const isNumberIn = (value: number, most: number): boolean =>
    Number.isInteger(value) && value >= 1 && value <= most
  if (isNumberIn(packets, 1_000_000) && isNumberIn(perSecond, 10_000)) return { packets, perSecond }
  throw new UsageError(
    'ERR_NATWORK_EXHAUSTIVE',
    `an exhaustive search takes 1 to 1,000,000 packets, 1 to 10,000 a second, not ${packets} at ${perSecond}`,
  )
}
