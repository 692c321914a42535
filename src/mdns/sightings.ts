import { familyOf, sameAddress, type SocketAddress } from '../core/address.ts'
import { SECOND, type Micros } from '../core/machine.ts'
import type { Rng } from '../core/ports.ts'
import { scopeOf } from '../core/scope.ts'
import { ADDRESS_TTL, NAME_TTL, type Saying } from './message.ts'

/** Nodes that are remembered; whoever is looked for has a place in any case. */
const MAX_NODES = 256
/** Who speaks for a node is seldom more than two, itself by IPv4 and by IPv6; anybody may claim to. */
const MAX_SOURCES = 8
/** Addresses of a node that are worth trying, the likeliest first. */
const MAX_PLACES = 16

/** An interface of this machine, with one family of addresses. One object is one link: another is another. */
export interface Link {
  /** The interface's name, or what names it in a zone (RFC 4007 §11). */
  readonly zone: string
  readonly family: 4 | 6
  /** Whether who has this address is on the link. */
  isNear(address: string): boolean
}

/** One that says where a node is. */
interface Source {
  readonly link: Link
  readonly places: readonly SocketAddress[]
  readonly heard: Micros
  readonly expires: Micros
  /** To be asked for again (RFC 6762 §5.2). */
  refresh: Micros
}

/** A node of this network. */
export interface Sighting {
  readonly label: string
  readonly places: readonly SocketAddress[]
}

/**
 * What was said on all links about where nodes are. Nothing here is proven: whoever is on the link may say anything. Bounded
 * by {@link MAX_NODES}, {@link MAX_SOURCES}, the eight addresses of a message, and two minutes from the last time that it was
 * said.
 */
export class Sightings {
  readonly #isLabel: (label: string) => boolean
  readonly #rng: Rng
  readonly #own: string
  readonly #nodes = new Map<string, Map<string, Source>>()
  /** How often each is looked for now. Bounded by the calls of `want`. */
  readonly #wanted = new Map<string, number>()
  /** Grows whenever a node has come or gone, or is at other places. */
  version = 0

  /** @param own what is said about this one is not remembered. */
  constructor(own: string, isLabel: (label: string) => boolean, rng: Rng) {
    this.#own = own
    this.#isLabel = isLabel
    this.#rng = rng
  }

