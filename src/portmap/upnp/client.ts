import { sameAddress, type SocketAddress } from '../../core/address.ts'
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
import { Lease } from '../lease.ts'
import type { MappingEvent } from '../mapping.ts'
import {
  addMapping,
  externalAddress,
  findMapping,
  inspect,
  removeMapping,
  type Gateway,
  type Granted,
  type Procedure,
} from './actions.ts'
import type { HttpRequest, HttpResponse } from './http.ts'
import { Runner } from './runner.ts'
import { UpnpError } from './soap.ts'
import { decodeSearchResponse, encodeSearch, SEARCH_TARGETS, SSDP_GROUP } from './ssdp.ts'

export interface UpnpOptions {
  readonly rng: Rng
  /** The gateway's IPv4 address on our side. Only what comes from there is heard, and only there are requests sent. */
  readonly gateway: string
  /** What is to be mapped: our own IPv4 address and a UDP port. */
  readonly internal: SocketAddress
}

export type UpnpEvent =
  | MappingEvent
  /** The search is over; undefined: there is no such gateway. */
  | { readonly type: 'found'; readonly gateway: Gateway | undefined }
  /** To be done, and answered by {@link UpnpClient.handleHttp}. */
  | { readonly type: 'http'; readonly request: HttpRequest }

/**
 * Keeps one UDP mapping on a gateway that speaks UPnP-IGD, of version 1 or 2: searches it (SSDP), reads its
 * description, and calls its WANIPConnection service.
 *
 * {@link search} only looks for the gateway; {@link open} asks for the mapping, with `mapped` or `unavailable` as the
 * answer. The mapping is looked after every minute, made again when it is gone, and renewed until {@link close}.
 */
export class UpnpClient implements Machine<UpnpEvent> {
  readonly #rng: Rng
  readonly #internal: SocketAddress
  readonly #host: string
  readonly #runner = new Runner()
  #state: 'resting' | 'opening' | 'mapped' | 'closing' = 'resting'
  #search: Search | undefined
  #gateway: Gateway | undefined
  #mapping: Mapping | undefined
  // Both are drained after every mutation: a few entries at most.
  readonly #transmits: Transmit[] = []
  readonly #events: UpnpEvent[] = []

  constructor({ rng, gateway, internal }: UpnpOptions) {
    this.#rng = rng
    this.#host = gateway
    this.#internal = internal
  }

  /** Only looks for the gateway; `found` tells. */
  search(now: Micros): void {
    this.#gateway = undefined
    this.#runner.cancel()
    this.#search = { sent: 0, nextAt: now, locations: [], inspected: 0 }
    this.#searchOn(now, this.#search)
  }

  open(now: Micros): void {
    this.#state = 'opening'
    if (this.#gateway !== undefined) this.#add(now, this.#gateway)
    else if (this.#search === undefined) this.search(now)
  }

  /** Has the mapping removed; `removed` follows, within 3 seconds. */
  close(now: Micros): void {
    const gateway = this.#gateway
    const external = this.#mapping?.external
    this.#state = 'closing'
    this.#search = undefined
    if (gateway === undefined || external === undefined) {
      this.#rest({ type: 'removed' })
    } else {
      const procedure = removeMapping(gateway.service, external.port)
      this.#runner.run(now, now + REMOVAL_PATIENCE, procedure, () => {
        this.#rest({ type: 'removed' })
      })
    }
  }

