import type { Micros } from '../core/machine.ts'
import { Device } from './device.ts'
import type { Interface } from './device.ts'
import { canonicalAddress, withTtl } from './packet.ts'
import type { Packet } from './packet.ts'

/** The public core: knows every public address, takes one from the TTL, and can be told to block paths. */
export class Internet extends Device {
  readonly #blocked = new Set<string>()

  override reachable(): Iterable<string> {
    return this.routes.keys()
  }

  override receive(now: Micros, _from: Interface, packet: Packet): void {
    const source = packet.source.address
    const destination = packet.destination.address
    if (this.#blocked.has(`${source}>${destination}`)) {
      this.trace.drop(now, this, packet, 'blocked')
      return
    }
    if (packet.ttl <= 1) {
      this.trace.drop(now, this, packet, 'ttl')
      return
    }
    const out = this.routes.get(destination)
    if (!out?.pipe) {
      this.trace.drop(now, this, packet, 'no-route')
      return
    }
    this.trace.forward(now, this, packet)
    out.pipe.send(now, out, withTtl(packet, packet.ttl - 1))
  }

  /** Nothing passes between two public addresses any more, in either direction. */
  block(a: string, b: string): void {
    for (const key of bothWays(a, b)) this.#blocked.add(key)
  }

  unblock(a: string, b: string): void {
    for (const key of bothWays(a, b)) this.#blocked.delete(key)
  }
}

function bothWays(a: string, b: string): string[] {
  const one = canonicalAddress(a)
  const other = canonicalAddress(b)
  return [`${one}>${other}`, `${other}>${one}`]
}
