import type { SocketAddress } from '../../core/address.ts'
import { MILLISECOND, SECOND, type Deadline, type Machine, type Micros } from '../../core/machine.ts'
import type { Path, Transmit } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { StunClient } from '../client/client.ts'
import type { StunTransaction } from '../client/transaction.ts'
import type { StunBuilder } from '../codec/builder.ts'
import { Attribute, ErrorCode, MessageClass, Method } from '../codec/registry.ts'
import { StunView } from '../codec/view.ts'
import { StunResponseError } from '../errors.ts'
import { unknown, type Finding } from './report.ts'

/** How long a NAT keeps the mapping of a socket that says nothing. Seconds. */
export interface Lifetime {
  /** After this much silence the mapping was still there. */
  readonly atLeast: number
  /** After this much it was gone; undefined: it never was. */
  readonly lessThan: number | undefined
}

/** A UDP port as the probe needs it: a `UdpEndpoint`, or a socket of the simulator. */
export interface LifetimePort {
  now(): Micros
  attach<Event>(machine: Machine<Event>, onEvent: (event: Event) => void): LifetimeAttachment
}

interface LifetimeAttachment {
  wake(): void
  detach(): void
}

export interface LifetimeProbeOptions {
  readonly rng: Rng
  /** Must know RESPONSE-PORT (RFC 5780 §7.5). */
  readonly server: SocketAddress
  /** Seconds of silence, one per port of {@link LifetimePorts.idle}, growing. */
  readonly times: readonly number[]
}

export interface LifetimePorts {
  /** Asks the server to answer to the others. */
  readonly knocking: LifetimePort
  /** Each is silent for one of the times. */
  readonly idle: readonly LifetimePort[]
}

/**
 * Finds out how long the NAT keeps an idle mapping (RFC 5780 §4.6): each port makes a mapping at the start and is then
 * silent for its own time, at the end of which another port asks the server to answer there (RESPONSE-PORT). A mapping
 * that has been answered to is a new one, so that each serves once; all wait at the same time, and the whole takes as
 * long as the longest.
 *
 * @param onDone called once, unless the answer, which gives the probe up, is called before.
 */
export function probeLifetime(
  ports: LifetimePorts,
  { rng, server, times }: LifetimeProbeOptions,
  onDone: (lifetime: Finding<Lifetime>) => void,
): () => void {
  const { knocking, idle } = ports
  const trials: Trial[] = []
  const attachments: LifetimeAttachment[] = []
  const knocks = new StunClient({ rng, maxTransactions: idle.length + 1, maxPerServer: idle.length + 1 })
  let isSupported = true
  const giveUp = (): void => {
    for (const attachment of attachments.splice(0)) attachment.detach()
  }
  const settle = (): void => {
    if (isSupported && trials.some(({ mapping }) => mapping.outcome === undefined)) return
    giveUp()
    onDone(isSupported ? judge(trials) : notSupported())
  }
  const knocker = knocking.attach(knocks, (event) => {
    // The answer to a knock goes to another port: one that comes here says that the server does not do that.
    const isRefused =
      event.type === 'failed' &&
      event.error instanceof StunResponseError &&
      event.error.status === ErrorCode.UnknownAttribute
    if (!isSupported || !(isRefused || event.type === 'response')) return
    isSupported = false
    settle()
  })
  attachments.push(knocker)
  for (const [i, port] of idle.entries()) {
    const seconds = times[i] ?? 0
    const mapping = new IdleMapping(port.now(), rng, server, seconds * SECOND)
    const trial: Trial = { seconds, mapping }
    trials.push(trial)
    attachments.push(
      port.attach(mapping, (event) => {
        if (event.type === 'ended') settle()
        else {
          mapping.await(knocks.request(knocking.now(), knock(server, event.mapped.port)))
          knocker.wake()
        }
      }),
    )
  }
  return giveUp
}

/** Times for {@link probeLifetime}: from `longest` seconds down to 5, each a fifth shorter than the one before. */
export function lifetimeLadder(longest: number): number[] {
  const times: number[] = []
  for (let time = longest; time >= 5 && times.length < MAX_TIMES; time *= 0.8) times.unshift(time)
  return times
}

const MAX_TIMES = 24

interface Trial {
  readonly seconds: number
  readonly mapping: IdleMapping
}

type IdleEvent = { readonly type: 'due'; readonly mapped: SocketAddress } | { readonly type: 'ended' }

