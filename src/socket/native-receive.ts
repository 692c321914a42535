import type { Path } from '../core/machine.ts'
import type { DriverHandler } from './driver.ts'
import type { Addon } from './native-addon.ts'

/** A port, and who gets its datagrams now. */
export interface Receiving {
  readonly handler: DriverHandler
}

/**
 * What this thread's batched ports receive into, one for all of them: it is used only between a system call and the
 * end of the callback about it. Datagrams are handed over as views that are made once and used again.
 */
export class ReceiveMemory {
  readonly #addon: Addon
  readonly bytes = new Uint8Array(MESSAGES * STRIDE)
  /** [slot, length, segment, port] of each message; of ICMP errors [type, code, mtu, port]. */
  readonly info = new Int32Array(MESSAGES * 4)
  /** The path of each slot of the addon's table of remotes, which bounds it to 4,096. */
  readonly #paths: Path[] = []
  /** The paths of the batch being handed over. */
  readonly #from: Path[] = []
  /** Per message: views of its segments, all of `#sizes[message]` bytes. The kernel merges 64 at most. */
  readonly #views: Uint8Array[][] = Array.from({ length: MESSAGES }, () => [])
  readonly #sizes = new Int32Array(MESSAGES)

  constructor(addon: Addon) {
    this.#addon = addon
  }

  /**
   * Hands over the `count` messages that a system call brought. The port is asked for its handler before each of them,
   * because what is handed over may close it.
   */
  handOver(count: number, port: Receiving): void {
    // All paths first: the slots change hands within a batch, too.
    for (let i = 0; i < count; i++) this.#from[i] = this.#pathOf(i)
    for (let i = 0; i < count; i++) {
      const path = this.#from[i]
      if (path === undefined) continue
      const length = this.info[i * 4 + 1] ?? 0
      const merged = this.info[i * 4 + 2] ?? 0
      const segment = merged === 0 ? length : merged
      let at = 0
      do {
        port.handler.onDatagram(path, this.#view(i, at, Math.min(segment, length - at), segment))
        at += segment
      } while (at < length)
    }
  }

  /** The same with ICMP errors, of which there are few: with objects for each. */
  handOverErrors(count: number, port: Receiving): void {
    for (let i = 0; i < count; i++) {
      const [type = 0, code = 0, mtu = 0, to = 0] = this.info.subarray(i * 4)
      port.handler.onIcmpError?.({ address: this.#addon.addressOf(i), port: to }, type, code, mtu)
    }
  }

  #pathOf(message: number): Path {
    const slot = this.info[message * 4] ?? 0
    const index = slot & ~NEW_REMOTE
    const known = this.#paths[index]
    if (known !== undefined && (slot & NEW_REMOTE) === 0) return known
    const port = this.info[message * 4 + 3] ?? 0
    const made: Path = { remote: { address: this.#addon.addressOf(message), port } }
    this.#paths[index] = made
    return made
  }

  #view(message: number, at: number, length: number, segment: number): Uint8Array {
    const views = this.#views[message] ?? []
    if (this.#sizes[message] !== segment) {
      this.#sizes[message] = segment
      views.length = 0
    }
    const offset = message * STRIDE + at
    if (length < segment) return new Uint8Array(this.bytes.buffer, offset, length)
    const index = segment === 0 ? 0 : at / segment
    return (views[index] ??= new Uint8Array(this.bytes.buffer, offset, length))
  }
}

// As in native/udp/udp.h.
const MESSAGES = 32
const STRIDE = 65_536
const NEW_REMOTE = 1 << 30
