import type { SocketAddress } from '../core/address.ts'
import type { Transmit } from '../core/machine.ts'
import type { DriverHandler, DriverOptions } from './driver.ts'
import { bindError, driverError, systemCallError } from './errors.ts'
import { errnoOf, type Addon, type Handle, type PortDescription, type PortSelf } from './native-addon.ts'
import type { Receiving, ReceiveMemory } from './native-receive.ts'
import { MAX_DATAGRAM, NONE, type Collecting, type SendMemory } from './native-send.ts'

/** One socket of the batched driver: what it is given to send waits in the thread's memory until `flush`. */
export class NativePort implements Collecting, PortSelf, Receiving {
  readonly #addon: Addon
  readonly #memory: ThreadMemory
  readonly #handle: Handle
  /** {@link nobody} before the start and after the end. */
  handler: DriverHandler = nobody
  /** The chain of what is collected: indices into the thread's memory. */
  #first = NONE
  #last = NONE
  /** What the kernel had no room for, and what came after it; undefined while nothing waits. */
  #backlog: Backlog | undefined

  /**
   * @param open gives the addon's handle of this port.
   * @throws what `open` throws.
   */
  private constructor(addon: Addon, memory: ThreadMemory, open: (self: PortSelf) => Handle) {
    this.#addon = addon
    this.#memory = memory
    this.#handle = open(this)
  }

  /** @throws {SystemError} `ERR_NATWORK_SOCKET_…` */
  static bind(addon: Addon, memory: ThreadMemory, at: SocketAddress, options: DriverOptions): NativePort {
    const { recvBufferSize, reusePort } = options
    try {
      return new NativePort(addon, memory, (self) =>
        addon.open(self, at.address, at.port, recvBufferSize, reusePort ? 1 : 0),
      )
    } catch (error) {
      throw openError(at, errnoOf(error))
    }
  }

  /**
   * A socket that another process has bound.
   *
   * @throws {SystemError} `ERR_NATWORK_SOCKET_DRIVER`
   */
  static adopt(addon: Addon, memory: ThreadMemory, fd: number): NativePort {
    try {
      return new NativePort(addon, memory, (self) => addon.adopt(self, fd))
    } catch (error) {
      throw driverError(systemCallError('getsockname', errnoOf(error)))
    }
  }

  /** Made when asked for: of most ports nobody asks. */
  get description(): PortDescription {
    return this.#addon.describe(this.#handle)
  }

  start(handler: DriverHandler): void {
    this.handler = handler
    try {
      this.#addon.start(this.#handle, handler.onIcmpError === undefined ? 0 : 1)
    } catch (error) {
      handler.onReceiveError(systemCallError('epoll_ctl', errnoOf(error)))
    }
  }

  /** As {@link Driver.send}. */
  send(transmit: Transmit): boolean {
    const { sent } = this.#memory
    if (transmit.data.byteLength > MAX_DATAGRAM) {
      this.#refused(transmit, EMSGSIZE)
      return this.#hasRoom()
    }
    // Both may flush this port.
    sent.makeRoom()
    const slot = sent.slotOf(transmit.path.remote)
    if (slot < 0) {
      this.#refused(transmit, -slot)
      return this.#hasRoom()
    }
    if (this.#backlog !== undefined) {
      if (!this.#backlog.add(transmit)) this.#refused(transmit, ENOBUFS)
      return false
    }
    const index = sent.put(transmit, slot)
    if (this.#first === NONE) {
      this.#first = index
      sent.begin(this)
    } else {
      sent.chain(this.#last, index)
    }
    this.#last = index
    return true
  }

  flush(): void {
    const first = this.#first
    if (first === NONE) return
    const { sent } = this.#memory
    this.#first = NONE
    let next = this.#addon.send(this.#handle, first)
    const failures = sent.state[0] === 0 ? undefined : sent.failures()
    if (next !== NONE) {
      this.#backlog = new Backlog()
      for (; next !== NONE; next = sent.after(next)) {
        const transmit = sent.transmitAt(next)
        if (transmit !== undefined) this.#backlog.add(transmit)
      }
    }
    sent.flushed()
    // Whoever is told may send at once: the memory has to be in order by now.
    if (failures !== undefined) {
      for (const { transmit, errno } of failures) this.#refused(transmit, errno)
    }
  }

  close(): void {
    // What is still collected has to leave the memory.
    this.flush()
    this.handler = nobody
    this.#addon.close(this.#handle)
  }

  /** The addon's call. */
  onEvent(what: number, detail: number): void {
    switch (what) {
      case RECEIVED:
        this.#memory.received.handOver(detail, this)
        this.handler.onBatchEnd()
        break
      case WRITABLE:
        this.#sendBacklog()
        if (this.#hasRoom()) this.handler.onWritable()
        break
      case ICMP:
        this.#memory.received.handOverErrors(detail, this)
        break
      default:
        this.handler.onReceiveError(systemCallError('recvmmsg', detail))
    }
  }

  #sendBacklog(): void {
    const waiting = this.#backlog?.transmits
    if (waiting === undefined) return
    this.#backlog = undefined
    // Behind the first that finds no room the others wait again.
    for (const transmit of waiting) this.send(transmit)
    this.flush()
  }

  #hasRoom(): boolean {
    return this.#backlog === undefined
  }

  #refused(transmit: Transmit, errno: number): void {
    this.handler.onSendError(transmit, systemCallError('sendmmsg', errno))
  }
}

/** What all ports of a thread share. */
export interface ThreadMemory {
  readonly received: ReceiveMemory
  readonly sent: SendMemory
}

/** Datagrams that wait for the kernel to have room: copies, because their bytes may be used again. */
class Backlog {
  /** Bounded by MAX_BACKLOG and MAX_BACKLOG_BYTES. */
  readonly transmits: Transmit[] = []
  #bytes = 0

  /** False when there is no room here either. */
  add(transmit: Transmit): boolean {
    const { data } = transmit
    if (this.transmits.length >= MAX_BACKLOG || this.#bytes + data.byteLength > MAX_BACKLOG_BYTES)
      return false
    this.#bytes += data.byteLength
    this.transmits.push({ ...transmit, data: data.slice() })
    return true
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

// As in native/udp/addon.c: what a port is told.
const RECEIVED = 0
const WRITABLE = 1
const ICMP = 3
/** At least as many as a thread's memory holds. */
const MAX_BACKLOG = 1_024
const MAX_BACKLOG_BYTES = 512 * 1024
const ENOSYS = 38
const EOPNOTSUPP = 95
const EMSGSIZE = 90
const ENOBUFS = 105
