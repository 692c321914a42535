import type { SocketAddress } from '../../core/address.ts'
import type { Logger } from '../../core/logger.ts'
import type { Micros } from '../../core/machine.ts'
import { systemClock, systemRng } from '../../core/ports.ts'
import { MdnsMachine } from '../machine.ts'
import { Sightings, type Sighting } from '../sightings.ts'
import { localLinks, type LocalLink } from './links.ts'
import { openSocket, type MdnsSocket } from './socket.ts'

export interface DiscoveryOptions {
  /** The UDP port that others are told. */
  readonly bound: SocketAddress
  /** This node's name, a DNS label. */
  readonly label: string
  /** What can be another node's. */
  readonly isLabel: (label: string) => boolean
  /** Whether this node says that it is here. */
  readonly announce: boolean
  /** Somebody has come, gone or moved. */
  readonly onChange: () => void
  readonly logger: Logger
}

/** Milliseconds that an answer may take: the second question is asked after one second, if the first was lost. */
const PATIENCE = 2_000

interface OpenLink {
  readonly link: LocalLink
  readonly machine: MdnsMachine
  readonly socket: MdnsSocket
}

/** Nodes of the same network, by multicast DNS on every interface of this machine. */
export class Discovery {
  readonly #options: DiscoveryOptions
  readonly #sightings: Sightings
  #links: OpenLink[] = []
  #told = 0
  #isStopped = false
  #hasComplained = false
  #timer: NodeJS.Timeout | undefined
  readonly #waiting = new Set<() => void>()
  /** One look at the interfaces after the other. */
  #looking: Promise<void> = Promise.resolve()

  constructor(options: DiscoveryOptions) {
    this.#options = options
    this.#sightings = new Sightings(options.label, options.isLabel, systemRng)
  }

  /** Who is here, as far as is known and unproven. */
  get all(): Sighting[] {
    return this.#sightings.all
  }

  /** Looks at the interfaces: once to start, then whenever they have changed. Never rejects. */
  async look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#matchLinks())
    await this.#looking
  }

  /**
   * Where a node may be; nowhere when it does not answer within two seconds.
   *
   * @throws the signal's reason.
   */
  async find(label: string, signal: AbortSignal): Promise<SocketAddress[]> {
    signal.throwIfAborted()
    const isThere = (): boolean => this.#sightings.placesOf(label).length > 0
    if (!isThere() && this.#links.length > 0) {
      const release = this.#sightings.want(label)
      for (const { machine } of this.#links) machine.ask(systemClock.now())
      this.#drain()
      await this.#until(isThere, signal)
      release()
      signal.throwIfAborted()
    }
    return this.#sightings.placesOf(label)
  }

  /** Says good-bye, and ends. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#looking
    for (const { machine } of this.#links) machine.close()
    this.#drain()
    clearTimeout(this.#timer)
    for (const check of this.#waiting) check()
    await Promise.all(this.#links.splice(0).map(({ socket }) => socket.close()))
  }

  async #matchLinks(): Promise<void> {
    if (this.#isStopped) return
    const { bound } = this.#options
    const wanted = localLinks(bound)
    const gone = this.#links.filter(({ link }) => !wanted.some(({ state }) => state === link.state))
    this.#links = this.#links.filter((open) => !gone.includes(open))
    for (const { link } of gone) this.#sightings.forgetLink(link)
    await Promise.all(gone.map(({ socket }) => socket.close()))
    const isNew = wanted.filter(({ state }) => !this.#links.some(({ link }) => link.state === state))
    await Promise.all(isNew.map((link) => this.#open(link)))
    this.#drain()
  }

  async #open(link: LocalLink): Promise<void> {
    const { label, bound, announce } = this.#options
    const machine = new MdnsMachine({
      link,
      sightings: this.#sightings,
      own: announce ? { label, port: bound.port, addresses: link.addresses } : undefined,
      rng: systemRng,
    })
    const onError = (error: Error): void => this.#complain(link, error)
    try {
      const socket = await openSocket(
        link,
        (remote, bytes) => {
          machine.handleDatagram(systemClock.now(), { remote }, bytes)
          this.#drain()
        },
        onError,
      )
      machine.open(systemClock.now())
      this.#links.push({ link, machine, socket })
    } catch (error) {
      onError(error as Error)
    }
  }

  /** What is to be sent, to be told, and to be done later. */
  #drain(): void {
    const now = systemClock.now()
    this.#sightings.expire(now)
    const deadlines: Micros[] = []
    for (const { machine, socket } of this.#links) {
      machine.handleTimeout(now)
      for (let one = machine.pollTransmit(); one !== undefined; one = machine.pollTransmit()) {
        socket.send(one.path.remote, one.data)
      }
      const next = machine.pollTimeout()
      if (next !== undefined) deadlines.push(next.at)
    }
    if (this.#sightings.nextExpiry !== undefined) deadlines.push(this.#sightings.nextExpiry)
    clearTimeout(this.#timer)
    if (deadlines.length > 0 && !this.#isStopped) {
      const wait = Math.ceil((Math.min(...deadlines) - now) / 1_000)
      this.#timer = setTimeout(() => this.#drain(), Math.max(1, wait)).unref()
    }
    if (this.#told === this.#sightings.version) return
    this.#told = this.#sightings.version
    for (const check of this.#waiting) check()
    if (!this.#isStopped) this.#options.onChange()
  }

  async #until(isThere: () => boolean, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', end)
        this.#waiting.delete(check)
        resolve()
      }
      const check = (): void => {
        if (this.#isStopped || isThere()) end()
      }
      const timer = setTimeout(end, PATIENCE)
      signal.addEventListener('abort', end)
      this.#waiting.add(check)
    })
  }

  /** Once aloud: what does not work once does not work a second later either. */
  #complain({ zone, family }: LocalLink, { message }: Error): void {
    const { logger } = this.#options
    const fields = { interface: zone, family: `IPv${family}`, error: message }
    if (this.#hasComplained) logger.debug('multicast DNS does not work on an interface', fields)
    else {
      logger.warn(
        'multicast DNS does not work here, so that nodes on this network are not found by it',
        fields,
      )
    }
    this.#hasComplained = true
  }
}
