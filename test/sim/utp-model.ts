import { SECOND, type Micros, type Path } from '../../src/core/index.ts'
import { World, type LinkOptions, type Host, type SimSocket } from '../../src/sim/index.ts'
import {
  UtpMachine,
  type CongestionName,
  type UtpConnection,
  type UtpConnectionOptions,
  type UtpEvent,
  type UtpMachineOptions,
} from '../../src/utp/index.ts'

/** A host of a world with a uTP machine on port 1315. */
export class UtpHost {
  readonly host: Host
  readonly machine: UtpMachine
  readonly wake: () => void
  onEvent: (event: UtpEvent) => void = () => undefined

  constructor(host: Host, options: Partial<UtpMachineOptions> = {}) {
    this.host = host
    this.machine = new UtpMachine({ rng: host.rng, ...options })
    const attachment = host
      .bind({ port: 1315 })
      .attach(this.machine, (event: UtpEvent) => this.onEvent(event))
    this.wake = () => attachment.wake()
  }

  /** The way to it from elsewhere, once it is wired. */
  get path(): Path {
    return { remote: { address: this.host.addresses[0]!, port: 1315 } }
  }
}

/** Counts what arrives; reads at once. */
export class Sink {
  bytes = 0
  hash = 0
  ended = false

  handle(host: Pick<UtpHost, 'host'>, event: UtpEvent): void {
    if (event.type === 'readable') {
      for (
        let part = event.connection.read(host.host.now());
        part;
        part = event.connection.read(host.host.now())
      ) {
        this.bytes += part.length
        for (const byte of part) this.hash = (Math.imul(this.hash, 31) + byte) | 0
      }
    } else if (event.type === 'ended') {
      this.ended = true
      event.connection.end(host.host.now())
    }
  }
}

/** Writes `size` bytes (or for ever), as fast as the connection takes them, then ends. */
export class Source {
  /** Of what was taken. */
  hash = 0
  #left: number
  #n = 0
  #block: Uint8Array = new Uint8Array(0)

  constructor(size = Infinity) {
    this.#left = size
  }

