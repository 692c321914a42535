import type { SocketAddress } from '../core/address.ts'
import type { Path, Transmit } from '../core/machine.ts'

/**
 * What the endpoint needs from the operating system: one bound UDP port. Two drivers fit behind it: one that moves a
 * datagram per call, and one that moves batches (it collects what {@link send} takes until {@link flush}, and hands
 * over all that a system call brought before it says {@link DriverHandler.onBatchEnd}).
 */
export interface Driver {
  /** Shown to people: which driver runs. */
  readonly name: string
  readonly address: SocketAddress
  /** Bytes of waiting datagrams that the kernel granted this port; see {@link UdpEndpoint.recvBufferSize}. */
  readonly recvBufferSize: number
  /** Begins to receive. Called once, before anything is sent. */
  start(handler: DriverHandler): void
  /**
   * Takes one datagram. It is on its way when this returns or after the next {@link flush}, and its bytes are the
   * caller's again. A datagram that cannot be sent (no route, no such family, too long) is told to {@link DriverHandler.onSendError} and forgotten.
   *
   * @returns false when the kernel's queue is full: this datagram was still taken, but give no more until
   * {@link DriverHandler.onWritable}.
   */
  send(transmit: Transmit): boolean
  /** Hands everything taken so far to the kernel. */
  flush(): void
  /** Stops at once; no handler is called after this. Resolves when the handles are gone. */
  close(): Promise<void>
}

export interface DriverOptions {
  /** Bytes to ask the kernel for. */
  readonly recvBufferSize: number
  /** Share the port with other sockets that ask for it too (SO_REUSEPORT): the kernel spreads the remotes over them. */
  readonly reusePort: boolean
}

/** What a driver tells the endpoint. None of these throws. */
export interface DriverHandler {
  /** One datagram. `bytes` is the driver's again when this returns; `path` is the same object for the same remote. */
  onDatagram(path: Path, bytes: Uint8Array): void
  /** Everything that waited in the kernel was handed over: answer now. */
  onBatchEnd(): void
  /** The queue that made {@link Driver.send} return false has room again. */
  onWritable(): void
  /** The kernel refused a datagram (ENETUNREACH, EMSGSIZE, EPERM of a firewall …). Never fatal. */
  onSendError(transmit: Transmit, error: Error): void
  /** A receive failed (an ICMP error surfacing as ECONNREFUSED or ECONNRESET, ENOBUFS …). Never fatal. */
  onReceiveError(error: Error): void
  /**
   * ICMP said of a datagram of this port that it did not get there (RFC 792; RFC 4443). Not every driver hears of it, and
   * none does for a handler without this method. A hint: anybody can forge ICMP.
   *
   * @param to where the datagram went.
   * @param mtu bytes, the next hop's, of "fragmentation needed" and "packet too big"; otherwise 0.
   */
  onIcmpError?(to: SocketAddress, type: number, code: number, mtu: number): void
}
