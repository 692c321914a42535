import {
  MILLISECOND,
  SECOND,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../core/machine.ts'
import type { Rng } from '../core/ports.ts'
import {
  isSame,
  MDNS_GROUP,
  MDNS_PORT,
  NAME_TTL,
  nameOf,
  readMessage,
  SERVICE,
  writeAnnouncement,
  writeLegacyAnswer,
  writeQuery,
  type Announced,
  type Query,
} from './message.ts'
import type { Link, Sightings } from './sightings.ts'

/** RFC 6762 §6: no record is multicast more often, and §5.2, §8.3: the first repetitions come no sooner. */
const PAUSE = SECOND
/** RFC 6762 §8.3. */
const ANNOUNCEMENTS = 2
/** RFC 6762 §5.2: pauses between questions double up to an hour. */
const LONGEST_PAUSE = 3_600 * SECOND
/** Messages a second that are read, and how many at once: what more there is, somebody floods the network with. */
const MESSAGES_PER_SECOND = 50
const BURST = 200

export interface MdnsMachineOptions {
  readonly link: Link
  /** What was heard on all links. */
  readonly sightings: Sightings
  /** What this node says of itself on this link; undefined: nothing. */
  readonly own: Announced | undefined
  readonly rng: Rng
}

/**
 * Multicast DNS (RFC 6762, 6763) on one link, for one kind of service: asks who is there, and says so itself.
 *
 * There is no probing (§8.1): an instance is named by a node's key, and no two nodes have the same. Whoever else says the
 * name lies or is the same node, and another name would help against neither. Nor does an answer of somebody else spare
 * ours (§7.4): a liar could silence us.
 */
export class MdnsMachine implements Machine {
  readonly #link: Link
  readonly #sightings: Sightings
  readonly #own: Announced | undefined
  readonly #rng: Rng
  readonly #group: Path
  readonly #out: Transmit[] = []
  #announcements = 0
  /** When the own records are multicast, unasked or because somebody asked. */
  #sayAt: Micros | undefined
  #said = -Infinity
  #askAt: Micros | undefined
  #asked = -Infinity
  #pause = PAUSE
  #credit = BURST
  #credited = 0

  constructor({ link, sightings, own, rng }: MdnsMachineOptions) {
    this.#link = link
    this.#sightings = sightings
    this.#own = own
    this.#rng = rng
    this.#group = { remote: { address: MDNS_GROUP[link.family], port: MDNS_PORT } }
  }

  /** The link is up. A power failure brings up many at once, so that each waits a little (RFC 6762 §5.2, §8.3). */
  open(now: Micros): void {
    this.#credited = now
    this.#askAt = now + this.#between(20, 120)
    if (this.#own === undefined) return
    this.#announcements = ANNOUNCEMENTS
    this.#sayAt = now + this.#between(0, 250)
  }

  /** Asks who is there, now and after one, two, four… seconds. */
  ask(now: Micros): void {
    this.#pause = PAUSE
    this.#askAt = Math.min(this.#askAt ?? Infinity, Math.max(now, this.#asked + PAUSE))
  }

  /** Says good-bye, if this node was ever heard. */
  close(): void {
    this.#sayAt = undefined
    this.#askAt = undefined
    if (this.#own !== undefined && this.#said > -Infinity) this.#send(writeAnnouncement(this.#own, true))
  }

  handleDatagram(now: Micros, { remote }: Path, bytes: Uint8Array): boolean {
    if (!this.#mayRead(now)) return false
    const message = readMessage(bytes)
    if (message?.kind === 'query') {
      if (remote.port === MDNS_PORT) this.#heed(now, message)
      else if (this.#isAsked(message)) this.#answerLegacy(message, { remote })
    } else if (message !== undefined && remote.port === MDNS_PORT) {
      // RFC 6762 §6: an answer from another port is none.
      this.#sightings.expire(now)
      for (const saying of message.said) this.#sightings.hear(now, this.#link, remote.address, saying)
    }
    return message !== undefined
  }

  handleTimeout(now: Micros): void {
    if (this.#own !== undefined && this.#sayAt !== undefined && this.#sayAt <= now) {
      this.#said = now
      this.#announcements = Math.max(0, this.#announcements - 1)
      this.#sayAt = this.#announcements > 0 ? now + PAUSE : undefined
      this.#send(writeAnnouncement(this.#own))
    }
    const ask = this.#nextQuestion
    if (ask === undefined || ask > now) return
    if (this.#askAt !== undefined && this.#askAt <= now) {
      this.#askAt = now + this.#pause
      this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE)
    }
    this.#asked = now
    const known = this.#sightings.knownOn(now, this.#link)
    // Who knows the others as long as we do knows us as long: one question is enough for all.
    if (this.#sightings.asked(now, this.#link)) this.#sayBy(now + this.#between(20, 120))
    // What is sent comes back, for the other programs of this machine: this node is not to answer itself.
    const own = this.#own === undefined ? [] : [{ label: this.#own.label, remaining: NAME_TTL }]
    this.#send(writeQuery([...own, ...known]))
  }

  pollTransmit(): Transmit | undefined {
    return this.#out.shift()
  }

  pollEvent(): undefined {
    return undefined
  }

  pollTimeout(): Deadline | undefined {
    const ask = this.#nextQuestion
    if (this.#sayAt !== undefined && this.#sayAt <= (ask ?? Infinity)) {
      return { at: this.#sayAt, reason: 'multicast DNS: say who is here' }
    }
    return ask === undefined ? undefined : { at: ask, reason: 'multicast DNS: ask who is there' }
  }

  /** By the schedule, or because what is known gets old. */
  get #nextQuestion(): Micros | undefined {
    if (this.#askAt === undefined) return undefined
    const refresh = this.#sightings.refreshAt(this.#link) ?? Infinity
    return Math.max(Math.min(this.#askAt, refresh), this.#asked + PAUSE)
  }

  /** A question of another querier. */
  #heed(now: Micros, query: Query): void {
    const isForAll = query.questions.some(({ name, type }) => isSame(name, SERVICE) && isType(type, 'PTR'))
    // RFC 6762 §7.3: the answers to it are ours, too.
    if (isForAll) this.#sightings.asked(now, this.#link, query.known)
    if (!this.#isAsked(query)) return
    // RFC 6762 §6: where several may answer, they do not all do so at once.
    const at = this.#isNamed(query) ? now : now + this.#between(20, 120)
    this.#sayBy(at)
  }

  #sayBy(at: Micros): void {
    if (this.#own === undefined) return
    this.#sayAt = Math.min(this.#sayAt ?? Infinity, Math.max(at, this.#said + PAUSE))
  }

  #isAsked(query: Query): boolean {
    if (this.#own === undefined) return false
    if (this.#isNamed(query)) return true
    const isForAll = query.questions.some(({ name, type }) => isSame(name, SERVICE) && isType(type, 'PTR'))
    return isForAll && !query.known.has(this.#own.label)
  }

  #isNamed({ questions }: Query): boolean {
    const name = nameOf(this.#own?.label ?? '')
    return questions.some((one) => isSame(one.name, name))
  }

  #answerLegacy(query: Query, path: Path): void {
    if (this.#own === undefined) return
    this.#out.push({ path, data: writeLegacyAnswer(this.#own, query) })
  }

  #send(data: Uint8Array): void {
    this.#out.push({ path: this.#group, data })
  }

  #mayRead(now: Micros): boolean {
    const earned = ((now - this.#credited) / SECOND) * MESSAGES_PER_SECOND
    this.#credit = Math.min(BURST, this.#credit + earned)
    this.#credited = now
    if (this.#credit < 1) return false
    this.#credit -= 1
    return true
  }

  /** A random time, in milliseconds. */
  #between(least: number, most: number): Micros {
    return Math.floor((least + (this.#rng.uint32() / 2 ** 32) * (most - least)) * MILLISECOND)
  }
}

const isType = (type: string, wanted: string): boolean => type === wanted || type === 'ANY'
