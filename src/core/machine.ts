import type { SocketAddress } from './address.ts'

/**
 * Microseconds on a clock that never goes back; the zero is arbitrary. A double holds 285 years of them exactly.
 * Protocol code gets it as an argument and never asks for it.
 */
export type Micros = number

export const MILLISECOND: Micros = 1_000
export const SECOND: Micros = 1_000_000

/**
 * A way to a peer: what a connection sends on and what a datagram came by. Two handles are the same way when
 * {@link samePath} says so. Connections hold a path, never an ip:port, so that the network can move them from a relay
 * to a direct path, or to a new address after a NAT rebinding, without losing a byte.
 */
export interface Path {
  /** The peer's transport address as seen on this path. */
  readonly remote: SocketAddress
  /** What carries the datagrams; absent: the port's own socket does. */
  readonly via?: Carrier
  /** `remote` is an address on somebody's relay, which wraps each datagram once more for the last part of the way. */
  readonly isRelayed?: boolean
}

/**
 * Carries the datagrams of paths that the port's own socket does not: an allocation on a relay, or another local port
 * that was opened to get through a hard NAT. One carrier is one object, and paths compare it by identity. What it
 * receives, it hands to the endpoint as if the socket had got it.
 */
export interface Carrier {
  /** `relay`: a TURN allocation, over whatever transport. `socket`: another local UDP port. */
  readonly kind: 'relay' | 'socket'
  /** Takes one datagram, and sends or drops it as a network may. Never throws. */
  send(now: Micros, transmit: Transmit): void
}

export function samePath(a: Path, b: Path): boolean {
  return (
    a === b ||
    (a.via === b.via &&
      (a.remote === b.remote || (a.remote.port === b.remote.port && a.remote.address === b.remote.address)))
  )
}

/** One datagram to send. `data` is the machine's again at its next `pollTransmit`: copy what you keep. */
export interface Transmit {
  readonly path: Path
  readonly data: Uint8Array
  /** IP TTL / hop limit, 1–255; the socket's own when absent. Low ones open a NAT without reaching the peer. */
  readonly ttl?: number
}

/** When the machine wants {@link Machine.handleTimeout} next, and for what (shown in traces, never switched on). */
export interface Deadline {
  readonly at: Micros
  readonly reason: string
}

/**
 * The contract of all protocol code (sans-IO): no socket, clock, timer or randomness inside. Whoever drives it makes
 * one mutation (a datagram, a timeout, a call of the application), then drains it fully: every transmit, then every
 * event, then the next deadline. That lets the same code run on node:dgram, on a batched driver and in virtual time.
 */
export interface Machine<Event = never> {
  /**
   * One datagram came in on `path`. `bytes` belongs to the caller again when this returns: copy what you keep.
   * Never throws for what the bytes say.
   *
   * @returns false when the datagram is not this machine's, and then nothing has changed.
   */
  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean
  /** The time of {@link pollTimeout} has come. Early and repeated calls are harmless. */
  handleTimeout(now: Micros): void
  /** The next datagram to send, until undefined. */
  pollTransmit(now: Micros): Transmit | undefined
  /** The next thing the application should know, until undefined. */
  pollEvent(): Event | undefined
  /** The earliest deadline, if any. */
  pollTimeout(): Deadline | undefined
}
