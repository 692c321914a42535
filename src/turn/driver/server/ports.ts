import type { SocketAddress } from '../../../core/address.ts'
import { familyOf } from '../../../core/address.ts'
import type { Rng } from '../../../core/ports.ts'
import { AddressFamily } from '../../protocol/constants.ts'

/** An address of this machine that relayed transport addresses are taken from. */
export interface RelayAddress {
  /** An IP literal of this machine: what is bound. */
  readonly host: string
  /** What peers see instead, behind a 1:1 NAT; default `host`. */
  readonly external?: string
}

/** RFC 8656 §7.2: "the server SHOULD only allocate ports from the range 49152 - 65535". */
export const DEFAULT_PORTS = { min: 49_152, max: 65_535 } as const

/**
 * Which ports of the relay's addresses are taken, and the next ones to try: random ones of the free (RFC 6056), so that
 * nobody guesses the next.
 */
export class RelayPorts {
  readonly #rng: Rng
  readonly #min: number
  readonly #max: number
  readonly #isElsewhere: (address: string, port: number) => boolean
  /** Those in use, by address, as peers see them. Bounded by the range and the number of addresses. */
  readonly #used = new PortSet()

  /** @param isElsewhere is this port taken by another process of this relay? */
  constructor(
    rng: Rng,
    { min, max }: { readonly min: number; readonly max: number } = DEFAULT_PORTS,
    isElsewhere: (address: string, port: number) => boolean = () => false,
  ) {
    this.#rng = rng
    this.#isElsewhere = isElsewhere
    this.#min = min
    this.#max = max
  }

  /** Is this one of the transport addresses that are relayed now? */
  has(address: string, port: number): boolean {
    return this.#used.has(address, port) || this.#isElsewhere(address, port)
  }

  /**
   * Up to TRIES free ports, in the order to try them. Where the range is nearly full all of it is looked through.
   *
   * @param even only even ones; with `pair` only those whose successor is free too.
   */
  *candidates(address: string, even: boolean, pair: boolean): Generator<number> {
    const size = this.#max - this.#min + 1
    const fits = (port: number): boolean =>
      (!even || port % 2 === 0) &&
      !this.has(address, port) &&
      (!pair || (port < this.#max && !this.has(address, port + 1)))
    for (let tries = 0; tries < TRIES; tries++) {
      const port = this.#min + (this.#rng.uint32() % size)
      if (fits(port)) yield port
    }
    const start = this.#rng.uint32() % size
    for (let n = 0, found = 0; n < size && found < TRIES; n++) {
      const port = this.#min + ((start + n) % size)
      if (!fits(port)) continue
      found++
      yield port
    }
  }

  take({ address, port }: SocketAddress): void {
    this.#used.add(address, port)
  }

  free({ address, port }: SocketAddress): void {
    this.#used.delete(address, port)
  }
}

const TRIES = 16

/** Ports by address: asked for each datagram between two clients of this relay, so without making a text of them. */
export class PortSet {
  readonly #ports = new Map<string, Set<number>>()

  has(address: string, port: number): boolean {
    return this.#ports.get(address)?.has(port) === true
  }

  add(address: string, port: number): void {
    const there = this.#ports.get(address)
    if (there === undefined) this.#ports.set(address, new Set([port]))
    else there.add(port)
  }

  delete(address: string, port: number): void {
    const there = this.#ports.get(address)
    if (there?.delete(port) === true && there.size === 0) this.#ports.delete(address)
  }
}

/** The family of an address, as TURN's attributes number it. */
export function familyNumber(address: string): AddressFamily {
  return familyOf(address) === 6 ? AddressFamily.Ipv6 : AddressFamily.Ipv4
}
