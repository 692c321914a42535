import type { SocketAddress } from '../../core/address.ts'
import {
  MILLISECOND,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { StunClient } from '../client/client.ts'
import type { StunClientEvent, StunTransaction, Timing } from '../client/transaction.ts'
import { StunBuilder } from '../codec/builder.ts'
import { Attribute, MessageClass, Method } from '../codec/registry.ts'
import { StunView, TRANSACTION_ID_LENGTH } from '../codec/view.ts'
import { Judge } from './judge.ts'
import { reachedLike } from './nat64.ts'
import type { BehaviourReport, Hairpin, Observation } from './report.ts'

export interface DiscoveryOptions {
  readonly rng: Rng
  /** STUN servers of one address family, best with RFC 5780's two addresses and ports; at most 8 are asked. */
  readonly servers: readonly SocketAddress[]
  /** Asked too, but only where none of the others has RFC 5780. */
  readonly spare?: readonly SocketAddress[]
  /** The addresses under which this socket is known on its own machine: what equals one of them is not translated. */
  readonly local: readonly SocketAddress[]
  /**
   * When to repeat a request, and when to take silence for an answer; default 4 requests in 4.4 s, and half of that
   * where the servers proved to be near.
   */
  readonly timing?: Partial<Timing>
}

/**
 * Finds out how the NAT in front of one socket behaves (RFC 5780 §4.3, §4.4, §3.4), in RFC 4787's words. It runs on
 * the very socket that matters, beside other protocols; attach it before a STUN server, which would answer the
 * hairpin probe in its place.
 *
 * The order is part of the method. Filtering is tested while nothing has been sent to the server's other addresses,
 * as that opens the filter. The mapping tests begin with an address from which nothing was asked for: a stray packet
 * from there may take a port at a NAT and move the mapping.
 *
 * Ends with exactly one event, the report, within five timeouts of {@link DiscoveryOptions.timing}.
 */
export class BehaviourDiscovery implements Machine<BehaviourReport> {
  readonly #options: DiscoveryOptions
  readonly #client: StunClient
  readonly #view = new StunView()
  readonly #judge: Judge
  #timing: Timing
  /** Of the servers that have answered; Infinity where a repeat makes it ambiguous. */
  #slowest: Micros = 0
  // One per open transaction, and at most 8 of them are.
  readonly #waiting = new Map<StunTransaction, (mapped: Answer | undefined) => void>()
  #next: (() => void) | undefined
  #hairpin: HairpinProbe | undefined
  #transmits: Transmit[] = []
  #report: BehaviourReport | undefined
  /** Of the drain under way. */
  #now: Micros

  constructor(now: Micros, options: DiscoveryOptions) {
    this.#now = now
    this.#options = options
    this.#client = new StunClient({ rng: options.rng })
    this.#judge = new Judge(options.local)
    this.#timing = { ...discoveryTiming, ...options.timing }
    for (const server of options.servers.slice(0, MAX_SERVERS)) this.#greet(server)
    this.#then(() => this.#testFiltering())
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    this.#now = now
    const probe = this.#hairpin
    if (probe !== undefined && this.#view.open(bytes)) {
      if (
        this.#view.messageClass === MessageClass.Request &&
        Buffer.compare(this.#view.transactionId, probe.id) === 0
      ) {
        this.#endHairpin(path.remote.address === probe.to.address ? 'external-source' : 'internal-source')
        return true
      }
    }
    const taken = this.#client.handleDatagram(now, path, bytes)
    if (taken) this.#settle()
    return taken
  }

  handleTimeout(now: Micros): void {
    this.#now = now
    this.#client.handleTimeout(now)
    this.#settle()
    const probe = this.#hairpin
    if (probe === undefined || now < probe.nextAt) return
    if (probe.sent < HAIRPIN_PROBES) this.#probeHairpin(probe)
    else this.#endHairpin('none')
  }

  pollTransmit(): Transmit | undefined {
    return this.#client.pollTransmit() ?? this.#transmits.shift()
  }

  pollEvent(): BehaviourReport | undefined {
    const report = this.#report
    this.#report = undefined
    return report
  }

  pollTimeout(): Deadline | undefined {
    const requests = this.#client.pollTimeout()
    const at = this.#hairpin?.nextAt ?? Infinity
    return at < (requests?.at ?? Infinity) ? { at, reason: 'hairpin probe' } : requests
  }

  /** RFC 5780 §4.3 test I, with every server at once. */
  #greet(server: SocketAddress): void {
    this.#ask(server, {}, (answer) => {
      this.#judge.greeted(observed(server, answer))
      if (answer !== undefined) this.#slowest = Math.max(this.#slowest, answer.rtt ?? Infinity)
      const { view } = answer ?? {}
      const said = view?.address(Attribute.OtherAddress)
      if (view === undefined || said === undefined) return
      const other = reachedLike(server, view.address(Attribute.ResponseOrigin), said)
      // Both the address and the port must be others (§7.4), and the address one that we have not talked to.
      const isUsable =
        other !== undefined &&
        other.port !== server.port &&
        this.#options.servers.every(({ address }) => address !== other.address)
      if (isUsable) this.#judge.offer({ server, other })
    })
  }

  /** §4.4: answers from where nothing was ever sent to. */
  #testFiltering(): void {
    const full = this.#judge.full
    // From here on silence is a likely answer: it takes no longer than the servers' distance asks for.
    const rto = Math.min(this.#timing.rto, Math.max(MIN_RTO, 4 * this.#slowest))
    this.#timing = { ...this.#timing, rto }
    if (full === undefined) {
      const { servers, spare = [] } = this.#options
      for (const server of spare.slice(0, Math.max(0, MAX_SERVERS - servers.length))) this.#greet(server)
      this.#then(() => this.#testHairpin())
      return
    }
    const { server, other } = full
    const otherPort = { address: server.address, port: other.port }
    this.#ask(server, { change: CHANGE_BOTH, replyFrom: other }, (answer) => {
      this.#judge.filtering.fromOther = answer !== undefined
    })
    this.#ask(server, { change: CHANGE_PORT, replyFrom: otherPort }, (answer) => {
      this.#judge.filtering.fromPort = answer !== undefined
    })
    this.#then(() => this.#testMapping(server, other))
  }

  /** §4.3 tests II and III, and the server's own second port too: see {@link Judge}. */
  #testMapping(server: SocketAddress, other: SocketAddress): void {
    this.#look({ address: other.address, port: server.port })
    this.#then(() => {
      if (!this.#judge.looksIndependent) {
        this.#look({ address: server.address, port: other.port })
        this.#look(other)
      }
      this.#then(() => this.#testHairpin())
    })
  }

  #look(at: SocketAddress): void {
    this.#ask(at, {}, (answer) => this.#judge.looked(observed(at, answer)))
  }

  /** §3.4: a request to our own public address. */
  #testHairpin(): void {
    const to = this.#judge.hairpinTarget(this.#options.servers[0])
    if (to === undefined) {
      this.#report = this.#judge.report(undefined)
      return
    }
    const id = new Uint8Array(TRANSACTION_ID_LENGTH)
    this.#options.rng.fill(id)
    const data = new StunBuilder().start(Method.Binding, MessageClass.Request, id).fingerprint().copy()
    this.#hairpin = { id, to, data, sent: 0, nextAt: this.#now }
    this.#probeHairpin(this.#hairpin)
  }

  #probeHairpin(probe: HairpinProbe): void {
    this.#transmits.push({ path: { remote: probe.to }, data: probe.data })
    probe.sent++
    probe.nextAt = this.#now + this.#timing.rto
  }

  #endHairpin(value: Hairpin): void {
    this.#hairpin = undefined
    this.#report = this.#judge.report(value)
  }

  #ask(server: SocketAddress, how: Ask, done: (answer: Answer | undefined) => void): void {
    const { change, replyFrom } = how
    const transaction = this.#client.request(this.#now, {
      method: Method.Binding,
      path: { remote: server },
      timing: this.#timing,
      redirect: () => undefined,
      ...(change !== undefined && {
        attributes: (builder: StunBuilder) => builder.uint32(Attribute.ChangeRequest, change),
      }),
      ...(replyFrom !== undefined && { replyFrom }),
    })
    this.#waiting.set(transaction, done)
  }

  /** What comes when every open question has its answer. */
  #then(next: () => void): void {
    this.#next = next
    this.#settle()
  }

  #settle(): void {
    for (let event = this.#client.pollEvent(); event !== undefined; event = this.#client.pollEvent()) {
      const done = this.#waiting.get(event.transaction)
      this.#waiting.delete(event.transaction)
      done?.(answerOf(event))
    }
    if (this.#waiting.size > 0) return
    const next = this.#next
    this.#next = undefined
    next?.()
  }
}

