import { EventEmitter } from 'node:events'
import type { SocketAddress } from '../../../core/address.ts'
import { formatAddress } from '../../../core/address.ts'
import type { Logger } from '../../../core/logger.ts'
import type { Path } from '../../../core/machine.ts'
import type { ClientAuth, StunPeerError } from '../../../stun/index.ts'
import type { Allocation, TurnEvent } from '../../client/index.ts'
import type { IcmpError } from '../../protocol/index.ts'
import { forbidThrough, giveBack, permitThrough, requireAddress, type RelayLink } from './link.ts'

export interface RelayEvents {
  /** The allocation is gone, and the paths through it; another one is asked for until there is one, or `close`. */
  lost: [error: StunPeerError | undefined]
  /** There is an allocation again, at other relayed addresses: tell the peers, and take new paths. */
  renewed: [allocation: Allocation]
  /** The relay lets nothing through to or from this IP address (403: its policy; 443: the other family). */
  refused: [address: string, error: StunPeerError]
  /**
   * The relay heard of an ICMP error about a datagram to this peer (port 0: to its address). A hint, not a proof: anybody
   * can forge ICMP. Not every relay tells of them.
   */
  icmp: [peer: SocketAddress, error: IcmpError]
  /** A datagram from a peer; only where the relay was opened without an endpoint. `data` is yours. */
  message: [data: Uint8Array, from: SocketAddress]
  /** After {@link RelayAllocation.close}. */
  close: []
}

/**
 * A relayed transport address on a TURN server, and the paths to peers through it. It is kept alive until
 * {@link close}; when the server loses it, there will be another one (`lost`, then `renewed`).
 */
export class RelayAllocation extends EventEmitter<RelayEvents> {
  /** How we reach the server. */
  readonly transport: 'udp' | 'tcp' | 'tls'
  readonly #link: RelayLink
  readonly #logger: Logger
  #allocation: Allocation
  #isLost = false
  #closing: Promise<void> | undefined
  #onClosed: () => void = () => undefined

  /** @internal made by `connectRelay` */
  constructor(link: RelayLink, allocation: Allocation, logger: Logger) {
    super()
    this.transport = link.transport
    this.#link = link
    this.#allocation = allocation
    this.#logger = logger
  }

  /** Where peers reach us, of the first family there is; the last known one while `lost`. */
  get relayed(): SocketAddress {
    const [first] = this.#allocation.relayed
    if (first === undefined) throw new TypeError('an allocation without a relayed address')
    return first
  }

  /** What the server gave; the last one while `lost`. */
  get allocation(): Allocation {
    return this.#allocation
  }

  /** False between `lost` and `renewed`, and after `close`. */
  get isLive(): boolean {
    return !this.#isLost && this.#closing === undefined
  }

  /** Datagrams of the present allocation. */
  get counters(): { readonly sent: number; readonly received: number; readonly dropped: number } {
    return { ...this.#link.client.counters }
  }

  /**
   * The way to a peer through the relay, for whatever takes a {@link Path}. Permissions and channels come by themselves
   * with what is sent. It ends with the allocation: after `lost`, take another one.
   *
   * @throws {TurnUsageError} `ERR_NATWORK_TURN_PEER`: not an IP address and port.
   */
  path(peer: SocketAddress): Path {
    requireAddress(peer.address)
    return this.#link.client.path(peer)
  }

  /**
   * Lets datagrams from these IP addresses through before we send there, until {@link forbid} or {@link close}. What the
   * relay says no to is told by `refused`.
   *
   * @throws {TurnUsageError} `ERR_NATWORK_TURN_PEER`; `ERR_NATWORK_TURN_BUSY` beyond 256 addresses.
   */
  permit(addresses: readonly string[]): void {
    permitThrough(this.#link, addresses)
  }

  /** Takes {@link permit} back: closed within five minutes, unless we go on sending there. */
  forbid(addresses: readonly string[]): void {
    forbidThrough(this.#link, addresses)
  }

  /**
   * Sends one datagram to a peer. As with UDP nothing tells whether it arrives.
   *
   * @throws {TurnUsageError} `ERR_NATWORK_TURN_PEER`
   */
  send(data: Uint8Array, to: SocketAddress): void {
    const path = this.path(to)
    path.via?.send(this.#link.now(), { path, data })
    this.#link.wake()
  }

  /** Later requests carry these, of the same user: for time-limited credentials that are about to end. */
  setCredentials(auth: ClientAuth): void {
    this.#link.client.setCredentials(auth)
  }

  /** This machine's own address may have changed (it woke up, or changed networks): does the allocation still stand? */
  recheck(): void {
    this.#link.client.recheck(this.#link.now())
    this.#link.wake()
  }

  /** Gives the allocation back. Resolves when the server knows, or after 3.5 s. Idempotent; never throws. */
  close(): Promise<void> {
    this.#closing ??= giveBack(this.#link, (resolve) => (this.#onClosed = resolve)).then(() => {
      this.emit('close')
    })
    return this.#closing
  }

  /** @internal */
  handle(event: TurnEvent): void {
    const server = formatAddress(this.#allocation.server)
    switch (event.type) {
      case 'lost':
        this.#isLost = true
        this.#logger.warn('the relay lost our allocation', { server, error: event.error?.message })
        this.emit('lost', event.error)
        break
      case 'renewed':
        this.#isLost = false
        this.#allocation = event.allocation
        this.#logger.info('the relay gave a new allocation', {
          server: formatAddress(event.allocation.server),
          relayed: event.allocation.relayed.map(formatAddress),
        })
        this.emit('renewed', event.allocation)
        break
      case 'refused':
        this.#logger.debug('the relay refuses a peer', {
          server,
          peer: event.address,
          error: event.error.message,
        })
        this.emit('refused', event.address, event.error)
        break
      case 'icmp':
        this.emit('icmp', event.peer, event.icmp)
        break
      case 'silent':
        this.#logger.info('the relay is silent', { server, error: event.error.message })
        break
      case 'closed':
        this.#onClosed()
    }
  }
}
