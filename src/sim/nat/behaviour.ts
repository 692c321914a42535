import type { SocketAddress } from '../../core/address.ts'
import { UsageError } from '../../core/errors.ts'
import type { Micros } from '../../core/machine.ts'
import { SECOND } from '../../core/machine.ts'
import { FIRST_PORT, LAST_PORT, PORT_BLOCK } from '../kinds.ts'
import type { Behaviour, Dependence } from '../kinds.ts'
import type { UdpPacket } from '../packet.ts'
import { hashText } from '../rng.ts'
import type { SimRng } from '../rng.ts'
import { key } from './translator.ts'
import type { Ends, Translator, Verdict } from './translator.ts'

/**
 * A NAT built straight from RFC 4787's words: mapping × filtering × port allocation × lifetime × hairpin × pooling.
 */
export class BehaviourNat implements Translator {
  readonly #behaviour: Behaviour
  readonly #outer: () => readonly string[]
  readonly #rng: SimRng
  readonly #first: number
  readonly #last: number
  readonly #lifetime: Micros
  /** By inner end and what of the remote end the mapping depends on; bounded by {@link MAX_ENTRIES}. */
  readonly #mappings = new Map<string, Mapping>()
  /** By outer end: several when different remotes share a port (`preserving`). */
  readonly #byOuter = new Map<string, Mapping[]>()
  readonly #blocks = new Map<string, number>()
  #lastPort: number

  constructor(behaviour: Behaviour, outer: () => readonly string[], rng: SimRng) {
    this.#behaviour = behaviour
    this.#outer = outer
    this.#rng = rng
    const [first, last] = behaviour.portRange ?? [FIRST_PORT, LAST_PORT]
    if (behaviour.ports === 'fixed' || !(first >= 1 && first <= last && last <= 65535)) {
      throw new UsageError(
        'ERR_NATWORK_SIM_NAT',
        `port allocation ${behaviour.ports} with the range ${first}–${last}: "fixed" needs netfilter rules, and a range lies within 1–65535`,
      )
    }
    this.#first = first
    this.#last = last
    this.#lifetime = behaviour.lifetime * SECOND
    this.#lastPort = rng.between(first, last)
  }

