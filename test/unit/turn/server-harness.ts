/** A relay in virtual time: its sockets are lists, and nothing happens but what a test does. */
import { samePath, SECOND, type Micros, type Path, type SocketAddress } from '../../../src/core/index.ts'
import {
  Attribute,
  LongTermAuth,
  LongTermServerAuth,
  MessageClass,
  Method,
  StaticUsers,
  StunBuilder,
  StunView,
  type CredentialStore,
} from '../../../src/stun/index.ts'
import {
  AddressFamily,
  mayBeChannelData,
  PeerPolicy,
  Relay,
  TransportProtocol,
  TurnServer,
  writeChannelData,
  type OpenRequest,
  type PeerConnection,
  type PeerPolicyOptions,
  type RelayedSocket,
  type RelayEvent,
  type RelayOptions,
  type ServedAllocation,
  type TurnServerPlace,
} from '../../../src/turn/index.ts'
import { SimRng } from '../../../src/sim/rng.ts'

export const realm = 'example.org'
export const users: Record<string, string> = { alice: 'wonderland', bob: 'builder' }
export const external = { 4: '198.35.26.96', 6: '2620:0:862::1' }

export class FakeSocket implements RelayedSocket {
  readonly address: SocketAddress
  readonly sent: { to: SocketAddress; data: Buffer }[] = []
  allocation: ServedAllocation | undefined
  closed = false

  constructor(address: SocketAddress) {
    this.address = address
  }

  start(allocation: ServedAllocation): void {
    this.allocation = allocation
  }

  send(peer: Path, data: Uint8Array): void {
    this.sent.push({ to: peer.remote, data: Buffer.from(data) })
  }

  close(): void {
    this.closed = true
  }
}

export interface World extends Partial<Omit<RelayOptions, 'policy' | 'rng'>> {
  readonly peers?: PeerPolicyOptions
  readonly store?: CredentialStore
  readonly place?: TurnServerPlace
  /** Answers what the relay asks for; default: every port is free. */
  readonly open?: (request: OpenRequest) => (FakeSocket | undefined)[]
}

export class Bench {
  now: Micros = 1_000 * SECOND
  readonly relay: Relay
  readonly server: TurnServer
  readonly sockets: FakeSocket[] = []
  /** Of EVEN-PORT's R bit. */
  readonly reserved: FakeSocket[] = []
  readonly events: RelayEvent[] = []
  readonly #open: (request: OpenRequest) => (FakeSocket | undefined)[]
  #nextPort = 50_000

  constructor(world: World = {}) {
    const { peers, store = new StaticUsers(realm, users), place, open, ...options } = world
    this.relay = new Relay({
      rng: new SimRng(7),
      families: [AddressFamily.Ipv4, AddressFamily.Ipv6],
      auth: new LongTermServerAuth(store, Buffer.alloc(32, 1), 600 * SECOND),
      policy: new PeerPolicy({ ownAddresses: Object.values(external), ...peers }),
      dontFragment: true,
      ...options,
    })
    this.server = new TurnServer(this.relay, place)
    this.#open = open ?? ((request) => this.openAll(request))
  }

  openAll({ families, even }: OpenRequest): FakeSocket[] {
    return families.map((family) => {
      this.#nextPort += even && this.#nextPort % 2 === 0 ? 2 : 1
      const socket = new FakeSocket({
        address: external[family === AddressFamily.Ipv6 ? 6 : 4],
        port: this.#nextPort,
      })
      this.sockets.push(socket)
      return socket
    })
  }

  client(port = 40_000, address = '192.0.2.7', user = 'alice', password = users[user] ?? ''): BenchClient {
    return new BenchClient(this, { remote: { address, port } }, new LongTermAuth(user, password))
  }

  /** One datagram to the server; what it sends meanwhile, by whom it is for. */
  give(path: Path, bytes: Uint8Array): { taken: boolean; sent: { to: Path; data: Buffer }[] } {
    const taken = this.server.handleDatagram(this.now, path, bytes)
    return { taken, sent: this.drain() }
  }

  drain(): { to: Path; data: Buffer }[] {
    for (let event = this.server.pollEvent(); event !== undefined; event = this.server.pollEvent()) {
      this.events.push(event)
      if (event.type === 'open') {
        const sockets = this.#open(event.request)
        const [first] = sockets
        const reserved =
          event.request.reserve && first !== undefined
            ? new FakeSocket({ address: first.address.address, port: first.address.port + 1 })
            : undefined
        if (reserved !== undefined) this.reserved.push(reserved)
        this.relay.opened(this.now, event.ticket, { sockets, ...(reserved && { reserved }) })
      }
    }
    const sent: { to: Path; data: Buffer }[] = []
    for (let next = this.server.pollTransmit(); next !== undefined; next = this.server.pollTransmit()) {
      sent.push({ to: next.path, data: Buffer.from(next.data) })
    }
    return sent
  }

