import { familyOf, type SocketAddress } from '../core/address.ts'
import type { Transmit } from '../core/machine.ts'
import type { Driver, DriverHandler, DriverOptions } from './driver.ts'
import { driverError, systemCallError } from './errors.ts'
import { bindFamilies, type Families } from './families.ts'
import { errnoOf, loadAddon, type Addon, type PortSelf } from './native-addon.ts'
import { NativePort, nobody, type ThreadMemory } from './native-port.ts'
import { ReceiveMemory } from './native-receive.ts'
import { SendMemory } from './native-send.ts'

/**
 * The batched driver (native/udp, Linux): recvmmsg and sendmmsg, with UDP_GRO and UDP_SEGMENT where the kernel has
 * them. What the endpoint sends is collected until it says `flush`.
 *
 * @throws {SystemError} `ERR_NATWORK_SOCKET_DRIVER` where there is no such driver; `ERR_NATWORK_SOCKET_…` when the port
 * cannot be had; nothing stays open then.
 */
export async function openNative(at: SocketAddress, options: DriverOptions): Promise<NativeDriver> {
  const addon = loadAddon()
  const memory = memoryOf(addon)
  const ports = await bindFamilies(
    at,
    (one) => NativePort.bind(addon, memory, one, options),
    (port) => port.description.port,
  )
  return new NativeDriver(at, ports)
}

/**
 * The same on sockets that a parent process has bound: its {@link NativeDriver.fds}, inherited.
 *
 * @throws {SystemError} `ERR_NATWORK_SOCKET_DRIVER`
 */
export function adoptNative(host: string, fds: readonly number[]): NativeDriver {
  const addon = loadAddon()
  const memory = memoryOf(addon)
  const [first, second] = fds.map((fd) => NativePort.adopt(addon, memory, fd))
  return new NativeDriver(
    { address: host, port: 0 },
    familyOf(host) === 4 ? { four: first, six: undefined } : { six: first, four: second },
  )
}

let threadMemory: ThreadMemory | undefined

function memoryOf(addon: Addon): ThreadMemory {
  if (threadMemory !== undefined) return threadMemory
  const received = new ReceiveMemory(addon)
  const sent = new SendMemory(addon)
  try {
    addon.setUp(callPort, received.bytes, received.info, sent.bytes, sent.state)
  } catch (error) {
    throw driverError(systemCallError('epoll_create1', errnoOf(error)))
  }
  return (threadMemory = { received, sent })
}

function callPort(this: PortSelf, what: number, detail: number): void {
  this.onEvent(what, detail)
}

export class NativeDriver implements Driver {
  readonly address: SocketAddress
  readonly #four: NativePort | undefined
  readonly #six: NativePort | undefined
  #handler: DriverHandler = nobody
  #closed = false

  /** @param at what was bound; port 0: the sockets say which it is. */
  constructor(at: SocketAddress, { four, six }: Families<NativePort>) {
    this.#four = four
    this.#six = six
    this.address = at.port === 0 ? { ...at, port: (four ?? six)?.description.port ?? 0 } : at
  }

  get name(): string {
    const { gso, gro } = this.#ports()[0]?.description ?? {}
    return `native (recvmmsg${gro === 1 ? ' + UDP_GRO' : ''}, sendmmsg${gso === 1 ? ' + UDP_SEGMENT' : ''})`
  }

  get recvBufferSize(): number {
    return Math.min(...this.#ports().map(({ description }) => description.receiveBuffer))
  }

  /** The socket of the address's own family, and for `::` the one for IPv4. */
  get fds(): readonly number[] {
    return [this.#six, this.#four].filter((port) => port !== undefined).map((port) => port.description.fd)
  }

  start(handler: DriverHandler): void {
    this.#handler = handler
    for (const port of this.#ports()) port.start(handler)
  }

  send(transmit: Transmit): boolean {
    const { address } = transmit.path.remote
    const port = this.#six === undefined || familyOf(address) === 4 ? this.#four : this.#six
    if (port === undefined || this.#closed) {
      this.#handler.onSendError(transmit, new Error(`this port does not speak the family of ${address}`))
      return true
    }
    return port.send(transmit)
  }

  flush(): void {
    this.#four?.flush()
    this.#six?.flush()
  }

  close(): Promise<void> {
    this.#handler = nobody
    if (!this.#closed) for (const port of this.#ports()) port.close()
    this.#closed = true
    return Promise.resolve()
  }

  #ports(): NativePort[] {
    return [this.#four, this.#six].filter((port) => port !== undefined)
  }
}
