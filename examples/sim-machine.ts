// A state machine without sockets, clocks or timers (the Machine contract), run behind a NAT that forgets after ten
// seconds: does its keep-alive hold the mapping open? Run it with `npx tsx examples/sim-machine.ts`.
// In a project of your own the import is from 'natwork/sim'.
import { simulate } from '../src/sim/index.ts'
import type { Deadline, Machine, Micros, Path, Transmit } from '../src/sim/index.ts'

class KeepAlive implements Machine<'pushed'> {
  readonly #server: Path
  readonly #every: Micros
  #next: Micros = 0
  #due = false
  #pushed = 0

  constructor(server: Path, every: Micros) {
    this.#server = server
    this.#every = every
  }
  handleDatagram(): boolean {
    this.#pushed++
    return true
  }
  handleTimeout(now: Micros): void {
    if (now < this.#next) return
    this.#due = true
    this.#next = now + this.#every
  }
  pollTransmit(): Transmit | undefined {
    if (!this.#due) return undefined
    this.#due = false
    return { path: this.#server, data: Uint8Array.of(0) }
  }
  pollEvent(): 'pushed' | undefined {
    if (this.#pushed === 0) return undefined
    this.#pushed--
    return 'pushed'
  }
  pollTimeout(): Deadline {
    return { at: this.#next, reason: 'keep-alive' }
  }
}

for (const seconds of [5, 15]) {
  let pushes = 0
  simulate((world) => {
    const server = world.publicHost('server', { addresses: ['192.0.2.1'] }).bind({ port: 7 })
    const home = world.site('home', { kind: 'short-lifetime' })
    const machine = new KeepAlive({ remote: server.address }, seconds * 1_000_000)
    home.client.bind().attach(machine, () => pushes++)
    // The server pushes to where it last heard from, a moment before the next keep-alive.
    server.onMessage = (data, from) => {
      world.at(world.now + seconds * 1_000_000 - 100_000, () => server.send(data, from))
    }
    world.run(60_000_000)
  })
  console.log(`keep-alive every ${seconds} s: ${pushes > 0 ? 'the pushes arrive' : 'nothing arrives'}`)
}