  /** Lets time pass, deadline by deadline. */
  pass(seconds: number): { to: Path; data: Buffer }[] {
    const until = this.now + seconds * SECOND
    for (;;) {
      const at = this.server.pollTimeout()?.at
      if (at === undefined || at > until) break
      this.now = Math.max(this.now, at)
      this.server.handleTimeout(this.now)
    }
    this.now = until
    return this.drain()
  }

  /** A datagram from a peer at the first relayed address. */
  fromPeer(socket: FakeSocket, from: SocketAddress, data: string | Uint8Array): { to: Path; data: Buffer }[] {
    socket.allocation?.handlePeerDatagram(this.now, { remote: from }, Buffer.from(data))
    return this.drain()
  }
}

export interface Answer {
  readonly code: number
  readonly view: StunView
}

export class BenchClient {
  readonly path: Path
  readonly #bench: Bench
  auth: LongTermAuth | undefined
  readonly #builder = new StunBuilder()
  #count = 0

  constructor(bench: Bench, path: Path, auth: LongTermAuth | undefined) {
    this.#bench = bench
    this.path = path
    this.auth = auth
  }

  request(method: number, build: (request: StunBuilder) => unknown = () => undefined): Answer {
    for (let round = 1; ; round++) {
      const [bytes, signature] = this.compose(method, build)
      const view = this.ask(bytes)
      if (view === undefined) throw new Error('no answer')
      if (round < 4 && this.auth?.examine(view, signature) === 'retry') continue
      return answerOf(view)
    }
  }

  /** A request, signed as far as the challenge is known. */
  compose(
    method: number,
    build: (request: StunBuilder) => unknown,
  ): [Uint8Array, ReturnType<LongTermAuth['sign']>] {
    const id = Buffer.alloc(12)
    id.writeUInt32BE(++this.#count, 0)
    id.writeUInt16BE(this.path.remote.port, 4)
    const builder = this.#builder.start(method, MessageClass.Request, id)
    build(builder)
    const signature = this.auth?.sign(builder)
    return [builder.copy(), signature]
  }

  /** The answer to these bytes, if there is one. */
  ask(bytes: Uint8Array): StunView | undefined {
    const { sent } = this.#bench.give(this.path, bytes)
    const answer = sent.find(({ to, data }) => samePath(to, this.path) && !mayBeChannelData(data))
    const view = new StunView()
    return answer !== undefined && view.open(answer.data) ? view : undefined
  }

  allocate(build: (request: StunBuilder) => unknown = () => undefined): Answer {
    return this.request(Method.Allocate, (request) => {
      request.uint8(Attribute.RequestedTransport, TransportProtocol.Udp, true)
      build(request)
    })
  }

  permit(...peers: string[]): number {
    return this.request(Method.CreatePermission, (request) => {
      for (const address of peers) request.xorAddress(Attribute.XorPeerAddress, { address, port: 9 })
    }).code
  }

  bind(channel: number, peer: SocketAddress): number {
    return this.request(Method.ChannelBind, (request) =>
      request.uint16(Attribute.ChannelNumber, channel).xorAddress(Attribute.XorPeerAddress, peer),
    ).code
  }

  refresh(lifetime: number): Answer {
    return this.request(Method.Refresh, (request) => request.uint32(Attribute.Lifetime, lifetime))
  }

  send(
    peer: SocketAddress,
    data: string,
    build: (request: StunBuilder) => unknown = () => undefined,
  ): { to: Path; data: Buffer }[] {
    const message = this.#builder
      .start(Method.Send, MessageClass.Indication, Buffer.alloc(12, 3))
      .xorAddress(Attribute.XorPeerAddress, peer)
      .bytes(Attribute.Data, Buffer.from(data))
    build(message)
    return this.#bench.give(this.path, message.copy()).sent
  }

  /** @returns whether the server took it for its own. */
  channel(number: number, data: string): boolean {
    const into = Buffer.alloc(4 + data.length)
    writeChannelData(into, number, Buffer.from(data), false)
    return this.#bench.give(this.path, into).taken
  }
}

export function answerOf(view: StunView): Answer {
  const code = view.messageClass === MessageClass.Success ? 0 : (view.errorCode()?.code ?? -1)
  return { code, view }
}

export class FakeConnection implements PeerConnection {
  readonly remote: SocketAddress
  destroyed = false
  #listener: () => void = () => undefined

  constructor(remote: SocketAddress) {
    this.remote = remote
  }

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#listener()
  }

  onClose(listener: () => void): void {
    this.#listener = listener
  }
}
