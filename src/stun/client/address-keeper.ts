import { formatAddress, sameAddress, type SocketAddress } from '../../core/address.ts'
import {
  MILLISECOND,
  SECOND,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { Method } from '../codec/registry.ts'
import { StunClient } from './client.ts'
import type { StunTransaction } from './transaction.ts'

/** The address under which the world knows one socket, or why it is not known. */
export type PublicAddress =
  | {
      readonly known: true
      readonly address: SocketAddress
      /** The servers that see it, one per IP address: with two or more it does not rest on one's word. */
      readonly observers: readonly SocketAddress[]
    }
  | {
      readonly known: false
      readonly reason: UnknownReason
      /** The reason for people, and what to do. */
      readonly message: string
      /** With `per-destination`: what the servers see. */
      readonly seen: readonly SocketAddress[]
    }

/**
 * `no-servers`: none to ask (none configured, or no name resolves); `pending`: asked, not yet answered; `no-answer`:
 * UDP is blocked or the servers are down; `per-destination`: the NAT shows each destination another address.
 */
export type UnknownReason = 'no-servers' | 'pending' | 'no-answer' | 'per-destination'

export interface AddressKeeperOptions {
  readonly rng: Rng
  /** STUN servers of one address family; the first 4 are asked. Two with different addresses check each other. */
  readonly servers: readonly SocketAddress[]
  /** How often to ask, µs; default 25 s: below the 30 s that Linux keeps an idle mapping. */
  readonly interval?: Micros
}

/**
 * Keeps a socket's public address known and its NAT mapping alive: it asks every server once per interval. What one
 * round shows counts at once when the servers agree; silence and disagreement are checked by a second round first,
 * since a NAT may have restarted in the middle of the first. A port that changes while the socket rests means that
 * the NAT forgets sooner than we ask: the interval is halved, down to 5 s.
 *
 * An event is a change of {@link AddressKeeper.current}.
 */
export class AddressKeeper implements Machine<PublicAddress> {
  readonly #client: StunClient
  readonly #servers: readonly SocketAddress[]
  #interval: Micros
  #nextRound: Micros
  #lastRound: Micros = -Infinity
  #current: PublicAddress = pending
  /** Of the round under way; bounded by MAX_SERVERS. */
  readonly #open = new Set<StunTransaction>()
  #answers: Answer[] = []
  /** The last round was silent or in disagreement, and the next one will tell. */
  #isDoubted = false
  // Bounded by one per round: taken in the drain after it.
  #events: PublicAddress[] = []

  constructor(now: Micros, options: AddressKeeperOptions) {
    this.#client = new StunClient({ rng: options.rng })
    this.#servers = options.servers.slice(0, MAX_SERVERS)
    this.#interval = options.interval ?? DEFAULT_INTERVAL
    this.#nextRound = now
  }

  get current(): PublicAddress {
    return this.#current
  }

  /** µs; shorter than asked for when the NAT proved to forget sooner. */
  get interval(): Micros {
    return this.#interval
  }

  /** Asks again at once, but no more than once per second: the network may have changed. */
  recheck(now: Micros): void {
    if (this.#open.size > 0) return
    this.#nextRound = Math.min(this.#nextRound, Math.max(now, this.#lastRound + DOUBT))
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const taken = this.#client.handleDatagram(now, path, bytes)
    if (taken) this.#collect(now)
    return taken
  }

  handleTimeout(now: Micros): void {
    this.#client.handleTimeout(now)
    this.#collect(now)
    if (now >= this.#nextRound && this.#open.size === 0) this.#begin(now)
  }

  pollTransmit(): Transmit | undefined {
    return this.#client.pollTransmit()
  }

  pollEvent(): PublicAddress | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    return this.#open.size > 0
      ? this.#client.pollTimeout()
      : { at: this.#nextRound, reason: 'stun keep-alive' }
  }

  #begin(now: Micros): void {
    this.#answers = []
    this.#lastRound = now
    this.#nextRound = now + this.#interval
    for (const remote of this.#servers) {
      this.#open.add(
        this.#client.request(now, {
          method: Method.Binding,
          path: { remote },
          timing,
          redirect: () => undefined,
        }),
      )
    }
  }

  #collect(now: Micros): void {
    for (let event = this.#client.pollEvent(); event !== undefined; event = this.#client.pollEvent()) {
      if (!this.#open.delete(event.transaction)) continue
      const mapped = event.type === 'response' ? event.response.mappedAddress() : undefined
      if (mapped !== undefined) this.#answers.push({ server: event.transaction.request.path.remote, mapped })
      if (this.#open.size === 0) this.#judge(now)
    }
  }

  #judge(now: Micros): void {
    const [first, ...others] = this.#answers
    if (first !== undefined && others.every(({ mapped }) => sameAddress(mapped, first.mapped))) {
      this.#isDoubted = false
      this.#shorten(first.mapped)
      this.#become({ known: true, address: first.mapped, observers: independent(this.#answers) })
    } else if (!this.#isDoubted) {
      this.#isDoubted = true
      // At first nothing is known that could have changed: somebody waits for the start.
      const isFirst = first !== undefined && this.#current === pending
      this.#nextRound = isFirst ? now : Math.min(this.#nextRound, now + DOUBT)
    } else {
      this.#become(
        first === undefined
          ? unknownAddress('no-answer')
          : unknownAddress(
              'per-destination',
              this.#answers.map(({ mapped }) => mapped),
            ),
      )
    }
  }

  #shorten(seen: SocketAddress): void {
    const before = this.#current.known ? this.#current.address : undefined
    if (before?.address !== seen.address || before.port === seen.port) return
    const shorter = Math.max(Math.min(MIN_INTERVAL, this.#interval), Math.floor(this.#interval / 2))
    this.#nextRound -= this.#interval - shorter
    this.#interval = shorter
  }

  #become(next: PublicAddress): void {
    const isNews = inWords(next) !== inWords(this.#current)
    this.#current = next
    if (isNews) this.#events.push(next)
  }
}

/** Why an address is not known, with words for it. */
export function unknownAddress(reason: UnknownReason, seen: readonly SocketAddress[] = []): PublicAddress {
  return { known: false, reason, message: messages[reason], seen }
}

const messages: Readonly<Record<UnknownReason, string>> = {
  'no-servers': 'no STUN server is known that could say: configure some, two of them if you can',
  pending: 'the STUN servers have not answered yet',
  'no-answer': 'no STUN server answers: UDP is blocked, or the servers are down',
  'per-destination': 'the NAT shows every destination another address, so that none can be told in advance',
}

const pending = unknownAddress('pending')

const DEFAULT_INTERVAL = 25 * SECOND
const MIN_INTERVAL = 5 * SECOND
/** How soon a round is repeated whose outcome is not believed. */
const DOUBT = SECOND
const MAX_SERVERS = 4
/** Four requests, silence after 3.3 s: all within the shortest interval. */
const timing = { rto: 300 * MILLISECOND, rc: 4, rm: 4 }

interface Answer {
  readonly server: SocketAddress
  readonly mapped: SocketAddress
}

/** One of each IP address: two ports of one machine are one observer. */
function independent(answers: readonly Answer[]): SocketAddress[] {
  const servers = answers.map(({ server }) => server)
  return servers.filter(({ address }, i) => servers.findIndex((one) => one.address === address) === i)
}

/** The same words, the same address: observers and the ports that a symmetric NAT shows change all the time. */
function inWords(one: PublicAddress): string {
  return one.known ? formatAddress(one.address) : one.reason
}