/** One port: asks for its mapping, is silent, then waits for the answer to a knock. */
class IdleMapping implements Machine<IdleEvent> {
  /** `lost`: the server did not answer at first, which says nothing of the mapping. */
  outcome: 'alive' | 'gone' | 'lost' | undefined
  readonly #client: StunClient
  readonly #silence: Micros
  readonly #view = new StunView()
  #mapped: SocketAddress | undefined
  /** Of the silence, then of the wait for the knock's answer. */
  #until: Micros = Infinity
  #knock: StunTransaction | undefined
  #events: IdleEvent[] = []

  constructor(now: Micros, rng: Rng, server: SocketAddress, silence: Micros) {
    this.#client = new StunClient({ rng })
    this.#silence = silence
    this.#client.request(now, { method: Method.Binding, path: { remote: server }, timing })
  }

  /** The answer to this one should come. */
  await(knock: StunTransaction): void {
    this.#knock = knock
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    const knock = this.#knock
    if (knock !== undefined && this.#view.open(bytes)) {
      const isIt =
        this.#view.messageClass === MessageClass.Success &&
        Buffer.compare(this.#view.transactionId, knock.id) === 0
      if (isIt) {
        this.#end('alive')
        return true
      }
    }
    const taken = this.#client.handleDatagram(now, path, bytes)
    if (taken) this.#collect(now)
    return taken
  }

  handleTimeout(now: Micros): void {
    this.#client.handleTimeout(now)
    this.#collect(now)
    if (now < this.#until) return
    if (this.#knock !== undefined) this.#end('gone')
    else if (this.#mapped !== undefined) {
      this.#until = now + PATIENCE
      this.#events.push({ type: 'due', mapped: this.#mapped })
    }
  }

  pollTransmit(): Transmit | undefined {
    return this.#client.pollTransmit()
  }

  pollEvent(): IdleEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    const asked = this.#client.pollTimeout()
    return this.#until < (asked?.at ?? Infinity) ? { at: this.#until, reason: 'idle mapping' } : asked
  }

  #collect(now: Micros): void {
    const event = this.#client.pollEvent()
    if (event === undefined) return
    const mapped = event.type === 'response' ? event.response.mappedAddress() : undefined
    if (mapped === undefined) this.#end('lost')
    else {
      this.#mapped = mapped
      this.#until = now + this.#silence
    }
  }

  #end(outcome: 'alive' | 'gone' | 'lost'): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    this.#until = Infinity
    this.#events.push({ type: 'ended' })
  }
}

const timing = { rto: 500 * MILLISECOND, rc: 3, rm: 2 }
/** Three requests within 1.5 s, and time for the last answer. */
const PATIENCE = 2_500 * MILLISECOND

function knock(server: SocketAddress, port: number): Parameters<StunClient['request']>[1] {
  return {
    method: Method.Binding,
    path: { remote: server },
    timing,
    redirect: () => undefined,
    attributes: (builder: StunBuilder) => builder.uint16(Attribute.ResponsePort, port),
  }
}

function judge(trials: readonly Trial[]): Finding<Lifetime> {
  const told = trials.filter(({ mapping }) => mapping.outcome !== 'lost')
  const observations = trials.map(
    ({ seconds, mapping }) => `after ${inSeconds(seconds)} of silence: ${words[mapping.outcome ?? 'lost']}`,
  )
  const alive = told.filter(({ mapping }) => mapping.outcome === 'alive').map(({ seconds }) => seconds)
  const gone = told.filter(({ mapping }) => mapping.outcome === 'gone').map(({ seconds }) => seconds)
  // What was alive later was alive before: an answer got lost.
  const atLeast = Math.max(0, ...alive)
  const later = gone.filter((seconds) => seconds > atLeast)
  if (told.length === 0) return unknown('the server did not answer: nothing to watch')
  const lessThan = later.length > 0 ? Math.min(...later) : undefined
  return {
    value: { atLeast, lessThan },
    // That nothing ever came in may have another reason, such as a filter for all but the first answer.
    certain: alive.length > 0 && later.length === gone.length,
    observations,
    meaning:
      lessThan === undefined
        ? `a mapping lives longer than ${inSeconds(atLeast)} of silence`
        : `silence must be shorter than ${inSeconds(Math.max(atLeast, 5))}: natwork asks every 25 s, and sooner where that is too late`,
  }
}

const words = { alive: 'still there', gone: 'gone', lost: 'not seen, the server did not answer' } as const

function notSupported(): Finding<Lifetime> {
  return unknown(
    'the server does not answer to another port (RESPONSE-PORT of RFC 5780): only such a one can tell',
  )
}

function inSeconds(seconds: number): string {
  return `${Number(seconds.toFixed(1))} s`
}
