import type { SocketAddress } from '../../../core/address.ts'
import type { Path, Transmit } from '../../../core/machine.ts'
import { systemClock } from '../../../core/ports.ts'
import type { Driver, DriverHandler } from '../../../socket/index.ts'
import type { Allocation } from '../../server/allocation.ts'
import type { RelayedSocket } from '../../server/io.ts'

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
    flusher: Flusher,
    onBatchEnd: () => void,
    onClose: () => void,
  ) {
    this.#driver = driver
    this.address = address
    this.#flusher = flusher
    this.#onBatchEnd = onBatchEnd
    this.#onClose = onClose
  }

  start(allocation: Allocation): void {
    this.#allocation = allocation
    this.#driver.start(this)
  }

  onDatagram(path: Path, bytes: Uint8Array): void {
    this.#allocation?.handlePeerDatagram(systemClock.now(), path, bytes)
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
    if (icmp === undefined) return
    this.#allocation?.handlePeerIcmp(systemClock.now(), path.remote, icmp.type, icmp.code, icmp.data)
    this.#onBatchEnd()
  }

  onReceiveError(): void {
    // An ICMP error that the kernel tells a receiver: to which peer it belongs is not said.
  }

  send(peer: Path, data: Uint8Array): void {
    this.#send({ path: peer, data })
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
function icmpOf(error: Error, path: Path): { type: number; code: number; data: number } | undefined {
  const six = path.remote.address.includes(':')
  switch ('code' in error ? error.code : undefined) {
    case 'EMSGSIZE':
      return six ? { type: 2, code: 0, data: 1_280 } : { type: 3, code: 4, data: 1_500 }
    case 'ENETUNREACH':
      return six ? { type: 1, code: 0, data: 0 } : { type: 3, code: 0, data: 0 }
    case 'EHOSTUNREACH':
      return six ? { type: 1, code: 3, data: 0 } : { type: 3, code: 1, data: 0 }
    case 'ECONNREFUSED':
      return six ? { type: 1, code: 4, data: 0 } : { type: 3, code: 3, data: 0 }
    default:
      return undefined
  }
}
