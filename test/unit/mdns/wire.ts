import { SECOND, type Micros } from '../../../src/core/machine.ts'
import type { Rng } from '../../../src/core/ports.ts'
import { subnetOf } from '../../../src/core/subnet.ts'
import { MdnsMachine } from '../../../src/mdns/machine.ts'
import { MDNS_PORT, readMessage, type Query, type Response } from '../../../src/mdns/message.ts'
import { Sightings, type Link } from '../../../src/mdns/sightings.ts'

export const isLabel = (label: string): boolean => /^b[a-z0-9]*$/.test(label)

/** The same numbers every time. */
export function fixedRng(seed = 1): Rng {
  let state = seed
  const uint32 = (): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0)
  return {
    uint32,
    fill(bytes) {
      for (let n = 0; n < bytes.length; n++) bytes[n] = uint32()
    },
  }
}

export const lan: Link = { zone: 'eth0', family: 4, isNear: subnetOf('192.168.0.0/16') }

export interface Host {
  readonly machine: MdnsMachine
  readonly sightings: Sightings
  readonly link: Link
  readonly address: string
}

interface Heard {
  readonly at: Micros
  readonly from: string
  readonly bytes: Uint8Array
  readonly message: Query | Response | undefined
  readonly to: { readonly address: string; readonly port: number }
}

/** A link in virtual time. What one sends everybody hears at once, itself too. */
export class Wire {
  now: Micros = 5 * SECOND
  readonly hosts: Host[] = []
  readonly heard: Heard[] = []
  /** Nothing of these addresses gets through. */
  readonly deaf = new Set<string>()

  join(label: string, address: string, announces = true): Host {
    const link = lan
    const rng = fixedRng(label.charCodeAt(1) + 1)
    const sightings = new Sightings(label, isLabel, rng)
    const own = announces ? { label, port: 1315, addresses: [address] } : undefined
    const host = { machine: new MdnsMachine({ link, sightings, own, rng }), sightings, link, address }
    this.hosts.push(host)
    host.machine.open(this.now)
    this.drain()
    return host
  }

  leave(host: Host): void {
    host.machine.close()
    this.drain()
    this.hosts.splice(this.hosts.indexOf(host), 1)
  }

  /** Goes without a word. */
  vanish(host: Host): void {
    this.hosts.splice(this.hosts.indexOf(host), 1)
  }

  say(bytes: Uint8Array, from = '192.168.1.66', port = MDNS_PORT): void {
    for (const { machine, address } of this.hosts) {
      if (!this.deaf.has(address))
        machine.handleDatagram(this.now, { remote: { address: from, port } }, bytes)
    }
    this.drain()
  }

  /** Lets so many seconds pass. */
  pass(seconds: number): void {
    const end = this.now + seconds * SECOND
    for (;;) {
      const next = Math.min(...this.hosts.map(({ machine }) => machine.pollTimeout()?.at ?? Infinity))
      if (next > end) break
      this.now = Math.max(this.now, next)
      for (const { machine } of this.hosts) machine.handleTimeout(this.now)
      this.drain()
    }
    this.now = end
    for (const { sightings } of this.hosts) sightings.expire(this.now)
  }

  drain(): void {
    for (const { machine, address } of [...this.hosts]) {
      for (let one = machine.pollTransmit(); one !== undefined; one = machine.pollTransmit()) {
        const { data: bytes } = one
        this.heard.push({
          at: this.now,
          from: address,
          bytes,
          message: readMessage(bytes),
          to: one.path.remote,
        })
        if (one.path.remote.port === MDNS_PORT && !this.deaf.has(address)) this.say(bytes, address)
      }
    }
  }

  /** How many messages of a kind an address has sent. */
  count(kind: 'query' | 'response', from?: string): number {
    return this.heard.filter((one) => one.message?.kind === kind && (from ?? one.from) === one.from).length
  }

  forget(): void {
    this.heard.length = 0
  }
}
