// 4 s. One port carries two bulk uTP transfers and STUN in both roles, while strangers and the peer's own address send
// STUN, uTP and ChannelData of their own making: every datagram is taken by its protocol, none is lost. In virtual time.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MILLISECOND, SECOND, type Machine, type Path } from '../../src/core/index.ts'
import { World, type Host, type SimSocket } from '../../src/sim/index.ts'
import {
  AddressKeeper,
  MessageClass,
  Method,
  StunBuilder,
  StunClient,
  StunResponder,
  StunServer,
} from '../../src/stun/index.ts'
import { channelOf, looksLikeUtp, writeChannelData } from '../../src/turn/protocol/index.ts'
import { UtpMachine, type UtpEvent } from '../../src/utp/index.ts'
import { Sink, Source } from './utp-model.ts'

const SIZE = 4_000_000
const PORT = 1315
const ADDRESSES = { a: '192.0.2.1', b: '192.0.2.2', stranger: '192.0.2.99' } as const

type Protocol = 'utp' | 'stun'

/** What is on its way, by its bytes, with the protocol that made it; and what became of it. */
class Ledger {
  readonly sent = { utp: 0, stun: 0 }
  readonly taken = { utp: 0, stun: 0 }
  /** Taken by the wrong protocol, or made by ours and taken by nobody. */
  readonly misrouted: string[] = []
  readonly #inAir = new Map<string, Protocol>()
  /** Inventions that a port may take for its own protocol: the others are for nobody. */
  readonly #invented = new Map<string, Protocol | undefined>()

  /** Says who may take a datagram that belongs to nothing. */
  invent(bytes: Uint8Array, by: Protocol | undefined): void {
    this.#invented.set(keyOf(bytes), by)
  }

  /** A machine whose datagrams are booked. */
  watch<Event>(protocol: Protocol, machine: Machine<Event>): Machine<Event> {
    return {
      handleDatagram: (now, path, bytes) => {
        if (!machine.handleDatagram(now, path, bytes)) return false
        this.#book(protocol, bytes)
        return true
      },
      handleTimeout: (now) => machine.handleTimeout(now),
      pollTransmit: (now) => {
        const transmit = machine.pollTransmit(now)
        // What answers a stranger leads nowhere.
        if (transmit && transmit.path.remote.address !== ADDRESSES.stranger) {
          this.sent[protocol]++
          this.#inAir.set(keyOf(transmit.data), protocol)
        }
        return transmit
      },
      pollEvent: () => machine.pollEvent(),
      pollTimeout: () => machine.pollTimeout(),
    }
  }

  /** Stands behind all others and takes nothing. */
  get last(): Machine {
    return {
      handleDatagram: (_now, _path, bytes) => {
        const made = this.#inAir.get(keyOf(bytes))
        if (made !== undefined) this.misrouted.push(`${made} by nobody: ${keyOf(bytes)}`)
        return false
      },
      handleTimeout: () => undefined,
      pollTransmit: () => undefined,
      pollEvent: () => undefined,
      pollTimeout: () => undefined,
    }
  }

  #book(protocol: Protocol, bytes: Uint8Array): void {
    const key = keyOf(bytes)
    const made = this.#inAir.get(key)
    const mayTake = this.#invented.has(key) ? this.#invented.get(key) : made
    if (mayTake !== protocol) this.misrouted.push(`${mayTake ?? 'nobody'}’s by ${protocol}: ${key}`)
    else if (made !== undefined) this.taken[protocol]++
    this.#inAir.delete(key)
  }
}

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** A node's port with everything on it, in the order of a real node. */
class Node {
  readonly host: Host
  readonly socket: SimSocket
  readonly machine: UtpMachine
  readonly sink = new Sink()
  readonly source = new Source(SIZE)
  asked = 0
  answered = 0
  readonly addresses = new Set<string>()
  readonly #client: StunClient
  readonly #wakes: (() => void)[] = []

