/** `rate` per second in the long run, `burst` at once. */
export interface Rate {
  readonly rate: number
  readonly burst: number
}

/**
 * A token bucket per key. Bounded by `capacity`: beyond it the bucket used longest ago is forgotten, which a flooder of
 * many keys can make use of; the total that all keys share bounds that.
 */
export class RateLimiter {
  readonly #each: Rate
  readonly #total: Bucket
  readonly #totalRate: Rate
  readonly #capacity: number
  /** The one used last is the last. */
  readonly #buckets = new Map<string, Bucket>()

  constructor(each: Rate, total: Rate, capacity = 4_096) {
    this.#each = each
    this.#totalRate = total
    this.#total = { tokens: total.burst, at: 0 }
    this.#capacity = capacity
  }

  /** Takes one for this key, unless it or all together are over their rate. `now` in milliseconds of any clock. */
  take(key: string, now: number): boolean {
    const bucket = this.#buckets.get(key) ?? { tokens: this.#each.burst, at: now }
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    if (this.#buckets.size > this.#capacity) {
      const [oldest] = this.#buckets.keys()
      if (oldest !== undefined) this.#buckets.delete(oldest)
    }
    refill(bucket, this.#each, now)
    refill(this.#total, this.#totalRate, now)
    if (bucket.tokens < 1 || this.#total.tokens < 1) return false
    bucket.tokens--
    this.#total.tokens--
    return true
  }
}

interface Bucket {
  tokens: number
  at: number
}

function refill(bucket: Bucket, { rate, burst }: Rate, now: number): void {
  bucket.tokens = Math.min(burst, bucket.tokens + (Math.max(0, now - bucket.at) * rate) / 1_000)
  bucket.at = now
}