/** Silence is an answer here: 0.4 + 0.8 + 1.6 + 1.6 s of it, over four requests. */
const discoveryTiming: Timing = { rto: 400 * MILLISECOND, rc: 4, rm: 4, ti: 39_500 * MILLISECOND }

/** Four requests in 2.2 s: a second of disturbance hides no answer. */
const MIN_RTO = 200 * MILLISECOND
const MAX_SERVERS = 8
const HAIRPIN_PROBES = 3
/** Flags of CHANGE-REQUEST (RFC 5780 §7.2). */
const CHANGE_BOTH = 6
const CHANGE_PORT = 2

interface Ask {
  readonly change?: number
  readonly replyFrom?: SocketAddress
}

interface Answer {
  readonly view: StunView
  readonly rtt: Micros | undefined
}

interface HairpinProbe {
  readonly id: Uint8Array
  readonly to: SocketAddress
  readonly data: Uint8Array
  sent: number
  nextAt: Micros
}

function answerOf(event: StunClientEvent): Answer | undefined {
  return event.type === 'response' ? { view: event.response, rtt: event.rtt } : undefined
}

function observed(server: SocketAddress, answer: Answer | undefined): Observation {
  return { server, mapped: answer?.view.mappedAddress(), rtt: answer?.rtt }
}
