import { randomBytes } from 'node:crypto'
import { networkInterfaces } from 'node:os'
import { nextTick } from 'node:process'
import { formatAddress, type SocketAddress } from '../../../core/address.ts'
import { silentLogger, type Logger } from '../../../core/logger.ts'
import { SECOND } from '../../../core/machine.ts'
import { systemClock, systemRng } from '../../../core/ports.ts'
import type { UdpEndpoint } from '../../../socket/index.ts'
import { bindDriver, type Attachment } from '../../../socket/index.ts'
import { StunBuilder } from '../../../stun/codec/builder.ts'
import { TRANSACTION_ID_LENGTH } from '../../../stun/codec/view.ts'
import { ErrorCode, MessageClass, Method } from '../../../stun/codec/registry.ts'
import { LongTermServerAuth, type CredentialStore } from '../../../stun/credentials/server.ts'
import { TurnUsageError } from '../../errors.ts'
import { TransportProtocol, type AddressFamily } from '../../protocol/constants.ts'
import type { ClientLink, OpenRequest, RelayedSocket, RelayEvent, Siblings } from '../../server/io.ts'
import { PeerPolicy, type PeerPolicyOptions } from '../../server/policy.ts'
import { Relay, type RelaySettings } from '../../server/relay.ts'
import { TurnServer } from '../../server/server.ts'
import { Outside } from './outside.ts'
import { familyNumber, PortSet, RelayPorts, type RelayAddress } from './ports.ts'
import { TcpRelayed } from './relayed-tcp.ts'
import { Flusher, UdpRelayed } from './relayed-udp.ts'

/** What may change while the relay runs. */
export interface RelayHostSettings extends Omit<RelaySettings, 'auth' | 'policy'> {
  readonly users: CredentialStore
  /** Which peers are welcome beyond, or among, those of the whole internet. */
  readonly peers?: Pick<PeerPolicyOptions, 'allow' | 'deny'>
}

export interface RelayHostOptions extends RelayHostSettings {
  /** Where relayed transport addresses are: one of each family, or more. */
  readonly addresses: readonly RelayAddress[]
  /** The ports of the relayed transport addresses; default 49,152–65,535. */
  readonly ports?: { readonly min: number; readonly max: number }
  /** Seconds after which clients are asked to answer another nonce; default 600. */
  readonly nonceLifetime?: number
  readonly logger?: Logger
  /** Where this relay is one of several processes. */
  readonly siblings?: Siblings
}

/**
 * A {@link Relay} with sockets: opens the relayed ones, and writes what happens to the log. Clients come by
 * {@link attach} and {@link link}.
 */
export class RelayHost {
  readonly relay: Relay
  readonly #addresses: readonly RelayAddress[]
  readonly #names: Outside
  readonly #ports: RelayPorts
  readonly #logger: Logger
  readonly #siblings: Siblings | undefined
  readonly #flusher = new Flusher()
  readonly #secret = randomBytes(32)
  readonly #nonceLifetime: number
  #auth: LongTermServerAuth
  /** Of the ports that clients and operators come to, as peers would write them. Bounded by the configuration. */
  readonly #listening = new PortSet()
  readonly #attachments: { readonly endpoint: UdpEndpoint; readonly attachment: Attachment }[] = []
  #timer: NodeJS.Timeout | undefined
  #timerAt = Infinity
  #flushing = false
  #closed = false

  /** @throws {TurnUsageError} `ERR_NATWORK_TURN_CONFIG` */
  constructor(options: RelayHostOptions) {
    const { addresses, ports, siblings } = options
    if (addresses.length === 0) {
      throw new TurnUsageError(
        'ERR_NATWORK_TURN_CONFIG',
        'a relay needs an address to relay at: name an IP address of this machine',
      )
    }
    if (ports !== undefined && !(ports.min >= 1024 && ports.min <= ports.max && ports.max <= 65_535)) {
      throw new TurnUsageError(
        'ERR_NATWORK_TURN_CONFIG',
        'the relay ports have to lie in 1024–65535, the lower first',
      )
    }
    this.#addresses = addresses
    this.#names = new Outside(addresses)
    this.#siblings = siblings
    this.#ports = new RelayPorts(systemRng, ports, siblings?.isRelayed.bind(siblings))
    this.#logger = options.logger ?? silentLogger
    this.#nonceLifetime = options.nonceLifetime ?? 600
    this.#auth = this.#authOf(options)
    const families: AddressFamily[] = [...new Set(addresses.map(({ host }) => familyNumber(host)))]
    this.relay = new Relay({
      ...this.#settings(options),
      rng: systemRng,
      families,
      // Linux sets DF on UDP unless told otherwise (ip(7), IP_PMTUDISC_WANT).
      dontFragment: process.platform === 'linux',
      ...(options.siblings !== undefined && { siblings: options.siblings }),
    })
  }

