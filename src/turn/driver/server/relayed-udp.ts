import { familyOf, type SocketAddress } from '../../../core/address.ts'
import type { Path, Transmit } from '../../../core/machine.ts'
import { systemClock } from '../../../core/ports.ts'
import type { Driver, DriverHandler } from '../../../socket/index.ts'
import { tooBig, type IcmpError } from '../../protocol/icmp.ts'
import type { Allocation } from '../../server/allocation.ts'
import type { RelayedSocket } from '../../server/io.ts'
import type { Outside } from './outside.ts'

/** What relayed sockets share: what is sent is handed to the kernel when the turn's work is done. */
export class Flusher {
  /** Sockets with something to hand over. Bounded by the number of relayed sockets. */
  #dirty: UdpRelayed[] = []

  add(socket: UdpRelayed): void {
    this.#dirty.push(socket)
  }

  flush(): void {
    const dirty = this.#dirty
    if (dirty.length === 0) return
    this.#dirty = []
    for (const socket of dirty) socket.flush()
  }
}

/** A UDP port at a relayed transport address, and what its driver tells: no objects between, there are thousands. */
export class UdpRelayed implements RelayedSocket, DriverHandler {
  readonly address: SocketAddress
  readonly #driver: Driver
  readonly #names: Outside
  readonly #flusher: Flusher
  readonly #onBatchEnd: () => void
  readonly #onClose: () => void
  /** What the kernel does not take at the moment: bounded by MAX_WAITING, above which it is dropped. */
  #waiting: Transmit[] | undefined
  #allocation: Allocation | undefined
  #writable = true
  #dirty = false
  #closed = false

  /**
   * @param address the relayed transport address as peers see it.
   * @param onBatchEnd the clients have got what came in.
   */
  constructor(
    driver: Driver,
    address: SocketAddress,
    names: Outside,
    flusher: Flusher,
    onBatchEnd: () => void,
    onClose: () => void,
  ) {
    this.#driver = driver
    this.address = address
    this.#names = names
    this.#flusher = flusher
    this.#onBatchEnd = onBatchEnd
    this.#onClose = onClose
  }

  start(allocation: Allocation): void {
    this.#allocation = allocation
    this.#driver.start(this)
  }

  onDatagram(path: Path, bytes: Uint8Array): void {
    this.#allocation?.handlePeerDatagram(systemClock.now(), this.#names.outsidePath(path), bytes)
  }

  onBatchEnd(): void {
    this.#onBatchEnd()
  }

  onWritable(): void {
    this.#writable = true
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const transmit of waiting) this.#send(transmit)
    this.#driver.flush()
  }

  onSendError({ path }: Transmit, error: Error): void {
    const icmp = icmpOf(error, path)
    if (icmp !== undefined) this.#tellIcmp(path.remote, icmp)
  }

  onReceiveError(): void {
    // What ICMP says is told by onIcmpError, or, by node:dgram, without the peer that it is about.
  }

  onIcmpError(peer: SocketAddress, type: number, code: number, mtu: number): void {
    this.#tellIcmp(peer, { type, code, data: mtu })
  }

  send(peer: Path, data: Uint8Array): void {
    this.#send({ path: this.#names.insidePath(peer), data })
  }

  flush(): void {
    this.#dirty = false
    if (!this.#closed) this.#driver.flush()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#waiting = undefined
    void this.#driver.close().then(this.#onClose)
  }

  #tellIcmp(peer: SocketAddress, error: IcmpError): void {
    this.#allocation?.handlePeerIcmp(systemClock.now(), this.#names.outside(peer), error)
    this.#onBatchEnd()
  }

  #send(transmit: Transmit): void {
    if (this.#closed) return
    if (!this.#writable) {
      this.#waiting ??= []
      if (this.#waiting.length < MAX_WAITING) this.#waiting.push({ ...transmit, data: transmit.data.slice() })
      return
    }
    this.#writable = this.#driver.send(transmit)
    if (this.#dirty) return
    this.#dirty = true
    this.#flusher.add(this)
  }
}

const MAX_WAITING = 512

/** What the kernel's refusal would be as an ICMP error (RFC 792; RFC 4443), for RFC 8656's ICMP attribute. */
function icmpOf(error: Error, path: Path): IcmpError | undefined {
  const family = familyOf(path.remote.address)
  const unreachable = (four: number, six: number): IcmpError =>
    family === 6 ? { type: 1, code: six, data: 0 } : { type: 3, code: four, data: 0 }
  switch ('code' in error ? error.code : undefined) {
    case 'EMSGSIZE':
      return tooBig(family, family === 6 ? 1_280 : 1_500)
    case 'ENETUNREACH':
      return unreachable(0, 0)
    case 'EHOSTUNREACH':
      return unreachable(1, 3)
    case 'ECONNREFUSED':
      return unreachable(3, 4)
    default:
      return undefined
  }
}
