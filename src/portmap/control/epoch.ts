import { SECOND, type Micros } from '../../core/machine.ts'

/**
 * A gateway's count of seconds since its table of mappings was empty. It tells of a restart: then it goes back, or
 * does not keep pace with our clock.
 */
export class Epoch {
  #at: Micros | undefined
  #value = 0

  /**
   * Takes the value of a response in.
   *
   * @returns false when the gateway has lost its mappings since the value before.
   */
  isContinuedBy(value: number, now: Micros, protocol: 'pcp' | 'nat-pmp'): boolean {
    const [before, previous] = [this.#at, this.#value]
    this.#at = now
    this.#value = value
    if (before === undefined) return true
    const client = Math.floor((now - before) / SECOND)
    const server = Math.max(0, value - previous)
    // RFC 6887 §8.5: too far ahead. With either protocol: this machine slept, and leases have run out meanwhile.
    if (client + 2 < server - Math.floor(server / 16)) return false
    // RFC 6886 §3.6: 7/8 of our time, and 2 seconds for rounding.
    if (protocol === 'nat-pmp') return value >= previous + Math.floor((client * 7) / 8) - 2
    // RFC 6887 §8.5: 15/16. A second backwards is only packets that overtook each other.
    return value >= previous - 1 && server + 2 >= client - Math.floor(client / 16)
  }
}
