import { SECOND, type Micros } from '../../core/machine.ts'
import type { Rng } from '../../core/ports.ts'
import { writeIp } from '../../core/ip.ts'

/** How many requests a source may make. */
export interface RateLimit {
  /** Requests per second and source network, on average. */
  readonly perSecond: number
  /** Requests at once after a pause. */
  readonly burst: number
}

/**
 * A token bucket for each source network: IPv4 /24, IPv6 /48, which is about what one party can send from. The
 * memory is fixed: networks that fall into the same of the 4096 buckets share it, and a secret salt keeps a stranger
 * from choosing whose.
 */
export class SourceLimiter {
  readonly #tokens: Float64Array
  readonly #updated: Float64Array
  readonly #salt: number
  readonly #limit: RateLimit
  readonly #ip = new Uint8Array(16)

  constructor(rng: Rng, limit: RateLimit) {
    this.#salt = rng.uint32()
    this.#limit = limit
    this.#tokens = new Float64Array(BUCKETS).fill(limit.burst)
    this.#updated = new Float64Array(BUCKETS).fill(-Infinity)
  }

  /** Takes `cost` tokens of the source's; false when it has not got them. */
  take(now: Micros, address: string, cost = 1): boolean {
    const at = this.#bucket(address)
    const { perSecond, burst } = this.#limit
    const elapsed = now - (this.#updated[at] ?? 0)
    const tokens = Math.min(burst, (this.#tokens[at] ?? 0) + (elapsed / SECOND) * perSecond)
    this.#updated[at] = now
    this.#tokens[at] = tokens >= cost ? tokens - cost : tokens
    return tokens >= cost
  }

  #bucket(address: string): number {
    const ip = this.#ip
    const bytes = writeIp(address, ip, 0) === 4 ? 3 : 6
    let hash = this.#salt
    for (let n = 0; n < bytes; n++) hash = Math.imul(hash ^ (ip[n] ?? 0), 0x01000193)
    hash = Math.imul(hash ^ (hash >>> 15) ^ this.#salt, 0x85ebca6b)
    return (hash ^ (hash >>> 13)) & (BUCKETS - 1)
  }
}

const BUCKETS = 4096
