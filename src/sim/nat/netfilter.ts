import type { SocketAddress } from '../../core/address.ts'
import type { Micros } from '../../core/machine.ts'
import { SECOND } from '../../core/machine.ts'
import { DMZ_PORT, FIRST_PORT, LAST_PORT, LINUX_TIMEOUT, LINUX_TIMEOUT_STREAM } from '../kinds.ts'
import type { NetfilterRules } from '../kinds.ts'
import type { UdpPacket } from '../packet.ts'
import type { SimRng } from '../rng.ts'
import { key } from './translator.ts'
import type { Ends, Translator, Verdict } from './translator.ts'

export interface NetfilterAddresses {
  /** The router's own, on its outer wire. */
  readonly outer: () => readonly string[]
  /** AGENT_HOST and AGENT_PORT of the rules. */
  readonly agent: () => SocketAddress | undefined
}

/**
 * Linux as a NAT: a model of nf_conntrack and nf_nat for UDP. A flow is two tuples, the original direction and the
 * reply, and no tuple may belong to two flows. All the behaviour follows from that: port preservation, mappings that
 * look endpoint-independent, what moves them, and who is let in.
 */
export class Netfilter implements Translator {
  readonly #rules: NetfilterRules
  readonly #addresses: NetfilterAddresses
  readonly #rng: SimRng
  readonly #timeout: Micros
  readonly #timeoutStream: Micros
  readonly #forwarded = new Map<number, SocketAddress>()
  /** Both tuples of every flow; bounded by {@link MAX_FLOWS}. */
  readonly #tuples = new Map<string, Flow>()
  /** Flows from inside by their source, newest last: nf_nat's `bysource`. */
  readonly #bySource = new Map<string, Flow[]>()

  constructor(rules: NetfilterRules, addresses: NetfilterAddresses, rng: SimRng) {
    this.#rules = rules
    this.#addresses = addresses
    this.#rng = rng
    this.#timeout = (rules.timeout ?? LINUX_TIMEOUT) * SECOND
    this.#timeoutStream = (rules.timeoutStream ?? LINUX_TIMEOUT_STREAM) * SECOND
  }

  outbound(now: Micros, packet: UdpPacket): Verdict {
    const known = this.#known(now, packet)
    if (known) return this.#pass(now, known, packet)
    if (this.#isOwn(packet.destination.address)) {
      // INPUT from inside is open: the router itself answers, and keeps the flow.
      return this.#confirm(now, newFlow(packet, packet, true)) ?? 'no-socket'
    }
    if (packet.ttl <= 1) return 'ttl' // ip_forward drops it before the flow is confirmed
    const source = this.#source(now, packet)
    if (source === undefined) return 'clash'
    const translated = { ...packet, source }
    const flow = newFlow(packet, translated, false)
    const refused = this.#confirm(now, flow)
    if (refused) return refused
    this.#remember(now, flow)
    return translated
  }

  inbound(now: Micros, packet: UdpPacket): Verdict {
    const known = this.#known(now, packet)
    if (known) return this.#pass(now, known, packet)
    const isOwn = this.#isOwn(packet.destination.address)
    const destination = isOwn ? this.#forwardTo(packet.destination.port) : undefined
    if (isOwn && !destination) {
      if (this.#rules.input === 'drop') return 'filtered'
      return this.#confirm(now, newFlow(packet, packet, true)) ?? 'no-socket'
    }
    if (packet.ttl <= 1) return 'ttl'
    if (!destination && this.#rules.forward === 'established') return 'filtered'
    const translated = destination ? { ...packet, destination } : packet
    return this.#confirm(now, newFlow(packet, translated, false)) ?? translated
  }

  sentFromInside(outside: Ends): Ends | undefined {
    const flow = this.#tuples.get(tuple(outside.destination, outside.source))
    return flow && !flow.isLocal ? otherSide(flow, outside.destination, outside.source) : undefined
  }

  sentFromOutside(inside: Ends): Ends | undefined {
    return this.sentFromInside(inside)
  }

  forwardPort(port: number, inside: SocketAddress | undefined): void {
    if (inside) this.#forwarded.set(port, inside)
    else this.#forwarded.delete(port)
  }

  flush(): void {
    this.#tuples.clear()
    this.#bySource.clear()
  }

  #known(now: Micros, packet: Ends): Flow | undefined {
    const flow = this.#tuples.get(tuple(packet.source, packet.destination))
    if (flow && flow.expires <= now) {
      this.#delete(flow)
      return undefined
    }
    return flow
  }

  #pass(now: Micros, flow: Flow, packet: UdpPacket): Verdict {
    const isReply = tuple(packet.source, packet.destination) === flow.reply.key
    // nf_conntrack_udp_packet: a flow that is answered, and older than two seconds, is a stream.
    if (isReply) flow.isAnswered = true
    const isStream = flow.isAnswered && now > flow.born + STREAM_AFTER
    flow.expires = now + (isStream ? this.#timeoutStream : this.#timeout)
    if (flow.isLocal) return 'no-socket'
    if (packet.ttl <= 1) return 'ttl'
    const other = isReply ? flow.original : flow.reply
    return { ...packet, source: other.destination, destination: other.source }
  }

  /** POSTROUTING on the outer interface; undefined when no unique tuple is left. */
  #source(now: Micros, packet: UdpPacket): SocketAddress | undefined {
    const { source, destination } = packet
    const outer = this.#addresses.outer()[0]
    if (outer === undefined) return source
    switch (this.#rules.source) {
      case 'none':
        return source
      case 'snat': {
        // One port for everything the agent sends: a second flow to the same remote end has nowhere to go.
        if (source.address !== this.#addresses.agent()?.address) return source
        const only = { address: outer, port: DMZ_PORT }
        return this.#isFree(now, destination, only) ? only : undefined
      }
      case 'masquerade':
        return this.#preserving(now, source, destination, outer)
      case 'masquerade-random':
        return this.#anyPort(now, destination, outer)
    }
  }

  /**
   * nf_nat's get_unique_tuple without the random flags. First the mapping that the newest flow of the same source has:
   * this makes the mapping endpoint-independent, and makes a mapping that has moved stay moved. Then the client's own
   * port. Then any.
   */
  #preserving(
    now: Micros,
    source: SocketAddress,
    destination: SocketAddress,
    outer: string,
  ): SocketAddress | undefined {
    const newest = this.#newest(now, source)?.reply.destination
    if (newest?.address === outer && this.#isFree(now, destination, newest)) return newest
    const own = { address: outer, port: source.port }
    if (this.#isFree(now, destination, own)) return own
    return this.#anyPort(now, destination, outer)
  }

  #newest(now: Micros, source: SocketAddress): Flow | undefined {
    const flows = this.#bySource.get(key(source)) ?? []
    while ((flows.at(-1)?.expires ?? Infinity) <= now) flows.pop()
    return flows.at(-1)
  }

  #remember(now: Micros, flow: Flow): void {
    const source = key(flow.original.source)
    const flows = this.#bySource.get(source) ?? []
    // Expired flows lie among the live ones: they go whenever the list has doubled.
    const isPowerOfTwo = (flows.length & (flows.length - 1)) === 0
    const kept = isPowerOfTwo ? flows.filter((one) => one.expires > now) : flows
    kept.push(flow)
    this.#bySource.set(source, kept)
  }