  outbound(now: Micros, packet: UdpPacket): Verdict {
    if (packet.ttl <= 1) return 'ttl'
    const { source, destination } = packet
    const isHairpin = this.#outer().includes(destination.address)
    if (isHairpin && this.#behaviour.hairpin === 'none') return 'no-hairpin'
    const mapping = this.#mappingFor(now, source, destination)
    if (!mapping) return 'no-port'
    mapping.expires = now + this.#lifetime // RFC 4787 §4.3, REQ-6a
    this.#permit(now, mapping, destination)
    const translated = { ...packet, source: mapping.outer }
    if (!isHairpin) return translated
    const back = this.inbound(now, translated)
    if (typeof back === 'string' || this.#behaviour.hairpin === 'external-source') return back
    return { ...back, source }
  }

  inbound(now: Micros, packet: UdpPacket): Verdict {
    if (packet.ttl <= 1) return 'ttl'
    const sharing = this.#live(now, packet.destination)
    if (sharing.length === 0) return 'no-mapping'
    const open = sharing.filter((one) => this.#lets(now, one, packet.source))
    const scope = scopeOf(this.#behaviour.mapping, packet.source)
    const mapping = open.find((one) => one.scope === scope) ?? open[0]
    if (!mapping) return 'filtered'
    if (this.#behaviour.inboundRefresh ?? true) this.#refresh(now, mapping, packet.source)
    return { ...packet, destination: mapping.inner }
  }

  sentFromInside(outside: Ends): Ends | undefined {
    const scope = scopeOf(this.#behaviour.mapping, outside.destination)
    const mapping = this.#byOuter.get(key(outside.source))?.find((one) => one.isStatic || one.scope === scope)
    return mapping && { source: mapping.inner, destination: outside.destination }
  }

  sentFromOutside(inside: Ends): Ends | undefined {
    const mapping = this.#mappings.get(this.#key(inside.destination, inside.source))
    return mapping && { source: inside.source, destination: mapping.outer }
  }

  forwardPort(port: number, inside: SocketAddress | undefined): void {
    const address = this.#outer()[0]
    if (address === undefined) return
    const outer = { address, port }
    this.#byOuter.get(key(outer))?.forEach((one) => this.#delete(one))
    if (inside) {
      const mapping: Mapping = {
        id: `static ${port}`,
        inner: inside,
        outer,
        scope: '',
        isStatic: true,
        expires: Infinity,
      }
      this.#byOuter.set(key(outer), [mapping])
    }
  }

  flush(): void {
    for (const mapping of [...this.#mappings.values()]) this.#delete(mapping)
    this.#blocks.clear()
  }

  #mappingFor(now: Micros, inner: SocketAddress, remote: SocketAddress): Mapping | undefined {
    const id = this.#key(inner, remote)
    const known = this.#mappings.get(id)
    if (known && known.expires > now) return known
    if (known) this.#delete(known)
    if (this.#mappings.size >= MAX_ENTRIES) this.#sweep(now)
    if (this.#mappings.size >= MAX_ENTRIES) return undefined
    const scope = scopeOf(this.#behaviour.mapping, remote)
    const outer = this.#allocate(now, inner, scope)
    if (!outer) return undefined
    const mapping: Mapping = { id, inner, outer, scope, isStatic: false, expires: 0 }
    if (this.#behaviour.filtering !== 'endpoint-independent') mapping.permitted = new Map()
    this.#mappings.set(id, mapping)
    const sharing = this.#byOuter.get(key(outer))
    if (sharing) sharing.push(mapping)
    else this.#byOuter.set(key(outer), [mapping])
    return mapping
  }

  #allocate(now: Micros, inner: SocketAddress, scope: string): SocketAddress | undefined {
    const address = this.#pool(inner)
    if (address === undefined) return undefined
    const free = (port: number): SocketAddress | undefined => {
      const at = { address, port }
      return this.#live(now, at).length === 0 ? at : undefined
    }
    switch (this.#behaviour.ports) {
      case 'preserving': {
        const own = { address, port: inner.port }
        const isTaken = this.#live(now, own).some(
          (one) => one.scope === scope || one.isStatic || key(one.inner) !== key(inner),
        )
        return isTaken ? this.#anyOf(this.#first, this.#last, free) : own
      }
      case 'sequential':
        return this.#next(free)
      case 'block': {
        const first = this.#blockOf(inner.address)
        return first === undefined ? undefined : this.#anyOf(first, first + PORT_BLOCK - 1, free)
      }
      case 'random':
      case 'fixed': // refused by the constructor
        return this.#anyOf(this.#first, this.#last, free)
    }
  }

  /** RFC 4787 §4.1: "paired" gives a client always the same external address. */
  #pool(inner: SocketAddress): string | undefined {
    const pool = this.#outer()
    if (pool.length <= 1) return pool[0]
    const isPaired = (this.#behaviour.pooling ?? 'paired') === 'paired'
    return pool[isPaired ? hashText(inner.address, 0) % pool.length : this.#rng.between(0, pool.length - 1)]
  }

  #anyOf(first: number, last: number, free: Free): SocketAddress | undefined {
    for (let tries = 0; tries < 32; tries++) {
      const at = free(this.#rng.between(first, last))
      if (at) return at
    }
    // Nearly full: look at every port once, from a random one on.
    const count = last - first + 1
    const start = this.#rng.between(0, count - 1)
    for (let i = 0; i < count; i++) {
      const at = free(first + ((start + i) % count))
      if (at) return at
    }
    return undefined
  }

  #next(free: Free): SocketAddress | undefined {
    const count = this.#last - this.#first + 1
    const step = this.#behaviour.step ?? 1
    for (let i = 0; i < count; i++) {
      this.#lastPort = this.#first + ((this.#lastPort - this.#first + step) % count)
      const at = free(this.#lastPort)
      if (at) return at
    }
    return undefined
  }

  /** The first port of the client's own block (RFC 6888 §5, REQ-14): blocks are aligned, and nobody shares one. */
  #blockOf(client: string): number | undefined {
    const known = this.#blocks.get(client)
    if (known !== undefined) return known
    const taken = new Set(this.#blocks.values())
    const blocks: number[] = []
    for (
      let at = Math.ceil(this.#first / PORT_BLOCK) * PORT_BLOCK;
      at + PORT_BLOCK - 1 <= this.#last;
      at += PORT_BLOCK
    ) {
      if (!taken.has(at)) blocks.push(at)
    }
    const block = blocks[this.#rng.between(0, blocks.length - 1)]
    if (block !== undefined) this.#blocks.set(client, block)
    return block
  }

  #lets(now: Micros, mapping: Mapping, remote: SocketAddress): boolean {
    if (mapping.isStatic || !mapping.permitted) return true
    return (mapping.permitted.get(scopeOf(this.#behaviour.filtering, remote)) ?? 0) > now
  }

  #refresh(now: Micros, mapping: Mapping, remote: SocketAddress): void {
    if (mapping.isStatic) return
    mapping.expires = now + this.#lifetime
    this.#permit(now, mapping, remote)
  }

  #permit(now: Micros, { permitted, expires }: Mapping, remote: SocketAddress): void {
    if (!permitted) return
    const scope = scopeOf(this.#behaviour.filtering, remote)
    if (permitted.size >= MAX_ENTRIES && !permitted.has(scope)) {
      for (const [one, until] of permitted) if (until <= now) permitted.delete(one)
      if (permitted.size >= MAX_ENTRIES) return
    }
    permitted.set(scope, expires)
  }

  #sweep(now: Micros): void {
    for (const one of [...this.#mappings.values()]) if (one.expires <= now) this.#delete(one)
  }

  #live(now: Micros, outer: SocketAddress): readonly Mapping[] {
    const all = this.#byOuter.get(key(outer))
    if (!all) return NONE
    for (const one of all) {
      if (one.expires > now) continue
      this.#delete(one)
      return this.#live(now, outer)
    }
    return all
  }

  #delete(mapping: Mapping): void {
    if (this.#mappings.get(mapping.id) === mapping) this.#mappings.delete(mapping.id)
    const left = (this.#byOuter.get(key(mapping.outer)) ?? []).filter((one) => one !== mapping)
    if (left.length > 0) this.#byOuter.set(key(mapping.outer), left)
    else this.#byOuter.delete(key(mapping.outer))
  }

  #key(inner: SocketAddress, remote: SocketAddress): string {
    return `${key(inner)} ${scopeOf(this.#behaviour.mapping, remote)}`
  }
}

/** Mappings of a NAT, and remote ends let in by one mapping: what is expired makes room, then nothing new is taken. */
const MAX_ENTRIES = 65_536

interface Mapping {
  /** Its key among the mappings. */
  readonly id: string
  readonly inner: SocketAddress
  readonly outer: SocketAddress
  /** What of the remote end the mapping is for: '' for all. */
  readonly scope: string
  /** A forwarded port: open to everybody, for ever. */
  readonly isStatic: boolean
  /** Remote ends (or addresses) let in, and until when; absent where everybody is. */
  permitted?: Map<string, Micros>
  expires: Micros
}

type Free = (port: number) => SocketAddress | undefined

const NONE: readonly Mapping[] = []

function scopeOf(dependence: Dependence, remote: SocketAddress): string {
  switch (dependence) {
    case 'endpoint-independent':
      return ''
    case 'address-dependent':
      return remote.address
    case 'address-and-port-dependent':
      return key(remote)
  }
}