  constructor(host: Host, peer: string, ledger: Ledger) {
    this.host = host
    this.socket = host.bind({ port: PORT })
    const { rng } = host
    this.machine = new UtpMachine({ rng })
    this.#client = new StunClient({ rng, maxPerServer: 100 })
    const keeper = new AddressKeeper(host.now(), {
      rng,
      servers: [{ address: peer, port: PORT }],
      interval: SECOND,
    })
    const server = new StunServer(new StunResponder({ rng, rateLimit: false }))
    const attach = <Event>(protocol: Protocol, machine: Machine<Event>, on: (event: Event) => void): void => {
      const attachment = this.socket.attach(ledger.watch(protocol, machine), on)
      this.#wakes.push(() => attachment.wake())
    }
    attach('utp', this.machine, (event) => this.#onUtp(event))
    attach('stun', keeper, (event) => event.known && this.addresses.add(event.address.address))
    attach('stun', this.#client, (event) => {
      assert.ok(event.type === 'response')
      this.addresses.add(event.response.mappedAddress()!.address)
      this.answered++
    })
    attach('stun', server, () => undefined)
    this.socket.attach(ledger.last)
  }

  ask(remote: Path['remote']): void {
    this.asked++
    this.#client.request(this.host.now(), { method: Method.Binding, path: { remote } })
    this.wake()
  }

  wake(): void {
    for (const wake of this.#wakes) wake()
  }

  #onUtp(event: UtpEvent): void {
    // The sink would end this side too, and our own bulk is still on its way.
    if (event.type === 'ended') this.sink.ended = true
    else this.sink.handle(this, event)
    if (['connected', 'incoming', 'writable'].includes(event.type)) this.source.pump(this, event.connection)
  }
}

interface Setting {
  readonly world: World
  readonly a: Node
  readonly b: Node
  readonly ledger: Ledger
}

function build(seed: number): Setting {
  const world = new World({ seed })
  const ledger = new Ledger()
  const a = new Node(world.host('a', { addresses: [ADDRESSES.a] }), ADDRESSES.b, ledger)
  const b = new Node(world.host('b', { addresses: [ADDRESSES.b] }), ADDRESSES.a, ledger)
  // Deep enough that nothing is dropped: every datagram counts.
  world.link(a.host, b.host, { delay: 10 * MILLISECOND, rate: 50_000_000, queue: { bytes: 64_000_000 } })
  a.machine.connect(a.host.now(), { remote: { address: ADDRESSES.b, port: PORT } })
  a.wake()
  return { world, a, b, ledger }
}

/** Both ask each other 100 times a second until the bulk is through; then what is on its way arrives. */
function runToEnd({ world, a, b }: Setting): void {
  const isDone = (): boolean => a.sink.ended && b.sink.ended
  const round = (): void => {
    if (isDone()) return
    a.ask({ address: ADDRESSES.b, port: PORT })
    b.ask({ address: ADDRESSES.a, port: PORT })
    world.at(world.now + 10 * MILLISECOND, round)
  }
  world.at(world.now, round)
  assert.ok(world.run(isDone, 120 * SECOND))
  world.runFor(SECOND / 4)
}

function checkAll({ a, b, ledger }: Setting): void {
  for (const [node, other] of [
    [a, b],
    [b, a],
  ] as const) {
    assert.deepEqual([node.sink.bytes, node.sink.hash], [SIZE, other.source.hash])
    assert.equal(node.answered, node.asked)
    assert.ok(node.asked > 50, `${node.asked} requests meanwhile`)
    assert.deepEqual([...node.addresses], [node.host.addresses[0]])
  }
  assert.deepEqual(ledger.misrouted, [])
  assert.deepEqual(ledger.taken, ledger.sent)
  assert.ok(ledger.sent.utp > (2 * SIZE) / 1_500, `${ledger.sent.utp} uTP datagrams`)
}

test('bulk both ways and STUN in both roles: what is sent is taken, by its own protocol', () => {
  for (const seed of [1, 2]) {
    const setting = build(seed)
    runToEnd(setting)
    checkAll(setting)
  }
})