  /** Finds out at once whether the mapping is still there: something has changed. */
  recheck(now: Micros): void {
    if (this.#mapping) this.#mapping.lease.checkAt = now
  }

  /** The response to the request with this id. */
  handleHttp(now: Micros, id: number, response: HttpResponse): void {
    this.#runner.handleResponse(now, id, response)
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    if (path.remote.address !== this.#host) return false
    const location = decodeSearchResponse(bytes, this.#host)
    if (location === undefined) return false
    const known = this.#search?.locations
    if (known === undefined || known.length === MAX_LOCATIONS) return true
    if (known.every(({ href }) => href !== location.href)) {
      known.push(location)
      this.#inspectNext(now)
    }
    return true
  }

  handleTimeout(now: Micros): void {
    this.#runner.handleTimeout(now)
    if (this.#search !== undefined && now >= this.#search.nextAt) this.#searchOn(now, this.#search)
    const mapping = this.#mapping
    const gateway = this.#gateway
    if (mapping === undefined || gateway === undefined || this.#state === 'closing') return
    const { lease, message } = mapping
    if (now >= lease.expiresAt) this.#lose(message ?? 'the router no longer answers')
    else if (!this.#runner.isBusy && now >= lease.renewAt) this.#add(now, gateway)
    else if (!this.#runner.isBusy && now >= lease.checkAt) this.#check(now, gateway, mapping)
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift()
  }

  pollEvent(): UpnpEvent | undefined {
    const event = this.#events.shift()
    if (event !== undefined) return event
    const request = this.#runner.pollRequest()
    return request && { type: 'http', request }
  }

  pollTimeout(): Deadline | undefined {
    const lease = this.#state === 'closing' ? undefined : this.#mapping?.lease
    const at = Math.min(
      this.#search?.nextAt ?? Infinity,
      this.#runner.until,
      (this.#runner.isBusy ? lease?.expiresAt : lease?.nextAt) ?? Infinity,
    )
    return at === Infinity ? undefined : { at, reason: this.#search ? 'upnp search' : 'upnp mapping' }
  }

  #searchOn(now: Micros, search: Search): void {
    const wait = SEARCH_ROUNDS[search.sent]
    if (wait === undefined) {
      // An answer that is being read now decides; it is bounded in time itself.
      search.nextAt = Infinity
      if (!this.#runner.isBusy) this.#endSearch(now, undefined)
      return
    }
    search.sent += 1
    search.nextAt = now + wait
    // To the gateway alone as well (§1.3.2): hosts' firewalls let in the answer to that, rather than to a multicast.
    for (const remote of [SSDP_GROUP, { address: this.#host, port: SSDP_GROUP.port }]) {
      for (const target of SEARCH_TARGETS) {
        this.#transmits.push({ path: { remote }, data: encodeSearch(target) })
      }
    }
  }

  #inspectNext(now: Micros): void {
    const search = this.#search
    if (search === undefined || this.#runner.isBusy) return
    const location = search.locations[search.inspected]
    if (location === undefined) {
      if (search.nextAt === Infinity) this.#endSearch(now, undefined)
      return
    }
    search.inspected += 1
    this.#runner.run(now, now + PATIENCE, inspect(location), (at, found) => {
      if (found === undefined) this.#inspectNext(at)
      else this.#endSearch(at, found)
    })
  }

  #endSearch(now: Micros, found: Gateway | undefined): void {
    this.#search = undefined
    this.#gateway = found
    this.#events.push({ type: 'found', gateway: found })
    if (this.#state !== 'opening') return
    if (found !== undefined) this.#add(now, found)
    else this.#unavailable('no-answer', 'the router does not speak UPnP-IGD')
  }

  /** Makes the mapping, or renews it. */
  #add(now: Micros, { service, address }: Gateway): void {
    const wanted = this.#mapping?.external.port ?? this.#internal.port
    const procedure = addMapping(service, this.#internal, wanted, LIFETIME, this.#rng)
    this.#runner.run(now, now + PATIENCE, procedure, (at, granted) => {
      if (granted?.ok === true) this.#granted(at, address, granted.port, granted.lifetime)
      else this.#refused(at, granted)
    })
  }

  #granted(now: Micros, address: string | undefined, port: number, lifetime: number): void {
    const before = this.#mapping
    const external = { address: address ?? UNKNOWN_ADDRESS, port }
    this.#mapping = {
      external,
      lease: new Lease(now, lifetime, this.#rng),
      lifetime,
      silences: 0,
      isGone: false,
      message: undefined,
    }
    this.#state = 'mapped'
    if (before === undefined || !sameAddress(before.external, external)) this.#tell(this.#mapping)
  }

  #refused(now: Micros, granted: (Granted & { readonly ok: false }) | undefined): void {
    const mapping = this.#mapping
    const message =
      granted?.code === undefined ? 'the router’s UPnP service does not answer' : inWords(granted)
    if (mapping === undefined) {
      // It may have another control port by now.
      if (granted?.code === undefined) this.#gateway = undefined
      this.#unavailable('refused', message)
    } else if (mapping.isGone) {
      this.#lose(message)
    } else {
      mapping.message = message
      mapping.lease.renewLater(now)
    }
  }

  /** Is the mapping still there, and the router's address the same? */
  #check(now: Micros, { service }: Gateway, mapping: Mapping): void {
    mapping.lease.checkLater(now)
    const procedure = look(service, this.#internal, mapping.external.port)
    this.#runner.run(now, now + PATIENCE, procedure, (at, seen) => {
      if (seen === undefined || seen.entry === 'no-answer') {
        mapping.silences += 1
        if (mapping.silences === MAX_SILENCES) this.#lose('the router’s UPnP service no longer answers')
        return
      }
      mapping.silences = 0
      const gateway: Gateway = { service, address: seen.address ?? mapping.external.address }
      this.#gateway = gateway
      if (seen.entry === 'gone') {
        mapping.isGone = true
        this.#add(at, gateway)
      } else if (gateway.address !== undefined && gateway.address !== mapping.external.address) {
        mapping.external = { address: gateway.address, port: mapping.external.port }
        this.#tell(mapping)
      }
    })
  }

  #unavailable(reason: 'no-answer' | 'refused', message: string): void {
    this.#rest({ type: 'unavailable', reason, message, retryAfter: RETRY_AFTER })
  }

  #lose(message: string): void {
    // What it was found by may be what has changed.
    this.#gateway = undefined
    this.#rest({ type: 'lost', message })
  }

  #rest(last: MappingEvent): void {
    this.#state = 'resting'
    this.#runner.cancel()
    this.#mapping = undefined
    this.#events.push(last)
  }

