import type { SocketAddress } from '../core/address.ts'
import { SystemError } from '../core/errors.ts'
import { bindDgram } from './dgram.ts'
import type { Driver, DriverOptions } from './driver.ts'
import { openNative } from './native.ts'

/** `native`: many datagrams in a system call (Linux); `dgram`: node:dgram; `auto`: native where it can be had. */
export type DriverChoice = 'auto' | 'native' | 'dgram'

/** Which driver an endpoint gets that asks for none. For programs, not for libraries: it holds for the whole thread. */
export function setDefaultDriver(choice: DriverChoice): void {
  defaultDriver = choice
}

/** See {@link setDefaultDriver}. */
export let defaultDriver: DriverChoice = 'auto'

/** @throws {SystemError} `ERR_NATWORK_SOCKET_…`; nothing stays open then. */
export async function bindDriver(
  at: SocketAddress,
  choice: DriverChoice = defaultDriver,
  options: DriverOptions,
): Promise<Driver> {
  if (choice === 'dgram') return bindDgram(at, options)
  try {
    return await openNative(at, options)
  } catch (error) {
    const isTaken = error instanceof SystemError && error.code === 'ERR_NATWORK_SOCKET_IN_USE'
    if (choice === 'native' || isTaken) throw error
    // Whatever else the reason: node:dgram has the last word on what this machine can do, and on why it cannot.
    return bindDgram(at, options)
  }
}
