import {
  UtpMachine,
  type UtpConnection,
  type UtpEvent,
  type UtpMachineOptions,
} from '../../../src/utp/index.ts'
import type { Path, Rng } from '../../../src/core/index.ts'

/** xorshift128: the same numbers for the same seed everywhere. */
export function seededRng(seed: number): Rng {
  let x = seed | 1
  let y = 0x9e3779b9
  let z = 0x7f4a7c15
  let w = 0x2545f491 ^ seed
  const uint32 = (): number => {
    const t = x ^ (x << 11)
    x = y
    y = z
    z = w
    w = w ^ (w >>> 19) ^ t ^ (t >>> 8)
    return w >>> 0
  }
  for (let i = 0; i < 16; i++) uint32()
  return {
    uint32,
    fill(bytes) {
      for (let i = 0; i < bytes.length; i++) bytes[i] = uint32() & 0xff
    },
  }
}

export interface Wire {
  /** µs one way. */
  delay: number
  /** What happens to a datagram: nothing (lost), or the delays after which copies of it arrive. */
  fate?: (from: 'a' | 'b', bytes: Uint8Array, now: number) => number[]
}

interface InAir {
  at: number
  order: number
  to: Side
  bytes: Uint8Array
  path: Path
}

export class Side {
  readonly machine: UtpMachine
  readonly events: UtpEvent[] = []
  readonly received = new Map<UtpConnection, Uint8Array[]>()
  /** The application reads what it can as soon as it can. */
  reading = true
  readonly path: Path
  readonly name: 'a' | 'b'
  readonly #seen = new Set<string>()

  constructor(name: 'a' | 'b', path: Path, options: UtpMachineOptions) {
    this.name = name
    this.path = path
    this.machine = new UtpMachine(options)
  }

  bytesOf(connection: UtpConnection): Uint8Array {
    return Buffer.concat(this.received.get(connection) ?? [])
  }

  types(connection?: UtpConnection): string[] {
    return this.events
      .filter((event) => connection === undefined || event.connection === connection)
      .map((event) => event.type)
  }

  /** Cheap enough to be asked after every step. */
  had(type: UtpEvent['type']): boolean {
    return this.#seen.has(type)
  }

  note(event: UtpEvent): void {
    this.events.push(event)
    this.#seen.add(event.type)
  }

  last(type: UtpEvent['type']): UtpEvent {
    const event = this.events.findLast((one) => one.type === type)
    if (event === undefined) throw new Error(`${this.name} has had no ${type} event`)
    return event
  }

  read(now: number, connection: UtpConnection): void {
    for (let bytes = connection.read(now); bytes !== undefined; bytes = connection.read(now)) {
      const list = this.received.get(connection) ?? []
      list.push(bytes)
      this.received.set(connection, list)
    }
  }
}

/** Two machines and a wire between them, in virtual time. */
export class Pair {
  now = 1_000_000
  readonly a: Side
  readonly b: Side
  wire: Wire
  sent: { from: 'a' | 'b'; at: number; bytes: Uint8Array; to: Path }[] = []
  /** Whether `sent` is kept. */
  keepSent = true
  #air: InAir[] = []
  #order = 0
  /** The path by which `to` sees what `from` sends on `path`; undefined when that leads nowhere. */
  route: (from: Side, path: Path) => Path | undefined = (from) => from.path
  onEvent: (side: Side, event: UtpEvent) => void = () => undefined

  constructor(
    wire: Wire = { delay: 10_000 },
    options: { a?: Partial<UtpMachineOptions>; b?: Partial<UtpMachineOptions>; seed?: number } = {},
  ) {
    const seed = options.seed ?? 1
    this.wire = wire
    this.a = new Side(
      'a',
      { remote: { address: '192.0.2.1', port: 1001 } },
      { rng: seededRng(seed), ...options.a },
    )
    this.b = new Side(
      'b',
      { remote: { address: '192.0.2.2', port: 1002 } },
      { rng: seededRng(seed + 77), ...options.b },
    )
  }