  #tell({ external, lifetime }: Mapping): void {
    this.#events.push({ type: 'mapped', protocol: 'upnp-igd', external, lifetime })
  }
}

interface Search {
  /** Rounds of requests. */
  sent: number
  /** Infinity after the last: what is still being read decides. */
  nextAt: Micros
  /** Bounded by MAX_LOCATIONS. */
  readonly locations: URL[]
  inspected: number
}

interface Mapping {
  external: SocketAddress
  readonly lease: Lease
  /** Seconds. */
  readonly lifetime: number
  /** Checks in a row without an answer. */
  silences: number
  /** The router has forgotten it. */
  isGone: boolean
  /** What it said to the last renewal. */
  message: string | undefined
}

function* look(
  service: Gateway['service'],
  internal: SocketAddress,
  port: number,
): Procedure<{ entry: 'present' | 'gone' | 'no-answer'; address: string | undefined }> {
  const entry = yield* findMapping(service, internal, port)
  return { entry, address: entry === 'no-answer' ? undefined : yield* externalAddress(service) }
}

function inWords({ code, description }: Granted & { readonly ok: false }): string {
  switch (code) {
    case UpnpError.ActionNotAuthorized:
      return 'the router has port mapping switched off, or not for this machine: allow it in the router'
    case UpnpError.NoPortMapsAvailable:
      return 'the router has no room for another port mapping'
    case UpnpError.ConflictInMappingEntry:
    case UpnpError.ConflictWithOtherMechanisms:
    case UpnpError.SamePortValuesRequired:
      return 'the port is mapped to somebody else on the router: use another one'
    default:
      return `the router refuses: UPnP error ${code ?? 0} ${description}`.trimEnd()
  }
}

/** What `uselessBecause` reads as "not connected". */
const UNKNOWN_ADDRESS = '0.0.0.0'
/** Seconds to ask for. */
const LIFETIME = 7_200
/** How long each round of the search is waited for; devices answer within a second (MX). */
const SEARCH_ROUNDS: readonly Micros[] = [500 * MILLISECOND, 1_000 * MILLISECOND, 1_500 * MILLISECOND]
/** Devices on one router: its media server, its NAS. */
const MAX_LOCATIONS = 4
/** For a procedure of several requests. */
const PATIENCE: Micros = 10 * SECOND
const REMOVAL_PATIENCE: Micros = 3 * SECOND
const RETRY_AFTER: Micros = 600 * SECOND
const MAX_SILENCES = 3
