import type { SocketAddress } from '../core/address.ts'
import type { Path } from '../core/machine.ts'

/**
 * One {@link Path} object per remote address, so that a datagram costs no allocation and comparing paths is mostly
 * comparing pointers. Bounded: a direct-mapped table that begins small, for sockets with few peers, and grows to 4,096
 * entries, in which a stranger's address can only push out another one's entry (it is made again on its next datagram;
 * {@link samePath} compares by value).
 */
export class PathTable {
  #slots = new Array<Path | undefined>(MIN_SLOTS)
  #pushedOut = 0

  /** `address` as the operating system prints it. */
  lookup(address: string, port: number): Path {
    const slot = hashAddress(address, port) & (this.#slots.length - 1)
    const found = this.#slots[slot]
    if (found?.remote.port === port && found.remote.address === address) return found
    const made: Path = { remote: { address, port } }
    this.#slots[slot] = made
    if (found !== undefined && ++this.#pushedOut > this.#slots.length && this.#slots.length < MAX_SLOTS)
      this.#grow()
    return made
  }

  #grow(): void {
    const paths = this.#slots
    const size = 4 * paths.length
    this.#pushedOut = 0
    this.#slots = new Array<Path | undefined>(size)
    for (const path of paths) {
      if (path !== undefined)
        this.#slots[hashAddress(path.remote.address, path.remote.port) & (size - 1)] = path
    }
  }
}

/**
 * The same address without the IPv4-mapped form (`::ffff:192.0.2.1` → `192.0.2.1`, RFC 4291 §2.5.5.2), in which a
 * dual-stack socket or a user may write it, so that one peer has one address.
 */
export function unmapped(at: SocketAddress): SocketAddress {
  const dotted = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(at.address)?.[1]
  return dotted === undefined ? at : { address: dotted, port: at.port }
}

const MIN_SLOTS = 16
const MAX_SLOTS = 4_096

/** 20 bits. The last characters differ most between neighbours; four of them and the port spread well enough. */
export function hashAddress(address: string, port: number): number {
  const end = address.length
  const tail =
    (address.charCodeAt(end - 1) * 31 + address.charCodeAt(end - 2)) * 31 + address.charCodeAt(end - 3)
  return (Math.imul(tail, 0x9e3779b1) ^ Math.imul(port, 0x85ebca6b)) >>> 12
}
