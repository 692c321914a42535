import type { SocketAddress } from '../core/address.ts'
import { openNative, type NativeDriver } from './native.ts'

/**
 * A UDP port whose sockets are for child processes: this process binds them and holds them, and receives nothing. The
 * kernel gives each remote address to one of the sockets, by a hash (SO_REUSEPORT); because they stay, it is the same one
 * also after a child has died and another has taken its place.
 */
export class HeldPort {
  readonly address: SocketAddress
  readonly #drivers: readonly NativeDriver[]

  /**
   * @param count of children.
   * @throws {SystemError} `ERR_NATWORK_SOCKET_DRIVER` without the native driver, and what binding throws.
   */
  static async bind(at: SocketAddress, count: number, recvBufferSize = 4 * 1024 * 1024): Promise<HeldPort> {
    const drivers: NativeDriver[] = []
    let { port } = at
    try {
      for (let n = 0; n < count; n++) {
        const driver = await openNative({ address: at.address, port }, { recvBufferSize, reusePort: true })
        drivers.push(driver)
        port = driver.address.port
      }
    } catch (error) {
      await Promise.all(drivers.map((driver) => driver.close()))
      throw error
    }
    return new HeldPort({ address: at.address, port }, drivers)
  }

  private constructor(address: SocketAddress, drivers: readonly NativeDriver[]) {
    this.address = address
    this.#drivers = drivers
  }

  /** File descriptors for the child with this number, from 0 on. */
  fdsOf(child: number): readonly number[] {
    return this.#drivers[child]?.fds ?? []
  }

  async close(): Promise<void> {
    await Promise.all(this.#drivers.map((driver) => driver.close()))
  }
}
