import { familyOf, sameAddress, type SocketAddress } from '../../core/address.ts'
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
import { fraction, Lease } from '../lease.ts'
import type { MappingEvent } from '../mapping.ts'
import { Epoch } from './epoch.ts'
import {
  decodeNatPmp,
  encodeAddressRequest,
  encodeMapRequest,
  SERVER_PORT,
  type NatPmpResponse,
} from './nat-pmp.ts'
import {
  decodePcp,
  encodePcpAnnounce,
  encodePcpMap,
  NONCE_LENGTH,
  PcpResult,
  type PcpMapResponse,
  type PcpResponse,
} from './pcp.ts'
import { natPmpRefusal, noAnswer, pcpRefusal, type Refusal } from './results.ts'

export interface PortControlOptions {
  readonly rng: Rng
  /** The gateway's address on our side. Only what comes from there, port 5351, is heard. */
  readonly gateway: string
  /** What is to be mapped: our own address, which the requests must come from, and a UDP port. */
  readonly internal: SocketAddress
}

/**
 * Keeps one UDP mapping on a gateway that speaks PCP (RFC 6887) or NAT-PMP (RFC 6886): both live on the same port, and
 * a gateway that knows only the older one says so. With IPv6 it is a hole in the gateway's firewall, by PCP.
 *
 * {@link open} asks; `mapped` or `unavailable` is the answer within 2 seconds. The mapping is then renewed until
 * {@link close}, and made again when the gateway has restarted. After `unavailable`, `lost` and `removed` the client
 * rests until the next {@link open}.
 */
export class PortControlClient implements Machine<MappingEvent> {
  readonly #rng: Rng
  readonly #server: Path
  readonly #internal: SocketAddress
  readonly #nonce = new Uint8Array(NONCE_LENGTH)
  #state: 'resting' | 'opening' | 'mapped' | 'closing' = 'resting'
  #protocol: 'pcp' | 'nat-pmp' = 'pcp'
  #epoch = new Epoch()
  /** The one open request: gateways are asked one thing at a time (RFC 6886 §3.1). */
  #ask: Ask | undefined
  /** NAT-PMP tells it apart from the mapping. */
  #externalAddress: string | undefined
  #mapping: Mapping | undefined
  // Both are drained after every mutation: a few entries at most.
  readonly #transmits: Uint8Array[] = []
  readonly #events: MappingEvent[] = []

