import type { Deadline, Machine, Micros, Path, Transmit } from '../../../src/core/machine.ts'

/** A machine under the test's hand: it owns what `owns` says, sends what is queued, and reports what it got. */
export class TestMachine implements Machine<{ path: Path; text: string }> {
  readonly outgoing: Transmit[] = []
  readonly received: { path: Path; text: string }[] = []
  readonly owns: (text: string) => boolean
  deadline: Micros | undefined
  timeouts: Micros[] = []
  timeoutPolls = 0

  readonly #events: { path: Path; text: string }[] = []

  constructor(owns: (text: string) => boolean = () => true) {
    this.owns = owns
  }

  handleDatagram(_now: Micros, path: Path, bytes: Uint8Array): boolean {
    const text = Buffer.from(bytes).toString()
    if (!this.owns(text)) return false
    this.received.push({ path, text })
    this.#events.push({ path, text })
    return true
  }

  handleTimeout(now: Micros): void {
    this.timeouts.push(now)
    this.deadline = undefined
  }

  pollTransmit(_now: Micros): Transmit | undefined {
    return this.outgoing.shift()
  }

  pollEvent(): { path: Path; text: string } | undefined {
    return this.#events.shift()
  }

  pollTimeout(): Deadline | undefined {
    this.timeoutPolls++
    return this.deadline === undefined ? undefined : { at: this.deadline, reason: 'test' }
  }
}