  pump(host: Pick<UtpHost, 'host'>, connection: UtpConnection): void {
    while (this.#left > 0) {
      if (this.#block.length === 0) this.#block = this.#more(Math.min(this.#left, 65_536))
      const taken = connection.write(host.host.now(), this.#block)
      this.#block = this.#block.subarray(taken)
      this.#left -= taken
      if (this.#block.length > 0) return
    }
    connection.end(host.host.now())
  }

  #more(size: number): Uint8Array {
    const block = new Uint8Array(size)
    for (let i = 0; i < size; i++) {
      const byte = (this.#n = (Math.imul(this.#n, 1_664_525) + 1_013_904_223) >>> 0) >>> 24
      block[i] = byte
      this.hash = (Math.imul(this.hash, 31) + byte) | 0
    }
    return block
  }
}

export interface Transfer {
  readonly seconds: number
  readonly intact: boolean
  readonly trace: string
  readonly retransmissions: number
  readonly packets: number
}

/** One direction, `size` bytes, over a link; runs to the end in virtual time. */
export function transfer(
  seed: number,
  size: number,
  link: LinkOptions,
  connection: UtpConnectionOptions = {},
  limit: Micros = 3_000 * SECOND,
): Transfer {
  const world = new World({ seed })
  const a = new UtpHost(world.host('a', { addresses: ['192.0.2.1'], clock: { offset: 5_000_000_000 } }))
  const b = new UtpHost(world.host('b', { addresses: ['192.0.2.2'] }))
  world.link(a.host, b.host, link)
  const source = new Source(size)
  const sink = new Sink()
  let retransmissions = 0
  let packets = 0
  let closed = false
  b.onEvent = (event) => sink.handle(b, event)
  a.onEvent = (event) => {
    if (event.type === 'connected' || event.type === 'writable') source.pump(a, event.connection)
    if (event.type === 'closed') closed = true
    if (event.type === 'ended') {
      retransmissions = event.connection.stats.retransmissions
      packets = event.connection.stats.packetsSent
    }
  }
  let start = world.now
  const connect = (): void => {
    start = world.now
    a.machine.connect(a.host.now(), b.path, { connectTimeout: 1_000 * SECOND, ...connection })
    a.wake()
  }
  world.at(0, connect)
  world.run(() => closed, limit)
  return {
    seconds: (world.now - start) / SECOND,
    intact: sink.ended && sink.bytes === size && sink.hash === source.hash,
    trace: world.trace.hash,
    retransmissions,
    packets,
  }
}

/**
 * A model of TCP Reno (RFC 5681) without its bytes: slow start, congestion avoidance, one halving a round trip, a
 * timeout. Good enough to be yielded to.
 */
export class RenoFlow {
  delivered = 0
  readonly #from: SimSocket
  readonly #world: World
  readonly #to: { address: string; port: number }
  #window = 10
  #threshold = Infinity
  #next = 0
  #acked = 0
  #recover = -1
  #got = new Set<number>()
  #sackedBeyond = 0
  #timeoutAt: Micros = 0

  constructor(world: World, from: Host, to: Host, port: number) {
    this.#world = world
    this.#from = from.bind({ port })
    this.#to = { address: to.addresses[0]!, port }
    const back = { address: from.addresses[0]!, port }
    const receiver = to.bind({ port })
    let expected = 0
    receiver.onMessage = (data) => {
      const sequence = Buffer.from(data).readUInt32BE(0)
      if (sequence >= expected) this.#got.add(sequence)
      while (this.#got.delete(expected)) expected++
      this.delivered = expected * 1_460
      const ack = Buffer.alloc(40)
      ack.writeUInt32BE(expected, 0)
      ack.writeUInt32BE(this.#got.size, 4)
      receiver.send(ack, back)
    }
    this.#from.onMessage = (data) => {
      const bytes = Buffer.from(data)
      this.#onAck(bytes.readUInt32BE(0), bytes.readUInt32BE(4))
    }
  }

  start(at: Micros): void {
    this.#world.at(at, () => this.#send())
  }

  #onAck(acked: number, beyond: number): void {
    if (acked > this.#acked) {
      const news = acked - this.#acked
      this.#acked = acked
      if (this.#next < acked) this.#next = acked
      if (acked > this.#recover) {
        this.#recover = -1
        for (let i = 0; i < news; i++) this.#window += this.#window < this.#threshold ? 1 : 1 / this.#window
      } else {
        // A partial ack (RFC 6582): the next one was lost too.
        this.#transmit(acked)
      }
      this.#arm()
    }
    this.#sackedBeyond = beyond
    if (beyond >= 3 && this.#recover < 0) {
      this.#recover = this.#next
      this.#threshold = this.#window = Math.max(2, this.#window / 2)
      this.#transmit(this.#acked)
    }
    this.#send()
  }

  #send(): void {
    while (this.#next - this.#acked - this.#sackedBeyond < this.#window) this.#transmit(this.#next++)
    if (this.#timeoutAt === 0) this.#arm()
  }

  #transmit(sequence: number): void {
    const data = Buffer.alloc(1_472)
    data.writeUInt32BE(sequence, 0)
    this.#from.send(data, this.#to)
  }

  #arm(): void {
    const at = (this.#timeoutAt = this.#world.now + SECOND)
    this.#world.at(at, () => {
      if (this.#timeoutAt !== at) return
      this.#threshold = Math.max(2, this.#window / 2)
      this.#window = 1
      this.#next = this.#acked
      this.#recover = -1
      this.#sackedBeyond = 0
      this.#send()
      this.#arm()
    })
  }
}

export interface Flow {
  connection: UtpConnection | undefined
  readonly source: Source
  readonly sink: Sink
}

/**
 * Hosts wired to each other through one bottleneck of 40 ms round trip; one uTP connection for each name in
 * `congestion`, started 1 s apart.
 */
export function bottleneck(
  seed: number,
  rate: number,
  queueBytes: number,
  congestion: readonly CongestionName[],
  ppm = 0,
  loss = 0,
): { world: World; left: UtpHost['host']; right: UtpHost['host']; flows: Flow[] } {
  const world = new World({ seed })
  const left = world.host('left', { addresses: ['192.0.2.1'], clock: { ppm } })
  const right = world.host('right', { addresses: ['192.0.2.2'], clock: { offset: 3_333_333_333 } })
  world.link(left, right, { delay: 20_000, rate, queue: { bytes: queueBytes }, loss })
  const a = new UtpHost(left)
  const b = new UtpHost(right)
  const started = congestion.map((name, n) =>
    startFlow(world, a, b, new Source(), n * SECOND, { congestion: name }),
  )
  return { world, left, right, flows: started }
}

/** The flows of one pair of hosts tell their ends apart by the order of connecting. */
export function startFlow(
  world: World,
  a: UtpHost,
  b: UtpHost,
  source: Source,
  at = 0,
  options: UtpConnectionOptions = {},
): Flow {
  const flow: Flow = { connection: undefined, source, sink: new Sink() }
  let theirs: UtpConnection | undefined
  const earlierA = a.onEvent
  const earlierB = b.onEvent
  a.onEvent = (event) => {
    if (event.connection !== flow.connection) earlierA(event)
    else if (event.type === 'connected' || event.type === 'writable') source.pump(a, event.connection)
  }
  b.onEvent = (event) => {
    if (event.type === 'incoming' && theirs === undefined && world.now >= at) theirs = event.connection
    if (event.connection === theirs) flow.sink.handle(b, event)
    else earlierB(event)
  }
  world.at(at, () => {
    flow.connection = a.machine.connect(a.host.now(), b.path, options)
    a.wake()
  })
  return flow
}
