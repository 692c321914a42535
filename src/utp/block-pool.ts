/** A power of two. */
export const BLOCK = 32_768
/** 8 MiB of them, while bulk comes and goes in swings. */
const MOST_SPARE = 256
/** 1 MiB, once a connection has sent all it had. */
const SPARE_AT_REST = 32

/** What all connections that send may have taken ahead together, 16 MiB, before each takes less than {@link MOST_AHEAD}. */
const AHEAD = 16_777_216
const MOST_AHEAD = 524_288
const LEAST_AHEAD = 65_536

/** Blocks of memory for bytes on their way, used again by whichever connection needs one: fresh memory costs page faults. */
export class BlockPool {
  /** Bounded by {@link MOST_SPARE}. */
  readonly #spare: Uint8Array[] = []

  /** Connections that hold blocks. */
  #holders = 0

  /**
   * Bytes that a connection takes from its application at least, whatever its window: less where many send at once, since
   * what lies between writing and sending must still be in the processor's cache then.
   */
  get ahead(): number {
    return Math.max(LEAST_AHEAD, Math.min(MOST_AHEAD, AHEAD / this.#holders))
  }

  begin(): void {
    this.#holders++
  }

  end(): void {
    this.#holders--
  }

  take(): Uint8Array {
    return this.#spare.pop() ?? new Uint8Array(new ArrayBuffer(BLOCK))
  }

  /** Nobody looks at `block` any more. */
  recycle(block: Uint8Array): void {
    if (this.#spare.length < MOST_SPARE) this.#spare.push(block)
  }

  /** Nothing waits any more where much may have been waiting. */
  rest(): void {
    if (this.#spare.length > SPARE_AT_REST) this.#spare.length = SPARE_AT_REST
  }
}