  constructor({ rng, gateway, internal }: PortControlOptions) {
    this.#rng = rng
    this.#server = { remote: { address: gateway, port: SERVER_PORT } }
    this.#internal = internal
    rng.fill(this.#nonce)
  }

  /** Asks for the mapping. */
  open(now: Micros): void {
    this.#state = 'opening'
    this.#protocol = 'pcp'
    this.#epoch = new Epoch()
    this.#externalAddress = undefined
    this.#begin(now, 'map')
  }

  /** Has the mapping removed; `removed` follows, within 2 seconds. */
  close(now: Micros): void {
    const before = this.#state
    this.#state = 'closing'
    if (before === 'mapped') {
      this.#begin(now, 'remove')
    } else {
      this.#rest({ type: 'removed' })
      // The gateway may have granted it a moment ago. One word will do: it has not been heard yet, so why wait.
      if (before === 'opening') this.#transmits.push(this.#request('remove'))
    }
  }

  /** Finds out at once whether the gateway still knows us: something has changed. */
  recheck(now: Micros): void {
    if (this.#mapping) this.#mapping.lease.checkAt = now
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    if (!sameAddress(path.remote, this.#server.remote)) return false
    if (bytes[0] === 0) {
      const response = decodeNatPmp(bytes)
      if (response !== undefined) this.#onNatPmp(now, response)
      return response !== undefined
    }
    const response = decodePcp(bytes)
    if (response !== undefined) this.#onPcp(now, response)
    return response !== undefined
  }

  handleTimeout(now: Micros): void {
    const ask = this.#ask
    if (ask !== undefined && now >= ask.nextAt) {
      if (ask.sent < this.#timeouts(ask).length) this.#send(now, ask)
      else this.#unanswered(now, ask)
    }
    const mapping = this.#mapping
    if (mapping === undefined) return
    const { lease, refusal } = mapping
    if (now >= lease.expiresAt) this.#lose(refusal?.message ?? 'the router no longer answers')
    else if (this.#ask === undefined && now >= lease.renewAt) this.#begin(now, 'map')
    else if (this.#ask === undefined && now >= lease.checkAt) this.#begin(now, 'probe')
  }

  pollTransmit(): Transmit | undefined {
    const data = this.#transmits.shift()
    return data && { path: this.#server, data }
  }

  pollEvent(): MappingEvent | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    const lease = this.#mapping?.lease
    if (this.#ask === undefined) return lease && { at: lease.nextAt, reason: 'port mapping' }
    const at = Math.min(this.#ask.nextAt, lease?.expiresAt ?? Infinity)
    return { at, reason: 'port control request' }
  }

  #begin(now: Micros, kind: Ask['kind']): void {
    this.#ask = { kind, sent: 0, nextAt: now }
    this.#send(now, this.#ask)
  }

  #send(now: Micros, ask: Ask): void {
    const isNatPmpsTurn = this.#isUndecided(ask) && ask.sent % 2 === 1
    ask.nextAt = now + (this.#timeouts(ask)[ask.sent] ?? 0)
    ask.sent += 1
    this.#transmits.push(isNatPmpsTurn ? encodeAddressRequest() : this.#request(ask.kind))
  }

  /** Not every NAT-PMP gateway answers other versions, as RFC 6886 §3.5 demands: until one answers, both get turns. */
  #timeouts(ask: Ask): readonly Micros[] {
    return this.#isUndecided(ask) ? TURNS : TIMEOUTS
  }

  #isUndecided(ask: Ask): boolean {
    return this.#state === 'opening' && ask.kind === 'map' && this.#protocol === 'pcp' && this.#isIpv4
  }

  get #isIpv4(): boolean {
    return familyOf(this.#internal.address) === 4
  }

  #request(kind: Ask['kind']): Uint8Array {
    const { address: client, port: internalPort } = this.#internal
    const nonce = this.#nonce
    const lifetime = kind === 'remove' ? 0 : LIFETIME
    if (this.#protocol === 'nat-pmp') {
      if (kind === 'address' || kind === 'probe') return encodeAddressRequest()
      const wanted = this.#mapping?.external.port ?? internalPort
      return encodeMapRequest({ internalPort, externalPort: lifetime && wanted, lifetime })
    }
    if (kind === 'probe') return encodePcpAnnounce(client)
    // §15: a deletion suggests nothing.
    if (lifetime === 0) return encodePcpMap({ client, nonce, internalPort, lifetime })
    const unspecified = this.#isIpv4 ? '0.0.0.0' : '::'
    const external = this.#mapping?.external ?? { address: unspecified, port: internalPort }
    return encodePcpMap({ client, nonce, internalPort, lifetime, external })
  }

  #onPcp(now: Micros, response: PcpResponse): void {
    if (this.#protocol !== 'pcp' || this.#state === 'resting') return
    switch (response.type) {
      case 'version':
        if (this.#ask && this.#state === 'opening') this.#refused(now, PcpResult.UnsuppVersion, 0)
        return
      case 'announce':
        if (this.#ask?.kind === 'probe') this.#ask = undefined
        this.#checkEpoch(now, response.epoch)
        return
      case 'map':
        if (response.internalPort !== this.#internal.port || !sameBytes(response.nonce, this.#nonce)) return
        this.#onPcpMap(now, response)
    }
  }

  #onPcpMap(now: Micros, { result, lifetime, epoch, external }: PcpMapResponse): void {
    const isRemoval = this.#ask?.kind === 'remove'
    if (isRemoval) {
      // An answer to a request of before may still come in, with the lifetime that is to end.
      if (result !== PcpResult.Success || lifetime === 0) this.#rest({ type: 'removed' })
      return
    }
    if (result !== PcpResult.Success) {
      if (this.#ask?.kind === 'map') this.#refused(now, result, lifetime)
      return
    }
    const family = familyOf(external.address)
    if (lifetime === 0 || external.port === 0 || family !== familyOf(this.#internal.address)) return
    // Also without having been asked: the gateway may move a mapping by itself (§14.2).
    if (this.#ask?.kind === 'map') this.#ask = undefined
    this.#epoch.isContinuedBy(epoch, now, 'pcp')
    this.#granted(now, external, lifetime)
  }

  #onNatPmp(now: Micros, response: NatPmpResponse): void {
    if (!this.#isIpv4) return
    const { kind } = this.#ask ?? {}
    if (this.#protocol === 'pcp') {
      if (this.#ask === undefined || !this.#isUndecided(this.#ask)) return
      // It does not speak PCP and says so (RFC 6887 §9), or answers what it was asked besides.
      const speaks = response.type === 'address' || response.type === 'error'
      if (speaks) this.#becomeNatPmp(now)
      if (response.type === 'address') this.#onAddress(now, response.address, response.epoch)
    } else if (response.type === 'error') {
      const isOurs = response.request === undefined || (response.request === 'map') === (kind === 'map')
      if (kind === 'remove') this.#rest({ type: 'removed' })
      else if (kind !== undefined && isOurs) this.#refusedBy(now, natPmpRefusal(response.result))
    } else if (response.type === 'address') {
      this.#onAddress(now, response.address, response.epoch)
    } else if (response.internalPort === this.#internal.port) {
      this.#onNatPmpMap(now, response)
    }
  }

  /** An answer, or an announcement to everybody (RFC 6886 §3.2.1). */
  #onAddress(now: Micros, address: string, epoch: number): void {
    this.#externalAddress = address
    const { kind } = this.#ask ?? {}
    if (kind === 'address') this.#begin(now, 'map')
    if (kind === 'probe') this.#ask = undefined
    const mapping = this.#mapping
    if (mapping !== undefined && mapping.external.address !== address) {
      mapping.external = { address, port: mapping.external.port }
      this.#tell(mapping)
    }
    this.#checkEpoch(now, epoch)
  }

  #onNatPmpMap(
    now: Micros,
    { lifetime, epoch, externalPort }: NatPmpResponse & { readonly type: 'map' },
  ): void {
    const { kind } = this.#ask ?? {}
    if (kind === 'remove') {
      if (lifetime === 0) this.#rest({ type: 'removed' })
      return
    }
    const address = this.#externalAddress
    if (kind !== 'map' || lifetime === 0 || externalPort === 0 || address === undefined) return
    this.#ask = undefined
    this.#epoch.isContinuedBy(epoch, now, 'nat-pmp')
    this.#granted(now, { address, port: externalPort }, lifetime)
  }

  #becomeNatPmp(now: Micros): void {
    this.#protocol = 'nat-pmp'
    this.#epoch = new Epoch()
    this.#begin(now, 'address')
  }

  #granted(now: Micros, external: SocketAddress, granted: number): void {
    const lifetime = Math.min(granted, LONGEST_LIFETIME)
    const before = this.#mapping
    const mapping: Mapping = {
      external,
      lifetime,
      lease: new Lease(now, lifetime, this.#rng),
      isDoubted: false,
      refusal: undefined,
    }
    this.#mapping = mapping
    this.#state = 'mapped'
    if (before === undefined || !sameAddress(before.external, external)) this.#tell(mapping)
  }

  /**
   * The epoch of an answer that says nothing about our mapping. When it began anew the mapping is gone: everybody's
   * are, so everybody asks again within 5 seconds, each at its own time (RFC 6886 §3.7, RFC 6887 §14.1.3).
   */
  #checkEpoch(now: Micros, epoch: number): void {
    const isContinued = this.#epoch.isContinuedBy(epoch, now, this.#protocol)
    const mapping = this.#mapping
    if (mapping === undefined) return
    const { lease } = mapping
    lease.checkLater(now)
    if (isContinued || mapping.isDoubted) return
    mapping.isDoubted = true
    lease.renewAt = Math.min(lease.renewAt, now + Math.floor(fraction(this.#rng) * RECREATION_SPREAD))
  }

  #refused(now: Micros, result: number, lifetime: number): void {
    // Not our version, not this opcode, or a mapping of this port with a nonce that is no longer known (a process that
    // died before us): NAT-PMP, on the same gateway, may still do.
    const natPmpMayDo: readonly number[] = [
      PcpResult.UnsuppVersion,
      PcpResult.UnsuppOpcode,
      PcpResult.NotAuthorized,
    ]
    if (this.#state === 'opening' && this.#isIpv4 && natPmpMayDo.includes(result)) this.#becomeNatPmp(now)
    else this.#refusedBy(now, pcpRefusal(result, lifetime))
  }

  #refusedBy(now: Micros, refusal: Refusal): void {
    const mapping = this.#mapping
    if (this.#state === 'opening') {
      this.#rest({ type: 'unavailable', reason: 'refused', ...refusal })
    } else if (mapping?.isDoubted === true) {
      this.#lose(refusal.message)
    } else if (mapping !== undefined) {
      // A renewal was refused: the mapping lives on until its time is over.
      mapping.refusal = refusal
      this.#ask = undefined
      mapping.lease.renewLater(now)
    }
  }

  #unanswered(now: Micros, { kind }: Ask): void {
    this.#ask = undefined
    const mapping = this.#mapping
    if (kind === 'remove') {
      this.#rest({ type: 'removed' })
    } else if (mapping === undefined) {
      this.#rest({ type: 'unavailable', reason: 'no-answer', ...noAnswer })
    } else if (kind === 'probe') {
      mapping.lease.checkLater(now)
    } else if (mapping.isDoubted) {
      this.#lose('the router has restarted and does not map the port again')
    } else {
      mapping.lease.renewLater(now)
    }
  }

  #lose(message: string): void {
    this.#rest({ type: 'lost', message })
  }

  #rest(last: MappingEvent): void {
    this.#state = 'resting'
    this.#ask = undefined
    this.#mapping = undefined
    this.#transmits.length = 0
    this.#events.push(last)
  }

  #tell({ external, lifetime }: Mapping): void {
    this.#events.push({ type: 'mapped', protocol: this.#protocol, external, lifetime })
  }
}

interface Ask {
  readonly kind: 'map' | 'address' | 'probe' | 'remove'
  sent: number
  nextAt: Micros
}

interface Mapping {
  external: SocketAddress
  /** Seconds. */
  readonly lifetime: number
  readonly lease: Lease
  /** The gateway has restarted: the mapping is gone until it grants it again. */
  isDoubted: boolean
  /** What it said to the last renewal. */
  refusal: Refusal | undefined
}

/** Seconds to ask for: RFC 6886 §3.3 recommends two hours. */
const LIFETIME = 7_200
/** Seconds. RFC 6887 §15: an absurdly long one is taken for this. */
const LONGEST_LIFETIME = 86_400
/**
 * RFC 6886 §3.1: 250 ms, doubled each time. RFC 6887 §8.1.1 begins with 3 s, for gateways far away; ours is one hop off,
 * and who wants to be reachable waits for it.
 */
const TIMEOUTS: readonly Micros[] = [250, 500, 1_000].map((ms) => ms * MILLISECOND)
const TURNS: readonly Micros[] = [250, 250, 500, 750].map((ms) => ms * MILLISECOND)
const RECREATION_SPREAD: Micros = 5 * SECOND

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i])
}
