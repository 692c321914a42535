// Two nodes with ICE in a simulated world: STUN servers, a relay, signalling with a delay, and what the two find.
import { familyOf, type SocketAddress } from '../../src/core/address.ts'
import { MILLISECOND, SECOND, type Carrier, type Micros, type Transmit } from '../../src/core/machine.ts'
import {
  IceMachine,
  type ExhaustiveBudget,
  type IceCandidate,
  type IceEvent,
  type IcePath,
  type IceSession,
  type LocalCandidate,
  type NatHints,
  type RemoteDescription,
} from '../../src/ice/index.ts'
import { AGENT_PORT, kinds, NAT64_PREFIX, World } from '../../src/sim/index.ts'
import type { KindName, Site, SiteOptions } from '../../src/sim/index.ts'
import { synthesize } from '../../src/sim/prefix64.ts'
import { Method, StunClient, StunResponder, StunServer } from '../../src/stun/index.ts'

const STUN = { address: '192.0.2.1', port: 3478 }
const RELAY = '192.0.2.9'
const MAPPED_PORT = 41_315

export interface MeetingOptions {
  readonly a: KindName
  readonly b: KindName
  readonly seed: number
  /** One way, from one node to the other by the helper. */
  readonly signalling?: Micros
  readonly link?: SiteOptions['link']
  readonly relay?: boolean
  /** A gets its relay so long after it began, and B a second after that; default: both have theirs from the start. */
  readonly relayAfter?: Micros
  readonly hints?: boolean
  /** Nobody has found out what the NATs filter: most STUN servers cannot tell. Default: known. */
  readonly knowsFiltering?: boolean
  readonly exhaustive?: ExhaustiveBudget
  /** Both say they are controlling, or controlled. */
  readonly roles?: readonly [boolean, boolean]
  readonly together?: boolean
  readonly dualStack?: boolean
  readonly trace?: boolean
}

export class Node {
  readonly name: string
  readonly site: Site
  readonly world: World
  readonly socket: ReturnType<Site['client']['bind']>
  readonly machine: IceMachine
  readonly events: IceEvent[] = []
  readonly carriers = new Set<Carrier>()
  /** Each path as it was announced, and when. */
  readonly paths: { at: Micros; path: IcePath }[] = []
  openedSockets = 0
  relay: { address: SocketAddress; carrier: Carrier; isDown: boolean } | undefined
  hints: NatHints = {}
  candidates: LocalCandidate[] = []
  session!: IceSession
  onCandidate: (candidate: IceCandidate) => void = () => undefined
  readonly #attachment: { wake(): void }
  readonly #closers = new Map<Carrier, () => void>()

  constructor(world: World, name: string, site: Site) {
    this.world = world
    this.name = name
    this.site = site
    this.socket = site.client.bind({ port: AGENT_PORT })
    this.machine = new IceMachine({ rng: site.client.rng })
    this.#attachment = this.socket.attach(this.machine, (event) => this.#onEvent(event))
  }

  get path(): IcePath | undefined {
    return this.session.path
  }

  now(): Micros {
    return this.site.client.now()
  }

  wake(): void {
    this.#attachment.wake()
  }

  #onEvent(event: IceEvent): void {
    if (event.type !== 'trace') this.events.push(event)
    switch (event.type) {
      case 'path':
        this.paths.push({ at: this.world.now, path: event.path })
        break
      case 'candidate':
        this.onCandidate(event.candidate)
        break
      case 'sockets':
        for (let i = 0; i < event.count; i++) event.session.addSocket(this.now(), this.#open())
        this.wake()
        break
      case 'release':
        this.#closers.get(event.carrier)?.()
        this.#closers.delete(event.carrier)
        this.carriers.delete(event.carrier)
        break
    }
  }

  #open(): Carrier {
    const socket = this.site.client.bind()
    const carrier: Carrier = {
      kind: 'socket',
      send: (_now, { path, data, ttl }: Transmit) => {
        if (this.carriers.has(carrier)) socket.send(data, path.remote, ttl)
      },
    }
    socket.onMessage = (data, from) => this.socket.deliver({ remote: from, via: carrier }, data)
    this.#closers.set(carrier, () => socket.close())
    this.carriers.add(carrier)
    this.openedSockets++
    return carrier
  }
}

