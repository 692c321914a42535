import { EventEmitter } from 'node:events'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { familyOf, formatAddress, sameAddress } from '../../core/address.ts'
import { silentLogger, type Logger } from '../../core/logger.ts'
import { PortmapUsageError } from '../errors.ts'
import { uselessBecause, type MappingEvent, type PortMapping, type UnavailableReason } from '../mapping.ts'
import { defaultGateways, type DefaultGateway } from './gateways.ts'
import { GatewaySession } from './session.ts'

export interface PortMapperOptions {
  readonly logger?: Logger
}

export interface PortMapperStartOptions {
  /** The UDP port to have mapped, 1–65535. */
  readonly port: number
  /**
   * What the port is bound to: `::` (the default) for all addresses, `0.0.0.0` for those of IPv4, or one of this
   * machine's.
   */
  readonly host?: string
  /** Aborting is {@link PortMapper.stop}. */
  readonly signal?: AbortSignal
}

export interface NoMapping {
  readonly family: 4 | 6
  readonly reason: UnavailableReason
  /** The reason for people, and what to do. */
  readonly message: string
}

export interface PortMapperEvents {
  /** A port is mapped, or an external address or the judgement of its use has changed. */
  mapped: [mapping: PortMapping]
  /** A mapping is gone, and another one is being tried for. */
  lost: [mapping: PortMapping, message: string]
  /** There is none for this family. It is tried again when the network changes, and after 10 minutes. */
  unavailable: [NoMapping]
}

/**
 * Has the router forward a UDP port to this machine, by whatever it speaks: PCP (RFC 6887), NAT-PMP (RFC 6886),
 * UPnP-IGD (RFC 6970 tells how it relates). With IPv6 it opens the port in the router's firewall, by PCP.
 *
 *     const mapper = new PortMapper()
 *     mapper.on('mapped', ({ external, useful }) => …)
 *     await mapper.start({ port: 1315 })
 *     …
 *     await mapper.stop()
 */
export class PortMapper extends EventEmitter<PortMapperEvents> {
  readonly #logger: Logger
  #run: Run | undefined

  constructor(options: PortMapperOptions = {}) {
    super()
    this.#logger = options.logger ?? silentLogger
  }

  /** What is mapped now; one of IPv4 at most, and one for each global IPv6 address. */
  get mappings(): PortMapping[] {
    return this.#run?.mappings ?? []
  }

