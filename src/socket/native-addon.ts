import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { driverError } from './errors.ts'

/** What native/udp/addon.c exports. Failures are thrown with the errno as their message: {@link errnoOf}. */
export interface Addon {
  readonly sourceHash: string
  /**
   * Where the thread's datagrams are received: 32 messages of 65,536 bytes, and [slot, length, segment, port] of each (of
   * ICMP errors: [type, code, mtu, port]); and where they are collected: see native-send.ts. `onEvent` is called with the port as `this`.
   */
  setUp(
    onEvent: (this: PortSelf, what: number, detail: number) => void,
    received: Uint8Array,
    info: Int32Array,
    bytes: Uint8Array,
    state: Int32Array,
  ): void
  open(self: PortSelf, address: string, port: number, receiveBuffer: number, reusePort: 0 | 1): Handle
  /** A socket that another process has bound. */
  adopt(self: PortSelf, fd: number): Handle
  describe(handle: Handle): PortDescription
  /** @param errors is the port to hear of ICMP errors? */
  start(handle: Handle, errors: 0 | 1): void
  setRemote(slot: number, address: string, port: number): void
  send(handle: Handle, first: number): number
  addressOf(message: number): string
  close(handle: Handle): void
}

/** Who is told what happens at a port, and holds its handle. */
export interface PortSelf {
  onEvent(what: number, detail: number): void
}

/** A port of the addon; nothing to look into. */
export interface Handle {
  readonly opaque: unique symbol
}

export interface PortDescription {
  readonly fd: number
  readonly port: number
  readonly receiveBuffer: number
  readonly gso: 0 | 1
  readonly gro: 0 | 1
}

/** Where the addon may lie: shipped with the package, or compiled when it was installed. */
export const addonFiles = ['prebuilt', 'build'].map((folder) =>
  fileURLToPath(
    new URL(`../../native/udp/${folder}/${process.platform}-${process.arch}.node`, import.meta.url),
  ),
)

/**
 * The addon, loaded once per thread.
 *
 * @throws {SystemError} `ERR_NATWORK_SOCKET_DRIVER`, in words why there is none.
 */
export function loadAddon(): Addon {
  loaded ??= load()
  if (loaded instanceof Error) throw driverError(loaded)
  return loaded
}

/** The errno of what an {@link Addon} threw. */
export function errnoOf(error: unknown): number {
  return error instanceof Error ? Number(error.message) : NaN
}

let loaded: Addon | Error | undefined

function load(): Addon | Error {
  const found = addonFiles.filter((file) => existsSync(file))
  let failure: unknown
  for (const file of found) {
    try {
      return createRequire(import.meta.url)(file) as Addon
    } catch (error) {
      failure = error
    }
  }
  if (failure !== undefined) return failure instanceof Error ? failure : new Error('it cannot be loaded')
  return new Error(`none was built for ${process.platform} on ${process.arch}`)
}
