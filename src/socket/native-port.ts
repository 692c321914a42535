import type { SocketAddress } from '../core/address.ts'
import type { Transmit } from '../core/machine.ts'
import type { DriverHandler, DriverOptions } from './driver.ts'
import { bindError, driverError, systemCallError } from './errors.ts'
import { errnoOf, type Addon, type Handle, type PortDescription } from './native-addon.ts'
import type { ReceiveMemory } from './native-receive.ts'
import { hashAddress } from './paths.ts'

/** One socket of the batched driver: what it is given to send waits in memory that the addon reads, until `flush`. */
export class NativePort {
  readonly description: PortDescription
  readonly #addon: Addon
  readonly #memory: ReceiveMemory
  readonly #handle: Handle
  #handler: DriverHandler | undefined

  /** Datagrams back to back: the addon gives the kernel rows of them without copying. */
  readonly #bytes: Uint8Array
  /** [count, failures, {offset, length, slot, ttl}…, {index, errno}…] as in native/udp/addon.c. */
  readonly #state = new Int32Array(2 + 6 * SEND_DATAGRAMS)
  readonly #transmits: Transmit[] = []
  #used = 0
  /** Index of the first datagram that waits for the kernel to have room; none: undefined. */
  #blockedAt: number | undefined

  // Slots of the addon's table of destinations. A slot changes hands only when nothing waits that names it.
  readonly #remotes: (SocketAddress | undefined)[]
  #lastRemote: SocketAddress | undefined
  #lastSlot = 0

  /** @throws {SystemError} `ERR_NATWORK_SOCKET_…` */
  constructor(addon: Addon, memory: ReceiveMemory, at: SocketAddress, options: DriverOptions) {
    this.#addon = addon
    this.#memory = memory
    const few = options.fewPeers === true
    this.#bytes = new Uint8Array((few ? FEW_SEND_BYTES : SEND_BYTES) + MAX_DATAGRAM)
    this.#remotes = new Array<SocketAddress | undefined>(few ? FEW_REMOTES : REMOTES)
    const onEvent = (what: number, detail: number): void => {
      this.#onEvent(what, detail)
    }
    try {
      this.#handle = addon.open(
        at.address,
        at.port,
        options.recvBufferSize,
        options.reusePort ? 1 : 0,
        this.#bytes,
        this.#state,
        onEvent,
      )
    } catch (error) {
      throw openError(at, errnoOf(error))
    }
    this.description = addon.describe(this.#handle)
  }

  start(handler: DriverHandler): void {
    this.#handler = handler
    this.#addon.start(this.#handle)
  }

