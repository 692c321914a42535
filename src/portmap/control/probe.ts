import { familyOf, sameAddress, type SocketAddress } from '../../core/address.ts'
import {
  MILLISECOND,
  type Deadline,
  type Machine,
  type Micros,
  type Path,
  type Transmit,
} from '../../core/machine.ts'
import type { PortControlOptions } from './client.ts'
import { decodeNatPmp, encodeAddressRequest, NatPmpResult, SERVER_PORT } from './nat-pmp.ts'
import { decodePcp, encodePcpMap, NONCE_LENGTH, PcpResult } from './pcp.ts'
import { natPmpRefusal, pcpRefusal } from './results.ts'

/** What a gateway answers to one protocol. */
export interface ProtocolReport {
  readonly available: boolean
  /** Its external address, if it said one. */
  readonly external: string | undefined
  /** Why it refuses, for people. */
  readonly message: string | undefined
}

export const silent: ProtocolReport = { available: false, external: undefined, message: undefined }

export type PortControlReport = Readonly<Record<'pcp' | 'nat-pmp', ProtocolReport>>

/**
 * Finds out which of PCP and NAT-PMP a gateway speaks, one after the other (RFC 6886 §3.1), within 4 seconds. The one
 * event is the report. PCP tells its external address only with a mapping: one is made for a minute, and taken back.
 */
export class PortControlProbe implements Machine<PortControlReport> {
  readonly #server: Path
  readonly #internal: SocketAddress
  readonly #nonce = new Uint8Array(NONCE_LENGTH)
  #asking: 'pcp' | 'nat-pmp' | undefined = 'pcp'
  #sent = 0
  #nextAt: Micros
  #found: PortControlReport = { pcp: silent, 'nat-pmp': silent }
  readonly #transmits: Uint8Array[] = []
  readonly #events: PortControlReport[] = []

  constructor(now: Micros, { rng, gateway, internal }: PortControlOptions) {
    this.#server = { remote: { address: gateway, port: SERVER_PORT } }
    this.#internal = internal
    this.#nextAt = now
    rng.fill(this.#nonce)
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    if (!sameAddress(path.remote, this.#server.remote)) return false
    return this.#asking === 'pcp' ? this.#onPcp(now, bytes) : this.#onNatPmp(now, bytes)
  }

  handleTimeout(now: Micros): void {
    if (this.#asking === undefined || now < this.#nextAt) return
    if (this.#sent === ATTEMPTS) {
      this.#next(now, silent)
      return
    }
    this.#nextAt = now + (FIRST_TIMEOUT << this.#sent)
    this.#sent += 1
    this.#transmits.push(this.#asking === 'pcp' ? this.#pcpMap(LIFETIME) : encodeAddressRequest())
  }

  pollTransmit(): Transmit | undefined {
    const data = this.#transmits.shift()
    return data && { path: this.#server, data }
  }

  pollEvent(): PortControlReport | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    return this.#asking && { at: this.#nextAt, reason: 'port control probe' }
  }

  #onPcp(now: Micros, bytes: Uint8Array): boolean {
    // A NAT-PMP gateway answers in its own words that it speaks no other version.
    if (decodeNatPmp(bytes) !== undefined) {
      this.#next(now, silent)
      return true
    }
    const response = decodePcp(bytes)
    if (response?.type === 'version') {
      this.#next(now, silent)
    } else if (response?.type === 'map' && Buffer.compare(response.nonce, this.#nonce) === 0) {
      const { result, lifetime, external } = response
      if (result === PcpResult.Success) {
        this.#transmits.push(this.#pcpMap(0))
        this.#next(now, { available: true, external: external.address, message: undefined })
      } else {
        const { message } = pcpRefusal(result, lifetime)
        this.#next(now, { available: true, external: undefined, message })
      }
    }
    return response !== undefined
  }

  #onNatPmp(now: Micros, bytes: Uint8Array): boolean {
    const response = decodeNatPmp(bytes)
    if (this.#asking === undefined || response === undefined) return false
    if (response.type === 'address') {
      this.#next(now, { available: true, external: response.address, message: undefined })
    } else if (response.type === 'error' && response.result !== NatPmpResult.UnsupportedVersion) {
      const { message } = natPmpRefusal(response.result)
      this.#next(now, { available: true, external: undefined, message })
    }
    return true
  }

  #next(now: Micros, report: ProtocolReport): void {
    const asked = this.#asking
    if (asked === undefined) return
    this.#found = { ...this.#found, [asked]: report }
    this.#asking = asked === 'pcp' && familyOf(this.#internal.address) === 4 ? 'nat-pmp' : undefined
    this.#sent = 0
    this.#nextAt = now
    if (this.#asking === undefined) this.#events.push(this.#found)
    else this.handleTimeout(now)
  }

  #pcpMap(lifetime: number): Uint8Array {
    const { address: client, port: internalPort } = this.#internal
    return encodePcpMap({ client, nonce: this.#nonce, internalPort, lifetime })
  }
}

const FIRST_TIMEOUT: Micros = 250 * MILLISECOND
const ATTEMPTS = 3
/** Seconds. */
const LIFETIME = 60
