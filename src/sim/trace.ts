import type { Micros } from '../core/machine.ts'
import { formatAddress } from '../core/address.ts'
import type { Device } from './device.ts'
import { describe } from './packet.ts'
import type { DropReason, Packet } from './packet.ts'
import { hashText } from './rng.ts'

/** What became of a packet at one device. */
export interface TraceEntry {
  readonly at: Micros
  /** `sent` by a host, `forwarded` by a router, `delivered` to a socket, or `dropped`. */
  readonly what: 'sent' | 'forwarded' | 'delivered' | 'dropped'
  readonly device: string
  readonly packet: Packet
  /** Why, when dropped. */
  readonly reason?: DropReason
}

/** Follows every packet: counts and a running hash always, the entries themselves only when asked to keep them. */
export class Trace {
  /** Datagrams sent by hosts, forwarded by routers, delivered to sockets. */
  sent = 0
  forwarded = 0
  delivered = 0
  /** Drops by reason. */
  readonly dropped = new Map<DropReason, number>()
  /** The entries, oldest first, when the world was made with `trace: true`. */
  readonly entries: TraceEntry[] = []
  /** Called with each entry as it happens. */
  onEntry: ((entry: TraceEntry) => void) | undefined
  readonly #keep: boolean
  #hash = 0x811c9dc5

  constructor(keep: boolean) {
    this.#keep = keep
  }

  /** Eight hex digits over everything that happened so far: equal runs have equal hashes. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0')
  }

  /** The kept entries as text, one line each. */
  toString(): string {
    return this.entries.map(formatEntry).join('\n')
  }

  send(now: Micros, device: Device, packet: Packet): void {
    this.sent++
    this.#mix(hashText(formatAddress(packet.destination), packet.protocol === 'udp' ? sum(packet.data) : 0))
    this.#note(now, 'sent', device, packet)
  }

  forward(now: Micros, device: Device, packet: Packet): void {
    this.forwarded++
    this.#note(now, 'forwarded', device, packet)
  }

  deliver(now: Micros, device: Device, packet: Packet): void {
    this.delivered++
    this.#note(now, 'delivered', device, packet)
  }

  drop(now: Micros, device: Device, packet: Packet, reason: DropReason): void {
    this.dropped.set(reason, (this.dropped.get(reason) ?? 0) + 1)
    this.#mix(hashText(reason, 0))
    this.#note(now, 'dropped', device, packet, reason)
  }

  #note(at: Micros, what: TraceEntry['what'], device: Device, packet: Packet, reason?: DropReason): void {
    this.#mix(at)
    this.#mix(device.index)
    this.#mix(packet.id)
    this.#mix(packet.source.port)
    if (!this.#keep && !this.onEntry) return
    const entry: TraceEntry = { at, what, device: device.name, packet, ...(reason && { reason }) }
    if (this.#keep) this.entries.push(entry)
    this.onEntry?.(entry)
  }

  #mix(value: number): void {
    this.#hash = Math.imul(this.#hash ^ value, 0x01000193)
    this.#hash ^= this.#hash >>> 15
  }
}

/** `12.345 ms router dropped 192.0.2.1:1 > 192.0.2.2:2 udp 20 (filtered)` */
export function formatEntry(entry: TraceEntry): string {
  const ms = (entry.at / 1000).toFixed(3)
  const reason = entry.reason ? ` (${entry.reason})` : ''
  return `${ms} ms ${entry.device} ${entry.what} #${entry.packet.id} ${describe(entry.packet)} ttl ${entry.packet.ttl}${reason}`
}

/** FNV-1a over at most the first 64 bytes, and the length: enough to tell runs apart, cheap for bulk. */
function sum(bytes: Uint8Array): number {
  let h = bytes.length
  for (let i = 0; i < bytes.length && i < 64; i++) h = Math.imul(h ^ (bytes[i] ?? 0), 0x01000193)
  return h
}