  /** Takes other settings; see {@link Relay.configure}. */
  configure(settings: RelayHostSettings): void {
    this.#auth = this.#authOf(settings)
    this.relay.configure(this.#settings(settings))
  }

  /**
   * The 401 that this client's first Allocate request would get (RFC 8489 §9.2.4): whoever is told it with the credentials
   * need not send that request.
   */
  challenge(client: SocketAddress): Uint8Array {
    const transactionId = new Uint8Array(TRANSACTION_ID_LENGTH)
    systemRng.fill(transactionId)
    const builder = new StunBuilder()
      .start(Method.Allocate, MessageClass.Error, transactionId)
      .errorCode(ErrorCode.Unauthenticated, '')
    this.#auth.challenge(systemClock.now(), client, builder)
    return builder.copy()
  }

  /** No peer is reached at this port of ours, whatever else is allowed. */
  addListening(host: string, port: number): void {
    const hosts = host === '0.0.0.0' || host === '::' ? this.#ownAddresses() : [host]
    for (const one of hosts) this.#listening.add(one, port)
  }

  /** Serves clients at a UDP port, which may be shared with other machines. */
  attach(endpoint: UdpEndpoint, channels: ClientLink['channels']): void {
    this.addListening(endpoint.address.address, endpoint.address.port)
    const server = new TurnServer(this.relay, {
      channels,
      forward: (transmit) => endpoint.forward(transmit),
      flush: () => {
        this.#flusher.flush()
      },
    })
    const attachment = endpoint.attach(server, (event) => {
      this.#handle(event)
    })
    this.#attachments.push({ endpoint, attachment })
  }

  /** After each call of the relay that came not from an attached port: does what it asks for, and sets the timer. */
  drain(): void {
    for (let event = this.relay.pollEvent(); event !== undefined; event = this.relay.pollEvent()) {
      this.#handle(event)
    }
    this.#flusher.flush()
    this.#armTimer()
  }

  /** Ends all allocations. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.relay.shutDown(systemClock.now())
    this.drain()
    this.#closed = true
    clearTimeout(this.#timer)
    for (const { attachment } of this.#attachments) attachment.detach()
  }

  #settings({ peers, ...rest }: RelayHostSettings): RelaySettings {
    const policy = new PeerPolicy({
      ...peers,
      ownAddresses: this.#ownAddresses(),
      isRelayed: (address, port) => this.#ports.has(address, port),
      isListening: (address, port) => this.#listening.has(address, port),
    })
    return {
      ...rest,
      policy,
      auth: this.#auth,
    }
  }

  #authOf({ users }: RelayHostSettings): LongTermServerAuth {
    return new LongTermServerAuth(users, this.#secret, this.#nonceLifetime * SECOND)
  }

  #ownAddresses(): string[] {
    return [
      ...localAddresses(),
      ...this.#addresses.flatMap(({ host, external }) =>
        external === undefined ? [host] : [host, external],
      ),
    ]
  }

  #handle(event: RelayEvent): void {
    switch (event.type) {
      case 'open':
        void this.#open(event)
        break
      case 'connect':
        if (event.from instanceof TcpRelayed) {
          event.from.connect(event.peer, (connection) => {
            this.relay.connected(systemClock.now(), event.ticket, connection)
            this.drain()
          })
        }
        break
      case 'created': {
        const { id, username, sockets, link, transport } = event.allocation
        this.#logger.info('allocation created', {
          allocation: id,
          user: username,
          client: formatAddress(link.remote),
          relayed: sockets.map(({ address }) => formatAddress(address)),
          ...(transport === TransportProtocol.Tcp && { transport: 'tcp' }),
        })
        this.#armTimer()
        break
      }
      case 'ended': {
        const { id, username, bytesToPeers, bytesFromPeers } = event.allocation
        const { reason } = event
        this.#logger.info('allocation ended', {
          allocation: id,
          user: username,
          reason,
          bytesToPeers,
          bytesFromPeers,
        })
        break
      }
      case 'refused': {
        const { method, client, code, reason, username, allocation, peer } = event
        this.#logger.warn('request refused', {
          method: methodName(method),
          client: formatAddress(client),
          code,
          reason,
          ...(username !== undefined && { user: username }),
          ...(allocation !== undefined && { allocation }),
          ...(peer !== undefined && { peer }),
        })
        break
      }
    }
  }

  async #open({ request, ticket, account, source }: RelayEvent & { type: 'open' }): Promise<void> {
    const refusal = this.#siblings && (await this.#siblings.admit(account, source))
    if (refusal !== undefined) {
      this.relay.opened(systemClock.now(), ticket, { sockets: [], refusal })
      this.drain()
      this.#flushClientsSoon()
      return
    }
    const sockets: (RelayedSocket | undefined)[] = []
    let reserved: RelayedSocket | undefined
    for (const family of request.families) {
      const pair = await this.#openOne(request, family)
      sockets.push(pair[0])
      reserved ??= pair[1]
    }
    this.relay.opened(systemClock.now(), ticket, { sockets, ...(reserved !== undefined && { reserved }) })
    this.drain()
    this.#flushClientsSoon()
  }

  async #openOne(
    request: OpenRequest,
    family: AddressFamily,
  ): Promise<[RelayedSocket | undefined, RelayedSocket | undefined]> {
    // Several addresses of one family take turns.
    const places = this.#addresses.filter(({ host }) => familyNumber(host) === family)
    const place = places[systemRng.uint32() % Math.max(1, places.length)]
    if (place === undefined) return [undefined, undefined]
    const external = place.external ?? place.host
    for (const port of this.#ports.candidates(external, request.even, request.reserve)) {
      const first = await this.#bind(request.transport, place, external, port)
      if (first === undefined) continue
      if (!request.reserve) return [first, undefined]
      const second = await this.#bind(request.transport, place, external, port + 1)
      if (second !== undefined) return [first, second]
      first.close()
    }
    return [undefined, undefined]
  }

  /** Undefined when another program has the port. */
  async #bind(
    transport: TransportProtocol,
    { host }: RelayAddress,
    external: string,
    port: number,
  ): Promise<RelayedSocket | undefined> {
    const address = { address: external, port }
    // Before the first await: two requests must not try the same port.
    this.#ports.take(address)
    const free = (): void => {
      this.#ports.free(address)
    }
    const onClose = (): void => {
      free()
      this.#siblings?.relays(address, false)
    }
    try {
      if (transport === TransportProtocol.Tcp) {
        return await TcpRelayed.listen(
          { address: host, port },
          address,
          this.#names,
          onClose,
          (allocation, connection) => {
            this.relay.peerConnected(systemClock.now(), allocation, connection)
            this.drain()
          },
        )
      }
      const driver = await bindDriver({ address: host, port }, undefined, {
        recvBufferSize: RELAY_RECEIVE_BUFFER,
        reusePort: false,
      })
      this.#siblings?.relays(address, true)
      return new UdpRelayed(driver, address, this.#names, this.#flusher, this.#flushClients, onClose)
    } catch {
      free()
      return undefined
    }
  }

  /** The clients' ports: they have been given something outside of their own turn. */
  readonly #flushClients = (): void => {
    for (const { endpoint } of this.#attachments) endpoint.flush()
  }

  /** What is opened comes in rows, as the requests did: their answers go together. */
  #flushClientsSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    nextTick(() => {
      this.#flushing = false
      this.#flushClients()
    })
  }

  #armTimer(): void {
    const at = this.relay.pollTimeout()?.at ?? Infinity
    if (at >= this.#timerAt || this.#closed) return
    clearTimeout(this.#timer)
    this.#timerAt = at
    const wait = Math.max(1, Math.ceil((at - systemClock.now()) / 1_000))
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity
      this.relay.handleTimeout(systemClock.now())
      this.drain()
    }, wait)
    // Clients' sockets keep the process alive, not the wish to forget them.
    this.#timer.unref()
  }
}

/** Bytes that may wait at a relayed address: as at any port of ours. */
const RELAY_RECEIVE_BUFFER = 4 * 1024 * 1024

function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).map(({ address }) => address.replace(/%.*/, '')),
  )
}

function methodName(method: number): string {
  return Object.entries(Method).find(([, number]) => number === method)?.[0] ?? String(method)
}
