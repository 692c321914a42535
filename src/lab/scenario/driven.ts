import { familyOf } from '../../core/address.ts'
import type { Machine, Micros, Transmit } from '../../core/machine.ts'
import { MILLISECOND } from '../../core/machine.ts'
import { systemClock } from '../../core/ports.ts'
import type { ObservedSocket, Received } from '../observer.ts'

/**
 * A machine on sockets in a host of a lab, driven by the drain contract (core/machine.ts): the very machine that runs
 * in the simulator, with the kernel's packets and the real clock. One socket per address family at most.
 */
export class Driven<Event = never> {
  readonly #machine: Machine<Event>
  readonly #sockets: readonly ObservedSocket[]
  readonly #onEvent: (event: Event) => void
  #timer: NodeJS.Timeout | undefined
  #isDraining = false

  constructor(
    machine: Machine<Event>,
    sockets: readonly ObservedSocket[],
    onEvent: (event: Event) => void = () => undefined,
  ) {
    this.#machine = machine
    this.#sockets = sockets
    this.#onEvent = onEvent
    for (const socket of sockets) socket.onReceived = (received) => this.#receive(received)
    this.wake()
  }

  /** Drains the machine: call it after every mutation from outside. */
  wake(): void {
    if (this.#isDraining) return // from an event's handler: the loop below goes on
    this.#isDraining = true
    const now = systemClock.now()
    this.#transmit(now)
    for (let event = this.#machine.pollEvent(); event !== undefined; event = this.#machine.pollEvent()) {
      this.#onEvent(event)
      this.#transmit(now)
    }
    this.#isDraining = false
    this.#schedule(now)
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const socket of this.#sockets) socket.close()
  }

  #receive({ from, bytes }: Received): void {
    this.#machine.handleDatagram(systemClock.now(), { remote: from }, bytes)
    this.wake()
  }

  #transmit(now: Micros): void {
    const send = ({ path: { remote }, data, ttl }: Transmit): void => {
      const family = familyOf(remote.address)
      const socket = this.#sockets.find(({ address }) => familyOf(address) === family)
      socket?.send(remote, Buffer.from(data), ttl)
    }
    for (let out = this.#machine.pollTransmit(now); out; out = this.#machine.pollTransmit(now)) send(out)
  }

  #schedule(now: Micros): void {
    clearTimeout(this.#timer)
    const deadline = this.#machine.pollTimeout()
    if (!deadline) return
    // Rounded up: a timer of Node's may ring within the millisecond before.
    const delay = Math.max(0, Math.ceil((deadline.at - now) / MILLISECOND))
    this.#timer = setTimeout(() => {
      this.#machine.handleTimeout(systemClock.now())
      this.wake()
    }, delay)
  }
}
