import type { SocketAddress } from '../../core/address.ts'
import {
  samePath,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../../core/machine.ts'
import {
  Attribute,
  MessageClass,
  Method,
  StunPeerError,
  StunView,
  type ClientAuth,
} from '../../stun/index.ts'
import { readIcmp } from '../protocol/icmp.ts'
import { mayBeChannelData } from '../protocol/index.ts'
import { RelayCarrier, type CarrierCounters } from './carrier.ts'
import { Connects } from './connects.ts'
import { Lifecycle } from './lifecycle.ts'
import type { Allocation, TurnClientOptions, TurnEvent } from './options.ts'
import { Requests } from './requests.ts'

/**
 * The client side of TURN (RFC 8656): one allocation with one server, over one way to it. It keeps the allocation, its
 * permissions and its channels fresh ahead of their expiry, notices when the server has lost them, and then gets new
 * ones.
 *
 * Data goes along paths ({@link path}): permissions are asked for on demand, and peers with more than a few datagrams
 * get a channel. A datagram is this machine's only when it comes from the server and is a response to an open
 * transaction, a Data indication, or ChannelData of a channel that is ours.
 */
export class TurnClient implements Machine<TurnEvent> {
  readonly #options: TurnClientOptions
  readonly #requests: Requests
  readonly #lifecycle: Lifecycle
  readonly #connects: Connects
  readonly #view = new StunView()
  #carrier: RelayCarrier
  // What a server can cause without being asked is bounded by MAX_EVENTS; the rest by what is open.
  readonly #events: TurnEvent[] = []

  constructor(options: TurnClientOptions) {
    const { rng, server, auth, reliable = false, request = {} } = options
    this.#options = options
    this.#requests = new Requests({ rng, server, auth, reliable })
    this.#lifecycle = new Lifecycle(this.#requests, request, {
      allocated: (now, allocation, isRenewal) => {
        this.#events.push({ type: isRenewal ? 'renewed' : 'allocated', allocation })
        this.#carrier.live(now, allocation)
      },
      paused: () => this.#carrier.pause(),
      resumed: (now) => {
        const { allocation } = this.#lifecycle
        if (allocation !== undefined) this.#carrier.live(now, allocation)
      },
      failed: (error, retryAfter) => this.#events.push({ type: 'failed', error, retryAfter }),
      lost: (now, error) => {
        this.#events.push({ type: 'lost', error })
        this.#replaceCarrier(now, error)
      },
      redirected: (alternate, domain) => this.#events.push({ type: 'redirected', alternate, domain }),
      silent: (error) => this.#events.push({ type: 'silent', error }),
      closed: () => this.#events.push({ type: 'closed' }),
    })
    this.#connects = new Connects(this.#requests, {
      connected: (peer, id) => this.#events.push({ type: 'connected', peer, id }),
      failed: (peer, error) => this.#events.push({ type: 'unconnected', peer, error }),
      mismatched: (now, error) => this.#lifecycle.mismatched(now, error),
    })
    this.#carrier = this.#makeCarrier()
  }

  /** Undefined while there is none. */
  get allocation(): Allocation | undefined {
    return this.#lifecycle.allocation
  }

  /** Of the present allocation, or of the next one while there is none. */
  get counters(): Readonly<CarrierCounters> {
    return this.#carrier.counters
  }

  /** The way to the server: after a 300 that was followed, to its alternate. */
  get server(): Path {
    return this.#requests.server
  }

  /** With the server's last challenge: signs a ConnectionBind on a connection of its own (RFC 6062 §4.3). */
  get auth(): ClientAuth | undefined {
    return this.#requests.auth
  }

  /**
   * Later requests carry these, of the same user: time-limited ones end sooner than what was allocated with them. Other
   * servers than natwork's may refuse them for an allocation that stands (441); the next one is asked for with them then.
   */
  setCredentials(auth: ClientAuth): void {
    this.#requests.auth = auth
  }

  /** Asks for the allocation: `allocated` or `failed` follows. Does something only the first time, or after `failed`. */
  allocate(now: Micros): void {
    this.#lifecycle.start(now)
  }

  /**
   * The path to a peer through the present allocation, or through the next one while there is none. It ends with its
   * allocation (`lost`): what is sent on it after that is dropped.
   */
  path(peer: SocketAddress): Path {
    return this.#carrier.path(peer)
  }

  /**
   * Lets an IP address through, both ways, until {@link forbid}. (Sending to a peer does so for as long as one sends.)
   *
   * @returns false when there is no room for another address.
   */
  permit(now: Micros, address: string): boolean {
    return this.#carrier.pin(now, address)
  }

  /** Takes {@link permit} back: the relay closes within five minutes, unless we go on sending there. */
  forbid(address: string): void {
    this.#carrier.unpin(address)
  }

  /**
   * RFC 6062: asks the relay to connect to a peer; `connected` or `unconnected` follows.
   *
   * @throws {TurnUsageError} `ERR_NATWORK_TURN_BUSY`
   */
  connect(now: Micros, peer: SocketAddress): void {
    this.#connects.connect(now, peer)
  }

  /** Our own address may have changed: asks the server whether the allocation still stands. */
  recheck(now: Micros): void {
    this.#lifecycle.recheck(now)
  }

  /** The stream to the server ended, and the allocation with it, unless the server has mobility. */
  disconnected(now: Micros, cause?: unknown): void {
    this.#requests.disconnected(now, cause)
    this.#lifecycle.disconnected(now)
  }

  /** There is a new stream to the server: moves the allocation there, or gets a new one. */
  connected(now: Micros, server: Path): void {
    this.#lifecycle.connected(now, server)
  }

  /** Gives the allocation back: `closed` follows when the server knows, or after 3.5 s. */
  close(now: Micros): void {
    this.#carrier.die()
    this.#lifecycle.close(now)
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const taken = mayBeChannelData(bytes)
      ? samePath(path, this.#requests.server) && this.#carrier.handleChannelData(bytes)
      : this.#requests.handleDatagram(now, path, bytes) ||
        (samePath(path, this.#requests.server) && this.#handleIndication(now, bytes))
    if (taken) this.#lifecycle.heard(now)
    return taken
  }

  handleTimeout(now: Micros): void {
    this.#requests.handleTimeout(now)
    this.#lifecycle.handleTimeout(now)
    this.#carrier.handleTimeout(now)
  }

  pollTransmit(): Transmit | undefined {
    return this.#requests.pollTransmit()
  }

  pollEvent(): TurnEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    const request = this.#requests.pollTimeout()
    const at = Math.min(this.#lifecycle.nextAt, this.#carrier.nextAt)
    if (request !== undefined && request.at <= at) return request
    return at === Infinity ? undefined : { at, reason: 'turn refresh' }
  }

  #handleIndication(now: Micros, bytes: Uint8Array): boolean {
    const view = this.#view
    if (!view.open(bytes) || view.messageClass !== MessageClass.Indication) return false
    const peer = view.xorAddress(Attribute.XorPeerAddress)
    switch (view.method) {
      case Method.Data:
        // Neither DATA nor ICMP, or no peer: "silently discarded" (RFC 8656 §11.4), but ours.
        if (peer !== undefined) this.#handleData(now, view, peer)
        return true
      case Method.ConnectionAttempt:
        if (peer !== undefined && this.#options.request?.protocol === 'tcp') this.#handleAttempt(view, peer)
        return true
      default:
        return false
    }
  }

  #handleData(now: Micros, view: StunView, peer: SocketAddress): void {
    const data = view.value(Attribute.Data)
    if (data !== undefined) {
      this.#carrier.handleData(now, peer, data)
      return
    }
    const value = view.value(Attribute.Icmp)
    const icmp = value && readIcmp(value)
    if (icmp === undefined || !this.#carrier.isPermitted(now, peer.address)) return
    if (this.#events.length < MAX_EVENTS) this.#events.push({ type: 'icmp', peer, icmp })
  }

  #handleAttempt(view: StunView, peer: SocketAddress): void {
    const id = view.uint32(Attribute.ConnectionId)
    if (id === undefined || this.#events.length >= MAX_EVENTS) return
    this.#events.push({ type: 'attempt', peer, id })
  }

  #makeCarrier(): RelayCarrier {
    const { rng, reliable = false, request = {}, output, input } = this.#options
    return new RelayCarrier({
      rng,
      requests: this.#requests,
      reliable,
      dontFragment: () => request.dontFragment === true && this.allocation?.dontFragment === true,
      output: (now, bytes) => {
        this.#lifecycle.sent(now)
        return output(now, bytes)
      },
      input,
      refused: (address, error) => this.#events.push({ type: 'refused', address, error }),
      mismatched: (now, error) => this.#lifecycle.mismatched(now, error),
      doubted: (now) => this.#lifecycle.doubted(now),
    })
  }

  /** What the application wants to hear from goes over to the next allocation; paths do not. */
  #replaceCarrier(now: Micros, error: StunPeerError | undefined): void {
    const before = this.#carrier
    before.die()
    this.#carrier = this.#makeCarrier()
    for (const address of before.pinned) this.#carrier.pin(now, address)
    this.#connects.clear(error ?? new StunPeerError('ERR_NATWORK_STUN_CONNECTION', 'the allocation is gone'))
  }
}

/** What a server sends of itself between two drains: more is dropped. */
const MAX_EVENTS = 64