  /** Connects a to b, waits until both know it, and returns both ends. */
  connected(options?: Parameters<UtpMachine['connect']>[2]): [UtpConnection, UtpConnection] {
    const ours = this.a.machine.connect(this.now, this.b.path, options)
    this.run(() => this.b.had('incoming'))
    return [ours, this.b.last('incoming').connection]
  }

  /** Sends and tells all that the machines have to send and tell. */
  drain(): void {
    for (let again = true; again;) {
      again = this.#drain(this.a, this.b)
      again = this.#drain(this.b, this.a) || again
    }
  }

  /** Lets time pass until `done`, or for `limit` µs; throws when `done` never holds. */
  run(done: () => boolean, limit = 600_000_000): void {
    const end = this.now + limit
    this.drain()
    while (!done()) {
      if (!this.step(end)) throw new Error(`nothing happens any more at ${this.now} µs`)
    }
  }

  /** Lets `duration` µs pass. */
  pass(duration: number): void {
    const end = this.now + duration
    this.drain()
    while (this.step(end));
    this.now = end
  }

  /** The next thing that happens, unless it is after `end`. */
  step(end: number): boolean {
    const arrival = this.#nextArrival()
    const at = Math.min(arrival?.at ?? Infinity, this.#deadline(this.a), this.#deadline(this.b))
    if (at > end) return false
    this.now = Math.max(this.now, at)
    if (arrival !== undefined && arrival.at <= this.now) {
      this.#air.splice(this.#air.indexOf(arrival), 1)
      arrival.to.machine.handleDatagram(this.now, arrival.path, arrival.bytes)
    }
    for (const side of [this.a, this.b])
      if (this.#deadline(side) <= this.now) side.machine.handleTimeout(this.now)
    this.drain()
    return true
  }

  /** `bytes` arrive at `side` from `path` now. */
  inject(side: Side, path: Path, bytes: Uint8Array): void {
    side.machine.handleDatagram(this.now, path, bytes)
    this.drain()
  }

  #deadline(side: Side): number {
    return side.machine.pollTimeout()?.at ?? Infinity
  }

  #nextArrival(): InAir | undefined {
    let first: InAir | undefined
    for (const one of this.#air) {
      if (first === undefined || one.at < first.at || (one.at === first.at && one.order < first.order))
        first = one
    }
    return first
  }

  #drain(side: Side, other: Side): boolean {
    let any = false
    for (
      let out = side.machine.pollTransmit(this.now);
      out !== undefined;
      out = side.machine.pollTransmit(this.now)
    ) {
      any = true
      const bytes = out.data.slice()
      if (this.keepSent) this.sent.push({ from: side.name, at: this.now, bytes, to: out.path })
      const path = this.route(side, out.path)
      if (path === undefined) continue
      const delays = this.wire.fate?.(side.name, bytes, this.now) ?? [this.wire.delay]
      for (const delay of delays) {
        this.#air.push({ at: this.now + delay, order: this.#order++, to: other, bytes, path })
      }
    }
    for (let event = side.machine.pollEvent(); event !== undefined; event = side.machine.pollEvent()) {
      any = true
      side.note(event)
      if (event.type === 'readable' && side.reading) side.read(this.now, event.connection)
      this.onEvent(side, event)
    }
    return any
  }
}

export function pattern(size: number, seed = 7): Uint8Array {
  const bytes = new Uint8Array(size)
  seededRng(seed).fill(bytes)
  return bytes
}

/** Writes all of `bytes` whenever the connection has room. Call the result until it returns true. */
export function writer(connection: UtpConnection, bytes: Uint8Array): (now: number) => boolean {
  let at = 0
  return (now) => {
    if (at < bytes.length) at += connection.write(now, bytes.subarray(at))
    return at === bytes.length
  }
}