  /**
   * Begins. Resolves once the routers are being asked, not when they have answered: that is what the events are for.
   *
   * @throws {PortmapUsageError} `ERR_NATWORK_PORTMAP_CONFIG` for a wrong port or host, or when it runs already.
   */
  async start({ port, host = '::', signal }: PortMapperStartOptions): Promise<void> {
    if (!Number.isInteger(port) || port < 1 || port > 65535 || isIP(host) === 0) {
      throw usage(`cannot map port ${port} of "${host}": give a port of 1–65535 and an IP address`)
    }
    if (this.#run !== undefined) throw usage('this PortMapper has been started already: make another one')
    signal?.throwIfAborted()
    const run = new Run(this, { port, host }, this.#logger)
    this.#run = run
    signal?.addEventListener('abort', () => void this.stop(), { once: true, signal: run.ended })
    await run.look()
  }

  /** Has every mapping removed and ends; within 3 seconds where a router is silent. Harmless when repeated. */
  async stop(): Promise<void> {
    const run = this.#run
    this.#run = undefined
    await run?.close()
  }

  /** Something has changed (another public address, another network): finds out at once what is still mapped. */
  recheck(): void {
    void this.#run?.look()
    this.#run?.recheck()
  }

  /**
   * This machine's address as STUN servers see it, one per family, or undefined when it is not known: a mapping with
   * another external address is of no use, since there is another NAT in between.
   */
  observe(family: 4 | 6, address: string | undefined): void {
    this.#run?.observe(family, address)
  }
}

/** From `start` to `stop`. */
class Run {
  readonly #events: PortMapper
  readonly #bound: { readonly port: number; readonly host: string }
  readonly #logger: Logger
  readonly #timer: NodeJS.Timeout
  readonly #ended = new AbortController()
  /** By gateway and own address; bounded by what `defaultGateways` gives. */
  readonly #sessions = new Map<string, Entry>()
  readonly #seen = new Map<4 | 6, string>()
  /** Looks follow each other. */
  #looking: Promise<void> = Promise.resolve()
  #interfaces = ''
  /** Told last for each family, so that it is told once. */
  readonly #told = new Map<4 | 6, string>()

  constructor(events: PortMapper, bound: { readonly port: number; readonly host: string }, logger: Logger) {
    this.#events = events
    this.#bound = bound
    this.#logger = logger
    this.#timer = setInterval(() => {
      if (interfacesInWords() !== this.#interfaces) void this.look()
    }, LOOK_AT_INTERFACES)
  }

  get ended(): AbortSignal {
    return this.#ended.signal
  }

  get mappings(): PortMapping[] {
    return [...this.#sessions.values()].flatMap(({ mapping }) => mapping ?? [])
  }

  /** Which routers are there? Sessions with those that are gone end, and those with new ones begin. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#look())
    return this.#looking
  }

  recheck(): void {
    for (const { session } of this.#sessions.values()) session?.recheck()
  }

  observe(family: 4 | 6, address: string | undefined): void {
    if (this.#seen.get(family) === address) return
    if (address === undefined) this.#seen.delete(family)
    else this.#seen.set(family, address)
    for (const entry of this.#sessions.values()) {
      const { mapping } = entry
      if (mapping && familyOf(mapping.external.address) === family) this.#mapped(entry, mapping)
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#ended.abort()
    await this.#looking
    await Promise.all([...this.#sessions.values()].flatMap(({ session }) => session?.close() ?? []))
    this.#sessions.clear()
  }

  async #look(): Promise<void> {
    this.#interfaces = interfacesInWords()
    const found = (await defaultGateways()).filter(({ own }) => isServed(own, this.#bound.host))
    if (this.ended.aborted) return
    const wanted = new Map(found.map((gateway) => [`${gateway.own} ${gateway.address}`, gateway]))
    for (const [key, entry] of this.#sessions) if (!wanted.has(key)) this.#leave(key, entry)
    await Promise.all(
      [...wanted]
        .filter(([key]) => !this.#sessions.has(key))
        .map(([key, gateway]) => this.#enter(key, gateway)),
    )
    for (const family of [4, 6] as const) {
      const isServedToo = this.#bound.host === '::' || familyOf(this.#bound.host) === family
      // IPv6 is missing on many networks, which is nothing to tell anybody.
      if (family === 4 && isServedToo && this.#of(family).length === 0) {
        this.#unavailable({ family, reason: 'no-gateway', message: NO_GATEWAY })
      }
    }
  }

  async #enter(key: string, gateway: DefaultGateway): Promise<void> {
    const entry: Entry = { gateway, session: undefined, mapping: undefined, failure: undefined }
    this.#sessions.set(key, entry)
    this.#logger.debug('asking a router for a port', { gateway: gateway.address, own: gateway.own })
    try {
      const onEvent = (event: MappingEvent): void => this.#on(entry, event)
      entry.session = await GatewaySession.open(gateway, this.#bound.port, this.#logger, onEvent)
    } catch (error) {
      // The address has just gone: the next look finds what is there instead.
      this.#sessions.delete(key)
      this.#interfaces = ''
      this.#logger.debug('no port to ask the router from', { own: gateway.own, error })
    }
  }

  #leave(key: string, entry: Entry): void {
    this.#sessions.delete(key)
    if (entry.mapping) this.#lost(entry, entry.mapping, 'this machine is on another network')
    // Its router is out of reach, most likely: nobody waits for it.
    void entry.session?.close()
  }

  #of(family: 4 | 6): Entry[] {
    return [...this.#sessions.values()].filter(({ gateway }) => familyOf(gateway.own) === family)
  }

  #on(entry: Entry, event: MappingEvent): void {
    // What is still to come from a session that was left is no news.
    if (this.ended.aborted || ![...this.#sessions.values()].includes(entry)) return
    switch (event.type) {
      case 'mapped': {
        const { protocol, external, lifetime } = event
        const internal = { address: entry.gateway.own, port: this.#bound.port }
        entry.failure = undefined
        this.#mapped(entry, { protocol, gateway: entry.gateway.address, internal, external, lifetime })
        return
      }
      case 'lost':
        if (entry.mapping) this.#lost(entry, entry.mapping, event.message)
        return
      case 'unavailable': {
        const family = familyOf(entry.gateway.own)
        entry.failure = { family, reason: event.reason, message: event.message }
        if (this.#of(family).every(({ failure }) => failure)) this.#unavailable(entry.failure)
        return
      }
      case 'removed':
    }
  }

  #mapped(entry: Entry, made: Omit<PortMapping, 'useful' | 'reason'>): void {
    const { address } = made.external
    const reason = uselessBecause(address, this.#seen.get(familyOf(address)))
    const { mapping: before } = entry
    const mapping: PortMapping = { ...made, useful: reason === undefined, reason }
    entry.mapping = mapping
    this.#told.delete(familyOf(entry.gateway.own))
    if (before !== undefined && before.reason === reason && sameAddress(before.external, made.external))
      return
    const { gateway, protocol } = mapping
    const fields = { external: formatAddress(mapping.external), gateway, protocol }
    if (reason === undefined) this.#logger.info('the router forwards our port', fields)
    else this.#logger.info('the router forwards our port, but that is of no use', { ...fields, reason })
    this.#events.emit('mapped', mapping)
  }

  #lost(entry: Entry, mapping: PortMapping, message: string): void {
    entry.mapping = undefined
    this.#logger.info('the router no longer forwards our port', { gateway: mapping.gateway, reason: message })
    this.#events.emit('lost', mapping, message)
  }

  #unavailable(failure: NoMapping): void {
    if (this.#told.get(failure.family) === failure.message) return
    this.#told.set(failure.family, failure.message)
    this.#logger.info('no router forwards our port', { family: failure.family, reason: failure.message })
    this.#events.emit('unavailable', failure)
  }
}

interface Entry {
  readonly gateway: DefaultGateway
  /** Undefined while its port is being bound. */
  session: GatewaySession | undefined
  mapping: PortMapping | undefined
  failure: NoMapping | undefined
}

/** Milliseconds. */
const LOOK_AT_INTERFACES = 5_000
const NO_GATEWAY = 'this machine has no default route to a router: nothing to ask for a port'

function isServed(own: string, host: string): boolean {
  return host === '::' || host === own || (host === '0.0.0.0' && familyOf(own) === 4)
}

/** Another network shows as other addresses. */
function interfacesInWords(): string {
  return JSON.stringify(Object.values(networkInterfaces()).map((list) => list?.map(({ address }) => address)))
}

function usage(message: string): PortmapUsageError {
  return new PortmapUsageError('ERR_NATWORK_PORTMAP_CONFIG', message)
}