/** Two sites, everything they need, and what they know before they connect. */
export class Meeting {
  readonly world: World
  readonly a: Node
  readonly b: Node
  readonly options: MeetingOptions
  /** When A began to connect. */
  startedAt: Micros = 0

  constructor(options: MeetingOptions) {
    this.options = options
    const { a, b, link, dualStack } = options
    const world = new World({ seed: options.seed, trace: options.trace ?? false })
    this.world = world
    const stun = world.publicHost('stun', { addresses: [STUN.address] })
    stun
      .bind({ port: STUN.port })
      .attach(new StunServer(new StunResponder({ rng: stun.rng, rateLimit: false })))
    const relayHost = world.publicHost('relay', { addresses: [RELAY], icmp: false })
    const site = { ...(link && { link }), ...(dualStack !== undefined && { dualStack }) }
    const first = world.site('a', { kind: a, ...site })
    const share = options.together ?? (a === b && kinds[a].shared !== 'nothing')
    const second = world.site('b', { kind: b, ...site, ...(share && { beside: first }) })
    this.a = new Node(world, 'a', first)
    this.b = new Node(world, 'b', second)
    for (const node of [this.a, this.b]) {
      // No nearer than it would be by the site's own wire.
      if (options.relay ?? true) allocate(node, relayHost, link?.delay ?? 10 * MILLISECOND)
      gather(node, options.hints ?? true, options.knowsFiltering ?? true)
    }
    // Long enough for a few repetitions on a bad network.
    const patience = link?.loss === undefined ? SECOND : 8 * SECOND
    world.runFor(patience)
    sample(this.a)
    sample(this.b)
    world.runFor(patience)
  }

  /** A sends an offer, B answers, both trickle what they find later. */
  connect(): void {
    const { roles = [true, false] } = this.options
    this.startedAt = this.world.now
    const { relayAfter } = this.options
    const [relaysA, relaysB] = relayAfter === undefined ? [[], []] : [this.a, this.b].map(withholdRelays)
    this.#open(this.a, roles[0])
    if (relayAfter !== undefined) this.#add(this.a, relaysA, relayAfter)
    this.#post(() => {
      this.#open(this.b, roles[1])
      if (relayAfter !== undefined) this.#add(this.b, relaysB, relayAfter + SECOND)
      this.b.session.setRemote(this.b.now(), { ...describe(this.a), sawOurs: false })
      this.b.wake()
      this.#post(() => {
        this.a.session.setRemote(this.a.now(), { ...describe(this.b), sawOurs: true })
        this.a.wake()
      })
    })
  }

  /** A restarts, and B with it. */
  restart(): void {
    this.a.session.restart(this.a.now())
    const offer = describe(this.a)
    this.#post(() => {
      this.b.session.setRemote(this.b.now(), { ...offer, sawOurs: false })
      this.b.wake()
      const answer = describe(this.b)
      this.#post(() => {
        this.a.session.setRemote(this.a.now(), { ...answer, sawOurs: true })
        this.a.wake()
      })
    })
  }

  /** Both on a direct path. */
  get isDirect(): boolean {
    return this.a.path?.kind === 'direct' && this.b.path?.kind === 'direct'
  }

  get isConnected(): boolean {
    return this.a.path !== undefined && this.b.path !== undefined
  }

  /** Since A began to connect, ms. */
  get elapsed(): number {
    return (this.world.now - this.startedAt) / MILLISECOND
  }

  #open(node: Node, controlling: boolean): void {
    const { exhaustive } = this.options
    node.session = node.machine.open(node.now(), {
      controlling,
      local: {
        candidates: node.candidates,
        ...(node.site.options.kind === 'nat64' && { nat64: { prefix: NAT64_PREFIX, length: 96 } as const }),
      },
      hints: node.hints,
      ...(exhaustive && { exhaustive }),
    })
    node.session.endOfLocalCandidates(node.now())
    const other = node === this.a ? this.b : this.a
    node.onCandidate = (candidate) => {
      this.#post(() => {
        other.session.addRemoteCandidate(other.now(), candidate)
        other.wake()
      })
    }
    node.wake()
  }

  #add(node: Node, candidates: readonly LocalCandidate[] = [], after: Micros): void {
    this.world.at(this.world.now + after, () => {
      for (const one of candidates) node.session.addLocalCandidate(node.now(), one)
      node.wake()
    })
  }

  #post(deliver: () => void): void {
    this.world.at(this.world.now + (this.options.signalling ?? 20 * MILLISECOND), deliver)
  }
}