  get all(): Sighting[] {
    return [...this.#nodes.keys()].map((label) => ({ label, places: this.placesOf(label) }))
  }

  /** Where a node may be. What its speaker has for itself comes first, and of that what was said last. */
  placesOf(label: string): SocketAddress[] {
    const sources = [...(this.#nodes.get(label)?.entries() ?? [])].sort(([, a], [, b]) => b.heard - a.heard)
    const own = sources.flatMap(([from, { places }]) => places.filter(({ address }) => address === from))
    const all = [...own, ...sources.flatMap(([, { places }]) => places)]
    return all
      .filter((one, index) => all.findIndex((other) => sameAddress(one, other)) === index)
      .slice(0, MAX_PLACES)
  }

  /** Keeps a place for one that is looked for, until the function that it returns is called. */
  want(label: string): () => void {
    this.#wanted.set(label, (this.#wanted.get(label) ?? 0) + 1)
    return () => {
      const left = (this.#wanted.get(label) ?? 1) - 1
      if (left === 0) this.#wanted.delete(label)
      else this.#wanted.set(label, left)
    }
  }

  /** @param from the address, with its zone, of whoever says it. */
  hear(now: Micros, link: Link, from: string, { label, port, addresses, ttl }: Saying): void {
    if (label === this.#own || !this.#isLabel(label)) return
    const sources = this.#nodes.get(label)
    // A good-bye takes back only what the same one said: others may still see the node.
    if (ttl === 0) {
      if (sources?.delete(from) !== true) return
      if (sources.size === 0) this.#nodes.delete(label)
      this.version++
      return
    }
    // An address elsewhere is no business of this network's: strangers could have us knock anywhere.
    const near = addresses.filter((one) => scopeOf(one) !== 'none' && link.isNear(one))
    const places = near.map((one) => placeOn(link.zone, one, port))
    if (places.length === 0) return
    const node = sources ?? this.#place(label)
    if (node === undefined) return
    const before = node.get(from)
    node.delete(from)
    // Whoever spoke first goes first: a node that is asked for answers last, however many have spoken for it before.
    const [first] = node.keys()
    if (first !== undefined && node.size >= MAX_SOURCES) node.delete(first)
    // Believed no longer than what we say ourselves: nobody needs more.
    const lifetime = Math.min(ttl, ADDRESS_TTL) * SECOND
    node.set(from, {
      ...{ link, places, heard: now, expires: now + lifetime },
      refresh: now + Math.floor(lifetime * (0.8 + (this.#rng.uint32() / 2 ** 32) * 0.02)),
    })
    if (before === undefined || !isEqual(before.places, places)) this.version++
  }

  /** Whom nobody on this link needs to name, for so many seconds: who was heard in the first half of their time. */
  knownOn(now: Micros, link: Link): { label: string; remaining: number }[] {
    return [...this.#nodes].flatMap(([label, sources]) => {
      const fresh = [...sources.values()].filter(
        (one) => one.link === link && now - one.heard < one.expires - now,
      )
      const age = Math.min(...fresh.map(({ heard }) => now - heard))
      return fresh.length > 0 ? [{ label, remaining: NAME_TTL - Math.floor(age / SECOND) }] : []
    })
  }

  /** When somebody on this link is to be asked for again. */
  refreshAt(link: Link): Micros | undefined {
    let earliest: Micros | undefined
    for (const sources of this.#nodes.values()) {
      for (const source of sources.values()) {
        if (source.link !== link || source.refresh >= source.expires) continue
        earliest = Math.min(earliest ?? source.refresh, source.refresh)
      }
    }
    return earliest
  }

  /**
   * They were asked for just now, except `known`: again after a tenth of their time, until it is over.
   *
   * @returns whether it was time for any of them.
   */
  asked(now: Micros, link: Link, known: ReadonlySet<string> = new Set()): boolean {
    let isAny = false
    for (const [label, sources] of this.#nodes) {
      if (known.has(label)) continue
      for (const source of sources.values()) {
        if (source.link !== link || source.refresh > now) continue
        source.refresh = now + Math.floor((source.expires - source.heard) / 10)
        isAny = true
      }
    }
    return isAny
  }

  get nextExpiry(): Micros | undefined {
    const all = [...this.#nodes.values()].flatMap((sources) => [...sources.values()])
    return all.length === 0 ? undefined : Math.min(...all.map(({ expires }) => expires))
  }

  expire(now: Micros): void {
    this.#forget((source) => source.expires <= now)
  }

  /** The link is gone. */
  forgetLink(link: Link): void {
    this.#forget((source) => source.link === link)
  }

  #forget(isOver: (source: Source) => boolean): void {
    for (const [label, sources] of this.#nodes) {
      for (const [from, source] of sources) {
        if (!isOver(source)) continue
        sources.delete(from)
        this.version++
      }
      if (sources.size === 0) this.#nodes.delete(label)
    }
  }

  /** Room for one more node; undefined when there is none. One that is looked for takes that of another. */
  #place(label: string): Map<string, Source> | undefined {
    if (this.#nodes.size >= MAX_NODES) {
      if (!this.#wanted.has(label)) return undefined
      for (const other of this.#nodes.keys()) {
        if (this.#wanted.has(other)) continue
        this.#nodes.delete(other)
        break
      }
    }
    const sources = new Map<string, Source>()
    this.#nodes.set(label, sources)
    return sources
  }
}

/** RFC 4007 §11: an IPv6 link-local address means something together with its link alone. */
function placeOn(zone: string, address: string, port: number): SocketAddress {
  const needsZone = familyOf(address) === 6 && scopeOf(address) === 'link-local'
  return { address: needsZone ? `${address}%${zone}` : address, port }
}

function isEqual(some: readonly SocketAddress[], others: readonly SocketAddress[]): boolean {
  return some.length === others.length && some.every((one, n) => sameAddress(one, others[n] ?? NOWHERE))
}

const NOWHERE: SocketAddress = { address: '', port: 0 }