test('inventions of strangers, and from the peer’s own address, change nothing of it', () => {
  for (const seed of [1, 2, 3]) {
    const setting = build(seed)
    const { world, a } = setting
    const fuzz = new Fuzz(a, setting.ledger)
    const round = (): void => {
      if (a.sink.ended) return
      for (let n = 0; n < 40; n++) fuzz.invent()
      world.at(world.now + 20 * MILLISECOND, round)
    }
    world.at(SECOND / 10, round)
    runToEnd(setting)
    checkAll(setting)
    assert.ok(fuzz.count > 1_000, `${fuzz.count} inventions`)
    assert.equal(a.machine.stats.connections <= 1, true, 'nothing invented became a connection')
  }
})

/** Datagrams of a protocol that belong to nothing, delivered to a node's port. */
class Fuzz {
  count = 0
  readonly #node: Node
  readonly #ledger: Ledger

  constructor(node: Node, ledger: Ledger) {
    this.#node = node
    this.#ledger = ledger
  }

  invent(): void {
    this.count++
    const { rng } = this.#node.host
    const kind = rng.uint32() % 3
    const fromPeer = rng.uint32() % 2 === 0
    if (kind === 0) this.#hand(this.#stun(fromPeer), 'stun', fromPeer)
    else if (kind === 1) this.#hand(this.#utp(fromPeer), 'utp', fromPeer)
    else {
      const bytes = this.#channelData(fromPeer)
      // Numbers that look like a SYN are bound by nobody on a shared port: a SYN is all that they can be.
      this.#hand(bytes, looksLikeUtp(channelOf(bytes)) ? 'utp' : undefined, fromPeer)
    }
  }

  /** Any method and class with a random id; from the peer no requests, as it would hear the answers. */
  #stun(fromPeer: boolean): Uint8Array {
    const { rng } = this.#node.host
    const id = new Uint8Array(12)
    rng.fill(id)
    const classes = Object.values(MessageClass).filter((one) => !fromPeer || one !== MessageClass.Request)
    const builder = new StunBuilder().start(
      rng.uint32() % 2 === 0 ? Method.Binding : rng.uint32() & 0xfff,
      classes[rng.uint32() % classes.length]!,
      id,
    )
    const value = new Uint8Array(rng.uint32() % 40)
    rng.fill(value)
    builder.bytes(rng.uint32() & 0x7fff, value)
    return rng.uint32() % 2 === 0 ? builder.copy() : builder.fingerprint().copy()
  }

  /** Version 1, any type, any id, with a payload; from the peer only RESET, which is answered by nothing. */
  #utp(fromPeer: boolean): Uint8Array {
    const { rng } = this.#node.host
    const bytes = new Uint8Array(20 + (rng.uint32() % 100))
    rng.fill(bytes)
    bytes[0] = ((fromPeer ? 3 : rng.uint32() % 5) << 4) | 1
    bytes[1] = 0
    return bytes
  }

  /** Of the whole range; from the peer none that looks like a SYN, which would be answered. */
  #channelData(fromPeer: boolean): Uint8Array {
    const { rng } = this.#node.host
    let channel = 0x4000 | (rng.uint32() & 0xfff)
    if (rng.uint32() % 2 === 0) channel = 0x4100 | (channel & 0xff)
    if (fromPeer && looksLikeUtp(channel)) channel += 0x100
    const payload = new Uint8Array(16 + (rng.uint32() % 200))
    rng.fill(payload)
    const bytes = new Uint8Array(4 + payload.length)
    writeChannelData(bytes, channel, payload, false)
    return bytes
  }

  #hand(bytes: Uint8Array, mayTake: Protocol | undefined, fromPeer: boolean): void {
    this.#ledger.invent(bytes, mayTake)
    const remote = { address: fromPeer ? ADDRESSES.b : ADDRESSES.stranger, port: PORT }
    this.#node.socket.deliver({ remote }, bytes)
  }
}