  #anyPort(now: Micros, destination: SocketAddress, outer: string): SocketAddress | undefined {
    for (let tries = 0; tries < MAX_ATTEMPTS; tries++) {
      const at = { address: outer, port: this.#rng.between(FIRST_PORT, LAST_PORT) }
      if (this.#isFree(now, destination, at)) return at
    }
    return undefined
  }

  /** nf_nat_used_tuple: could an answer from `remote` to `at` belong to another flow? */
  #isFree(now: Micros, remote: SocketAddress, at: SocketAddress): boolean {
    return this.#known(now, { source: remote, destination: at }) === undefined
  }

  /** Enters the flow in the table; says why not when there is no room or a tuple is taken (insert_failed). */
  #confirm(now: Micros, flow: Flow): 'clash' | 'table-full' | undefined {
    for (const ends of [flow.original, flow.reply]) if (this.#known(now, ends)) return 'clash'
    if (this.#tuples.size >= 2 * MAX_FLOWS) this.#sweep(now)
    if (this.#tuples.size >= 2 * MAX_FLOWS) return 'table-full'
    flow.born = now
    flow.expires = now + this.#timeout
    this.#tuples.set(flow.original.key, flow)
    this.#tuples.set(flow.reply.key, flow)
    return undefined
  }

  #forwardTo(port: number): SocketAddress | undefined {
    return (
      this.#forwarded.get(port) ?? (port === this.#rules.forwardedPort ? this.#addresses.agent() : undefined)
    )
  }

  #isOwn(address: string): boolean {
    return this.#addresses.outer().includes(address)
  }

  #sweep(now: Micros): void {
    for (const flow of new Set(this.#tuples.values())) if (flow.expires <= now) this.#delete(flow)
  }

  #delete(flow: Flow): void {
    this.#tuples.delete(flow.original.key)
    this.#tuples.delete(flow.reply.key)
  }
}

/** nf_conntrack_max of a small router. */
const MAX_FLOWS = 65_536
/** NF_NAT_MAX_ATTEMPTS of nf_nat_core.c. */
const MAX_ATTEMPTS = 128
const STREAM_AFTER = 2 * SECOND

interface Direction extends Ends {
  readonly key: string
}

interface Flow {
  readonly original: Direction
  /** What an answer looks like when it comes to the router. */
  readonly reply: Direction
  /** To the router itself: found on INPUT. */
  readonly isLocal: boolean
  isAnswered: boolean
  born: Micros
  expires: Micros
}

function newFlow(packet: Ends, translated: Ends, isLocal: boolean): Flow {
  return {
    original: direction(packet.source, packet.destination),
    reply: direction(translated.destination, translated.source),
    isLocal,
    isAnswered: false,
    born: 0,
    expires: 0,
  }
}

function direction(source: SocketAddress, destination: SocketAddress): Direction {
  return { source, destination, key: tuple(source, destination) }
}

/** The datagram that an ICMP error is about went the other way than the tuple (`source`, `destination`). */
function otherSide(flow: Flow, source: SocketAddress, destination: SocketAddress): Ends {
  const other = tuple(source, destination) === flow.reply.key ? flow.original : flow.reply
  return { source: other.source, destination: other.destination }
}

function tuple(source: SocketAddress, destination: SocketAddress): string {
  return `${source.address} ${source.port} ${destination.address} ${destination.port}`
}