function withholdRelays(node: Node): LocalCandidate[] {
  const relays = node.candidates.filter(({ type }) => type === 'relay')
  node.candidates = node.candidates.filter(({ type }) => type !== 'relay')
  return relays
}

function describe({ session, hints }: Node): RemoteDescription {
  // As it goes over the wire.
  const text = JSON.stringify({
    ...session.parameters,
    candidates: session.localCandidates,
    hints,
    complete: true,
  })
  return JSON.parse(text) as RemoteDescription
}

function gather(node: Node, hasHints: boolean, knowsFiltering: boolean): void {
  const { site } = node
  const kind = typeof site.options.kind === 'string' ? kinds[site.options.kind] : undefined
  const { addresses } = site.client
  for (const address of addresses)
    node.candidates.push({ type: 'host', address: { address, port: AGENT_PORT } })
  const own = addresses[0] ?? ''
  const base = { address: own, port: AGENT_PORT }
  ask(node, node.socket, (mapped) => {
    if (addresses.includes(mapped.address)) return
    node.candidates.push({ type: 'srflx', address: mapped, base, server: STUN })
  })
  const outermost = site.routers.at(-1)
  if (outermost?.spec.portMapping === true) {
    outermost.mapPort(MAPPED_PORT, base)
    const outer = outermost.uplink?.addresses[0] ?? ''
    node.candidates.push({ type: 'mapped', address: { address: outer, port: MAPPED_PORT }, base })
  }
  if (hasHints && kind?.behaviour !== undefined && kind.families.includes(4)) {
    const { mapping, filtering, ports, step = 1 } = kind.behaviour
    node.hints = { mapping, ports, step, ...(knowsFiltering && { filtering }) }
  }
}

/** A fresh flow shows which port comes next. */
function sample(node: Node): void {
  const { ports } = node.hints
  if (ports !== 'sequential' && ports !== 'block') return
  const socket = node.site.client.bind()
  ask(node, socket, (mapped) => {
    node.hints = { ...node.hints, lastPort: mapped.port }
    socket.close()
  })
}

function ask(node: Node, socket: Node['socket'], onMapped: (mapped: SocketAddress) => void): void {
  const { client } = node.site
  const is6Only = !client.addresses.some((one) => familyOf(one) === 4)
  if (is6Only && node.site.options.kind !== 'nat64') return
  const remote = is6Only ? { address: synthesize(STUN.address), port: STUN.port } : STUN
  const stun = new StunClient({ rng: client.rng })
  stun.request(node.now(), { method: Method.Binding, path: { remote } })
  const attachment = socket.attach(stun, (event) => {
    attachment.detach()
    const mapped = event.type === 'response' ? event.response.mappedAddress() : undefined
    if (mapped !== undefined) onMapped(mapped)
  })
}

/** An allocation that every site reaches, as over TLS on port 443; it lets in whoever was permitted. */
function allocate(node: Node, host: ReturnType<World['publicHost']>, delay: Micros): void {
  const { world } = node
  const socket = host.bind()
  const permitted = new Set<string>()
  const carrier: Carrier = {
    kind: 'relay',
    send: (_now, { path, data }) => {
      const copy = data.slice()
      world.at(world.now + delay, () => {
        if (!relay.isDown && permitted.has(path.remote.address)) socket.send(copy, path.remote)
      })
    },
  }
  socket.onMessage = (data, from) => {
    const copy = data.slice()
    if (relay.isDown || !permitted.has(from.address)) return
    world.at(world.now + delay, () => node.socket.deliver({ remote: from, via: carrier }, copy))
  }
  const address = { address: RELAY, port: socket.port }
  const relay = { address, carrier, isDown: false }
  node.relay = relay
  node.candidates.push({
    type: 'relay',
    address,
    via: carrier,
    server: { address: RELAY, port: 3478 },
    permit: (one) => permitted.add(one),
  })
}
