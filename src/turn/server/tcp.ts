import { formatAddress, sameAddress, type SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import { Attribute, ErrorCode } from '../../stun/codec/registry.ts'
import { StunView } from '../../stun/codec/view.ts'
import { CONNECT_TIMEOUT, TransportProtocol } from '../protocol/constants.ts'
import type { Expiring } from './agenda.ts'
import type { Allocation } from './allocation.ts'
import type { PeerConnection } from './io.ts'
import { isReachable } from './peers.ts'
import type { Ask, Relay } from './relay.ts'

/** TCP allocations (RFC 6062 §5): connections to and from peers, each joined to one more connection of the client. */
export class TcpRelaying {
  readonly #relay: Relay
  /** Connect requests under way. Bounded by the limit `connections` of each allocation. */
  readonly #connecting = new Map<number, Connecting>()
  /** Connections that no ConnectionBind has claimed yet; counted with their allocation's. */
  readonly #pending = new Map<number, Pending>()
  #nextTicket = 1

  constructor(relay: Relay) {
    this.#relay = relay
  }

  /** §5.2. */
  handleConnect(ask: Ask): void {
    const relay = this.#relay
    const allocation = relay.allocationOf(ask)
    if (allocation === undefined) return
    const { view } = ask
    const peer = view.xorAddress(Attribute.XorPeerAddress)
    if (peer === undefined || allocation.transport !== TransportProtocol.Tcp) {
      relay.refuse(ask, ErrorCode.BadRequest)
      return
    }
    const open = [...allocation.connections.values()]
    const underWay = [...this.#connecting.values()].filter((one) => one.allocation === allocation)
    if (
      underWay.some((one) => sameAddress(one.peer, peer)) ||
      open.some(({ remote }) => sameAddress(remote, peer))
    ) {
      relay.refuse(ask, ErrorCode.ConnectionAlreadyExists)
      return
    }
    if (!isReachable(relay, ask, allocation, peer, relay.policy.refuses(peer))) return
    const socket = allocation.socketFor(peer.address)
    if (socket === undefined || open.length + underWay.length >= relay.limits.connections) {
      relay.refuse(ask, ErrorCode.InsufficientCapacity, undefined, {
        reason: 'no room for more connections',
        allocation: allocation.id,
      })
      return
    }
    // The bytes are the caller's again when this returns.
    const kept = new StunView()
    kept.open(Buffer.from(view.bytes))
    const ticket = this.#nextTicket++
    this.#connecting.set(ticket, { ask: { ...ask, view: kept }, allocation, peer })
    relay.tell({ type: 'connect', from: socket, peer, ticket })
  }

  connected(now: Micros, ticket: number, connection: PeerConnection | undefined): void {
    const relay = this.#relay
    const found = this.#connecting.get(ticket)
    this.#connecting.delete(ticket)
    if (found === undefined || found.allocation.ended) {
      connection?.destroy()
      return
    }
    const { ask, allocation, peer } = found
    if (connection === undefined) {
      relay.refuse(ask, ErrorCode.ConnectionTimeoutOrFailure, undefined, {
        allocation: allocation.id,
        peer: formatAddress(peer),
      })
      return
    }
    const id = this.#keep(now, allocation, connection)
    relay.succeed({ ...ask, now }, (response) => response.uint32(Attribute.ConnectionId, id))
  }

  /** §5.3. */
  peerConnected(now: Micros, allocation: Allocation, connection: PeerConnection): void {
    const relay = this.#relay
    const permission = allocation.permission(now, connection.remote.address)
    if (
      permission === undefined ||
      allocation.ended ||
      relay.policy.refuses(connection.remote) !== undefined ||
      allocation.connections.size >= relay.limits.connections
    ) {
      relay.counters.droppedFromPeers++
      connection.destroy()
      return
    }
    const id = this.#keep(now, allocation, connection)
    relay.toClients.connectionAttempt(allocation.link, connection.remote, id)
  }

  /** §5.4. */
  handleConnectionBind(ask: Ask): void {
    const relay = this.#relay
    const { link, view, user } = ask
    const id = view.uint32(Attribute.ConnectionId)
    const pending = id === undefined ? undefined : this.#pending.get(id)
    if (
      link.joinTo === undefined ||
      link.allocation !== undefined ||
      id === undefined ||
      pending === undefined
    ) {
      relay.refuse(ask, ErrorCode.BadRequest)
      return
    }
    if (pending.allocation.account !== user.account) {
      relay.refuse(ask, ErrorCode.WrongCredentials, undefined, { allocation: pending.allocation.id })
      return
    }
    this.#pending.delete(id)
    relay.agenda.leave(pending)
    relay.succeed(ask, (response) => response.uint32(Attribute.ConnectionId, id))
    link.joinTo(pending.connection, pending.allocation)
  }

  /** Where the client is that a ConnectionBind's connection was made for. */
  controlOf(view: StunView): SocketAddress | undefined {
    const id = view.uint32(Attribute.ConnectionId)
    return id === undefined ? undefined : this.#pending.get(id)?.allocation.link.remote
  }

  /** "If the allocation … expires, the data connection MUST be closed" (§5.5). */
  closeAll(allocation: Allocation): void {
    for (const connection of [...allocation.connections.values()]) connection.destroy()
    for (const [id, pending] of this.#pending) {
      if (pending.allocation !== allocation) continue
      this.#pending.delete(id)
      this.#relay.agenda.leave(pending)
    }
  }

  #keep(now: Micros, allocation: Allocation, connection: PeerConnection): number {
    let id: number
    do id = this.#relay.rng.uint32()
    while (this.#pending.has(id) || allocation.connections.has(id))
    allocation.connections.set(id, connection)
    const pending: Pending = {
      allocation,
      connection,
      expiresAt: now + CONNECT_TIMEOUT,
      slot: -1,
      expire: () => {
        this.#pending.delete(id)
        connection.destroy()
      },
    }
    this.#pending.set(id, pending)
    this.#relay.agenda.enter(pending)
    connection.onClose(() => {
      allocation.connections.delete(id)
      if (this.#pending.delete(id)) this.#relay.agenda.leave(pending)
    })
    return id
  }
}

interface Connecting {
  readonly ask: Ask
  readonly allocation: Allocation
  readonly peer: SocketAddress
}

interface Pending extends Expiring {
  readonly allocation: Allocation
  readonly connection: PeerConnection
}
