import { SECOND, type Micros, type Path } from '../core/machine.ts'
import { canPad } from './packet.ts'

/** RFC 8899 §5.1.2: BASE_PLPMTU; every path of today carries a UDP payload of 1,200 bytes (RFC 9000 §14). */
const BASE = 1_200
/** BEP 29 "packet sizes": the smallest it goes to. Where even the base does not pass. */
const SMALLEST = 508
/** RFC 8899 §5.1.2: MAX_PROBES. */
const MAX_PROBES = 3
/** Close enough: the search ends. Half of it can still be padded. */
const GRAIN = 24
/** RFC 8899 §5.1.1: PMTU_RAISE_TIMER. */
const RAISE_AFTER: Micros = 600 * SECOND
/** RFC 8899 §4.3: as many timeouts in a row of packets larger than the base mean a black hole. */
const BLACK_HOLE_TIMEOUTS = 2

/** A 1,500-byte MTU without the IP and UDP headers. */
const DATAGRAM_IPV4 = 1_472
const DATAGRAM_IPV6 = 1_452
/**
 * Loopback takes 65,507 bytes; but a window is four packets at least, and those of a few hundred connections together
 * must fit into one socket's buffer.
 */
const DATAGRAM_LOOPBACK = 8_192
/**
 * A Send or Data indication around a datagram (RFC 8656 §11), with an IPv6 address. What is larger than the rest of an
 * Ethernet's packet would be fragmented behind the relay, out of sight; and Debian's coturn cuts off what is beyond
 * 16,380 bytes, even where loopback would carry it.
 */
const RELAY_OVERHEAD = 48

/**
 * The largest datagram to try on a path when nobody says otherwise. Larger ones than an Ethernet's would also arrive, cut
 * up by our own IP layer, and each lost fragment would lose all of them: node:dgram can neither forbid that nor tell the
 * MTU of the interface. Within a machine nothing is cut.
 */
export function largestDatagram({ remote: { address }, via, isRelayed = false }: Path): number {
  const isWrapped = isRelayed || via?.kind === 'relay'
  const isLoopback = address.startsWith('127.') || address === '::1'
  if (via === undefined && isLoopback && !isWrapped) return DATAGRAM_LOOPBACK
  const size = address.includes(':') ? DATAGRAM_IPV6 : DATAGRAM_IPV4
  return isWrapped ? size - RELAY_OVERHEAD : size
}

/**
 * Path MTU discovery by probing (RFC 8899). A probe is an ordinary data packet of the size in use, padded to the probe's
 * size with extensions that every receiver skips. A uTP packet keeps its payload for ever (BEP 29: "uTP cannot repackage
 * data when resending it"), so a probe with *more payload* that the path does not take could never arrive; libutp sends
 * it again with fragmentation allowed, which node:dgram cannot ask for. A padded one is sent again without its padding.
 *
 * Sizes are UDP payloads in bytes.
 */
export class PathMtu {
  /** The size in use: known to pass, or the base. */
  size: number
  #cap: number
  #largestUntried: number
  #probing = 0
  #lost = 0
  #timeouts = 0

  constructor(cap: number) {
    this.#cap = cap
    this.size = Math.min(BASE, cap)
    this.#largestUntried = cap
  }

  /** The size to probe next with a packet of the size in use; 0 when there is nothing to probe. */
  get candidate(): number {
    if (this.#probing !== 0 || this.#largestUntried - this.size < GRAIN) return 0
    // The largest first: it mostly passes. Then halves.
    const size = this.#largestUntried === this.#cap ? this.#cap : (this.size + this.#largestUntried + 1) >> 1
    return canPad(size - this.size) ? size : 0
  }

  probeSent(size: number): void {
    this.#probing = size
  }

  probeAcked(): void {
    this.size = this.#probing
    this.#probing = this.#lost = 0
  }

  probeLost(): void {
    const size = this.#probing
    this.#probing = 0
    // The first loss may be bad luck: RFC 8899 §5.1.2.
    if (++this.#lost < MAX_PROBES) return
    this.#lost = 0
    this.#largestUntried = size - 1
  }

  /** When to look again whether the path has grown; undefined while the search goes on, or has reached the cap. */
  raiseAt(now: Micros): Micros | undefined {
    return this.candidate === 0 && this.size + GRAIN <= this.#cap ? now + RAISE_AFTER : undefined
  }

  raise(): void {
    this.#largestUntried = this.#cap
    this.#lost = 0
  }

  /** Another path: only the base is sure to pass (RFC 8899 §5.1.2, RFC 9000 §9.4). */
  reset(cap: number): void {
    this.#cap = cap
    this.size = Math.min(BASE, cap)
    this.#largestUntried = cap
    this.#probing = this.#lost = this.#timeouts = 0
  }

  /** Nothing larger is tried, nor sent from now on. */
  limit(cap: number): void {
    if (cap >= this.#cap) return
    this.#cap = cap
    this.size = Math.min(this.size, cap)
    this.#largestUntried = Math.min(this.#largestUntried, cap)
  }

  /** Something arrived: no black hole. */
  progress(): void {
    this.#timeouts = 0
  }

  /**
   * A retransmission timeout of a datagram of `size`. After a few in a row new packets are small again and the search
   * starts over (RFC 8899 §4.3). What is already sent keeps its size; it passes if the network may fragment it.
   */
  timedOut(size: number): void {
    if (size < this.size || ++this.#timeouts < BLACK_HOLE_TIMEOUTS) return
    this.#timeouts = 0
    this.size = this.size > BASE ? BASE : Math.min(SMALLEST, this.size)
    this.#largestUntried = this.#cap
    this.#probing = this.#lost = 0
  }
}
