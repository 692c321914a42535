import type { Micros } from '../core/machine.ts'
import { SECOND } from '../core/machine.ts'
import { UsageError } from '../core/errors.ts'
import { systemRng } from '../core/ports.ts'
import type { Device, Interface } from './device.ts'
import { EventQueue } from './events.ts'
import { Host } from './host.ts'
import type { HostOptions } from './host.ts'
import { Internet } from './internet.ts'
import { Link, Pipe } from './link.ts'
import type { LinkOptions } from './link.ts'
import type { RouterSpec } from './kinds.ts'
import { canonicalAddress } from './packet.ts'
import { Router } from './router.ts'
import { SimRng } from './rng.ts'
import { buildSite, OUTER } from './site.ts'
import type { Site, SiteOptions } from './site.ts'
import { Trace } from './trace.ts'

export interface WorldOptions {
  /** 0–4294967295. The whole run follows from it. Absent: a fresh one, kept in `world.seed`. */
  readonly seed?: number
  /** Keep every step of every packet in `world.trace.entries`. Default: false. */
  readonly trace?: boolean
}

export interface WireOptions extends LinkOptions {
  /** How the way back differs, where it does. */
  readonly back?: LinkOptions
  /** The addresses of the lower device on this wire; a host's own by default. */
  readonly addresses?: readonly string[]
}

/**
 * A network in virtual time. Nothing happens until `run`, nothing takes real time, and the same seed gives the same
 * run, packet by packet.
 */
export class World {
  readonly seed: number
  readonly trace: Trace
  /** The public core that hosts and sites hang on. */
  readonly internet: Internet
  readonly #rng: SimRng
  readonly #events = new EventQueue()
  readonly #devices = new Map<string, Device>()
  readonly #hostAddresses = new Map<Host, readonly string[]>()
  #now: Micros = 0
  #packets = 0
  #sites = 0
  readonly #taken = new Map<string, number>()

  constructor(options: WorldOptions = {}) {
    this.seed = options.seed ?? systemRng.uint32()
    this.#rng = new SimRng(this.seed)
    this.trace = new Trace(options.trace ?? false)
    this.internet = this.#add(new Internet('internet', 0, this.trace))
  }

  /** Microseconds since the world began. */
  get now(): Micros {
    return this.#now
  }

  /** Events that have happened: what a run costs. */
  get events(): number {
    return this.#events.fired
  }

  /** A stream of randomness that belongs to `name` alone. */
  rng(name: string): SimRng {
    return this.#rng.split(name)
  }

  /** A host that is wired to nothing yet: see {@link World.link} and {@link World.publicHost}. */
  host(name: string, options: HostOptions): Host {
    const addresses = options.addresses.map(canonicalAddress)
    const host = this.#add(
      new Host(name, this.#devices.size, options, {
        trace: this.trace,
        events: this.#events,
        rng: this.rng(`host ${name}`),
        now: () => this.#now,
        nextId: () => ++this.#packets,
      }),
    )
    this.#hostAddresses.set(host, addresses)
    return host
  }

  /** A host on the internet. */
  publicHost(name: string, options: HostOptions & { readonly link?: WireOptions }): Host {
    const host = this.host(name, options)
    this.link(host, this.internet, options.link)
    return host
  }

  /** A router that is wired to nothing yet. {@link World.site} makes whole homes of them. */
  router(name: string, spec: RouterSpec): Router {
    return this.#add(new Router(name, this.#devices.size, spec, this.trace, this.rng(`router ${name}`)))
  }

  /** A client behind the routers of a kind, on the internet, with addresses of its own. */
  site(name: string, options: SiteOptions): Site {
    return buildSite(this, name, ++this.#sites, options)
  }

  /** @internal the next free address of a documentation range (RFC 5737), then of the benchmarking one (RFC 2544) */
  nextAddress(range: string): string {
    const taken = (this.#taken.get(range) ?? 0) + 1
    this.#taken.set(range, taken)
    if (taken <= 254) return `${range}.${taken}`
    const more = taken - 255
    return `198.${range === OUTER ? 18 : 19}.${more >> 8}.${more & 255}`
  }

  /**
   * Wires `lower` (nearer to the client) to `upper` (nearer to the core): the lower one's default route leads up, and
   * those above learn the addresses below. Two hosts may be wired to each other directly.
   */
  link(lower: Device, upper: Device, options: WireOptions = {}): Link {
    const { back, addresses, ...forth } = options
    const own = addresses?.map(canonicalAddress) ?? this.#firstAddresses(lower)
    const a = attach(lower, upper, own)
    const b = attach(upper, lower, upper.interfaces.length === 0 ? this.#firstAddresses(upper) : [])
    const name = `link ${lower.name} ${upper.name} ${lower.interfaces.length}`
    a.pipe = new Pipe(forth, b, this.#events, this.trace, this.rng(name))
    b.pipe = new Pipe({ ...forth, ...back }, a, this.#events, this.trace, this.rng(`${name} back`))
    lower.uplink ??= a
    if (upper instanceof Host) upper.uplink ??= b
    else upper.learn(new Set([...lower.reachable()]), b)
    return new Link(a, b, a.pipe, b.pipe)
  }

  /** Calls `what` at a time of the world (not before now). */
  at(time: Micros, what: () => void): void {
    this.#events.push(Math.max(time, this.#now), { fire: what }, undefined)
  }

  /**
   * Runs until nothing is left to do, until a time of the world, or until `until()` is true after some event.
   *
   * @param limit With a condition: give up so many microseconds from now (default: 60 s).
   * @returns whether the condition came true (always true without one).
   * @throws {UsageError} `ERR_NATWORK_SIM_ENDLESS` when it would run on for ever: without a time or a condition the
   *   run may not pass an hour of the world.
   */
  run(until?: Micros | (() => boolean), limit: Micros = 60 * SECOND): boolean {
    if (typeof until === 'function') return this.#runUntil(until, this.#now + limit)
    const end = until ?? this.#now + 3600 * SECOND
    this.#runTo(end)
    if (until !== undefined) this.#now = Math.max(this.#now, until)
    else if (this.#events.size > 0) {
      throw new UsageError(
        'ERR_NATWORK_SIM_ENDLESS',
        'the world is still busy after an hour of its time: give run() a time or a condition',
      )
    }
    return true
  }

  /** Runs for so many microseconds of the world. */
  runFor(duration: Micros): void {
    this.run(this.#now + duration)
  }

  #runTo(end: Micros): void {
    for (let at = this.#events.nextAt; at <= end && at !== Infinity; at = this.#events.nextAt) {
      this.#now = at
      this.#events.fireNext()
    }
  }

  #runUntil(isDone: () => boolean, end: Micros): boolean {
    if (isDone()) return true
    for (let at = this.#events.nextAt; at <= end && at !== Infinity; at = this.#events.nextAt) {
      this.#now = at
      this.#events.fireNext()
      if (isDone()) return true
    }
    this.#now = end
    return false
  }

  #firstAddresses(device: Device): readonly string[] {
    return device instanceof Host && device.interfaces.length === 0
      ? (this.#hostAddresses.get(device) ?? [])
      : []
  }

  #add<D extends Device>(device: D): D {
    if (this.#devices.has(device.name)) {
      throw new UsageError('ERR_NATWORK_SIM_NAME', `the world has a device called "${device.name}" already`)
    }
    this.#devices.set(device.name, device)
    return device
  }
}

function attach(device: Device, peer: Device, addresses: readonly string[]): Interface {
  const at: Interface = { device, addresses: [...addresses], pipe: undefined, peer }
  device.interfaces.push(at)
  return at
}
