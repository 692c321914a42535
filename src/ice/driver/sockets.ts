import { setImmediate } from 'node:timers/promises'
import type { Carrier, Machine, Micros, Path, Transmit } from '../../core/machine.ts'
import type { Logger } from '../../core/logger.ts'
import { UdpEndpoint } from '../../socket/index.ts'

/**
 * Extra local UDP ports for one endpoint, as carriers: what they receive is delivered to that endpoint. IPv4 alone, since
 * that is what has NATs; where NAT64 stands in its place, IPv6 too.
 */
export class ExtraSockets {
  readonly #main: UdpEndpoint
  readonly #max: number
  readonly #logger: Logger
  /** Bounded by `max`, those being opened included. */
  readonly #open = new Map<Carrier, UdpEndpoint>()
  #opening = 0
  #closed = false

  /** @param max open at once; each is a file descriptor. */
  constructor(main: UdpEndpoint, max: number, logger: Logger) {
    this.#main = main
    this.#max = max
    this.#logger = logger
  }

  get size(): number {
    return this.#open.size
  }

  /** Opens up to `count` sockets, as many as there is room for, and hands each over as soon as it is bound. */
  async open(count: number, onOpen: (carrier: Carrier) => void): Promise<void> {
    const room = Math.min(count, this.#max - this.#open.size - this.#opening)
    const { address } = this.#main.address
    const host = address === '::' && this.#main.nat64 === undefined ? '0.0.0.0' : address
    this.#opening += Math.max(0, room)
    for (let left = room; left > 0; left -= AT_ONCE) {
      const some = Math.min(left, AT_ONCE)
      await Promise.all(Array.from({ length: some }, () => this.#openOne(host, onOpen)))
      this.#opening -= some
      // Whatever else came meanwhile has its turn.
      await setImmediate()
    }
  }

  close(carrier: Carrier): void {
    const endpoint = this.#open.get(carrier)
    this.#open.delete(carrier)
    void endpoint?.close()
  }

  /** Resolves when all ports are free. */
  async closeAll(): Promise<void> {
    this.#closed = true
    const endpoints = [...this.#open.values()]
    this.#open.clear()
    await Promise.all(endpoints.map((one) => one.close()))
  }

  async #openOne(host: string, onOpen: (carrier: Carrier) => void): Promise<void> {
    if (this.#isClosed()) return
    try {
      const endpoint = await UdpEndpoint.bind({ host, port: 0 })
      if (this.#isClosed()) await endpoint.close()
      else onOpen(this.#carry(endpoint))
    } catch (error) {
      // Out of descriptors, most likely: fewer sockets make the search slower, not wrong.
      this.#logger.debug('an extra socket could not be opened', { error })
    }
  }

  // A function, since it may have become true in between.
  #isClosed(): boolean {
    return this.#closed
  }

  #carry(endpoint: UdpEndpoint): Carrier {
    const forwarder = new Forwarder((path, bytes) => {
      this.#main.deliver(path, bytes)
    })
    const attachment = endpoint.attach(forwarder, () => undefined)
    const carrier: Carrier = {
      kind: 'socket',
      send: (_now, transmit) => {
        if (forwarder.send(transmit)) attachment.wake()
      },
    }
    forwarder.carrier = carrier
    this.#open.set(carrier, endpoint)
    return carrier
  }
}

/** Passes everything on, both ways. */
class Forwarder implements Machine {
  carrier: Carrier | undefined
  readonly #deliver: (path: Path, bytes: Uint8Array) => void
  // Bounded by MAX_WAITING: what is beyond is dropped, as a full queue of a router's.
  readonly #waiting: Transmit[] = []
  /** The path of the last datagram: nearly all come by the same. */
  #path: Path | undefined

  constructor(deliver: (path: Path, bytes: Uint8Array) => void) {
    this.#deliver = deliver
  }

  send(transmit: Transmit): boolean {
    if (this.#waiting.length >= MAX_WAITING) return false
    const { data, ttl, path } = transmit
    const copy = Uint8Array.from(data)
    return (
      this.#waiting.push({ path: { remote: path.remote }, data: copy, ...(ttl !== undefined && { ttl }) }) > 0
    )
  }

  handleDatagram(_now: Micros, { remote }: Path, bytes: Uint8Array): boolean {
    if (this.carrier === undefined) return false
    if (this.#path?.remote !== remote) this.#path = { remote, via: this.carrier }
    this.#deliver(this.#path, bytes)
    return true
  }

  handleTimeout(): void {
    // It waits for nothing.
  }

  pollTransmit(): Transmit | undefined {
    return this.#waiting.shift()
  }

  pollEvent(): undefined {
    return undefined
  }

  pollTimeout(): undefined {
    return undefined
  }
}

const MAX_WAITING = 4096
/** Sockets that are opened in one turn of the event loop: all 256 of a search would hold it up for a tenth of a second. */
const AT_ONCE = 8