  /** As {@link Driver.send}. */
  send(transmit: Transmit): boolean {
    const { path, data, ttl = 0 } = transmit
    const { remote } = path
    const { byteLength } = data
    const state = this.#state
    const slot = remote === this.#lastRemote ? this.#lastSlot : this.#slotOf(transmit)
    if (slot < 0) return this.#blockedAt === undefined
    const index = state[0] ?? 0
    if (index === SEND_DATAGRAMS || this.#used + byteLength > this.#bytes.length) {
      this.#refused(transmit, byteLength > MAX_DATAGRAM ? EMSGSIZE : ENOBUFS)
      return this.#blockedAt === undefined
    }
    this.#bytes.set(data, this.#used)
    const entry = 2 + index * 4
    state[entry] = this.#used
    state[entry + 1] = byteLength
    state[entry + 2] = slot
    state[entry + 3] = ttl
    state[0] = index + 1
    this.#transmits[index] = transmit
    this.#used += byteLength
    // There is always room for one more, unless the kernel has none and somebody sends all the same.
    if (index + 1 === SEND_DATAGRAMS || this.#used > this.#bytes.length - MAX_DATAGRAM) this.flush()
    return this.#blockedAt === undefined
  }

  flush(): void {
    if (this.#state[0] !== 0 && this.#blockedAt === undefined) this.#give(0)
  }

  close(): Promise<void> {
    this.#handler = undefined
    return new Promise((resolve) => {
      this.#addon.close(this.#handle, resolve)
    })
  }

  #give(from: number): void {
    const state = this.#state
    const next = this.#addon.send(this.#handle, from)
    const count = state[0] ?? 0
    const failures = state[1] ?? 0
    if (next < count) {
      this.#blockedAt = next
    } else {
      this.#blockedAt = undefined
      state[0] = 0
      this.#used = 0
    }
    for (let i = 0; i < failures; i++) {
      const at = 2 + 4 * SEND_DATAGRAMS + 2 * i
      const transmit = this.#transmits[state[at] ?? 0]
      if (transmit !== undefined) this.#refused(transmit, state[at + 1] ?? 0)
    }
  }

  #onEvent(what: number, detail: number): void {
    const handler = this.#handler
    if (handler === undefined) return
    switch (what) {
      case RECEIVED:
        this.#memory.handOver(detail, this.#handlerNow)
        this.#handlerNow().onBatchEnd()
        break
      case WRITABLE:
        if (this.#blockedAt === undefined) break
        this.#give(this.#blockedAt)
        // Something may have been put behind what waited.
        if (!this.#isBlocked()) handler.onWritable()
        break
      default:
        handler.onReceiveError(systemCallError('recvmmsg', detail))
    }
  }

  readonly #handlerNow = (): DriverHandler => this.#handler ?? nobody

  #isBlocked(): boolean {
    return this.#blockedAt !== undefined
  }

  /** The slot of its destination; −1 when it has none, and that is told. */
  #slotOf(transmit: Transmit): number {
    const { remote } = transmit.path
    const first = hashAddress(remote.address, remote.port) & (this.#remotes.length - 1) & ~1
    let slot = first
    if (!this.#isAt(slot, remote) && !this.#isAt(++slot, remote)) {
      slot = this.#remotes[first] === undefined ? first : first + (remote.port & 1)
      if (this.#remotes[slot] !== undefined) this.flush()
      try {
        if (this.#blockedAt !== undefined && this.#remotes[slot] !== undefined)
          throw new Error(String(ENOBUFS))
        this.#addon.setRemote(this.#handle, slot, remote.address, remote.port)
      } catch (error) {
        this.#refused(transmit, errnoOf(error))
        return -1
      }
      this.#remotes[slot] = remote
    }
    this.#lastRemote = remote
    this.#lastSlot = slot
    return slot
  }

  #isAt(slot: number, remote: SocketAddress): boolean {
    const there = this.#remotes[slot]
    return there === remote || (there?.port === remote.port && there.address === remote.address)
  }

  #refused(transmit: Transmit, errno: number): void {
    this.#handler?.onSendError(transmit, systemCallError('sendmmsg', errno))
  }
}

// A sandbox that knows or allows no calls in bulk says so in one of these ways.
function openError(at: SocketAddress, errno: number): Error {
  const error = systemCallError('bind', errno)
  return [ENOSYS, EOPNOTSUPP].includes(errno) ? driverError(error) : bindError(at, error)
}

export const nobody: DriverHandler = {
  onDatagram: () => undefined,
  onBatchEnd: () => undefined,
  onWritable: () => undefined,
  onSendError: () => undefined,
  onReceiveError: () => undefined,
}

// As in native/udp: addon.c (what a port is told) and udp.h.
const RECEIVED = 0
const WRITABLE = 1
const SEND_DATAGRAMS = 512
const REMOTES = 4_096

const MAX_DATAGRAM = 65_535
/** Collected before the kernel gets it, whatever the endpoint says: about four full rows of UDP_SEGMENT. */
const SEND_BYTES = 256 * 1024
/** For {@link DriverOptions.fewPeers}. */
const FEW_SEND_BYTES = 48 * 1024
const FEW_REMOTES = 32
const ENOSYS = 38
const EOPNOTSUPP = 95
const EMSGSIZE = 90
const ENOBUFS = 105
