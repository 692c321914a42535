/** A power of two. */
export const BLOCK = 32_768
/** 8 MiB of them, while bulk comes and goes in swings. */
const MOST_SPARE = 256
/** 1 MiB, once a connection has sent all it had. */
const SPARE_AT_REST = 32

/** Blocks of memory for bytes on their way, used again by whichever connection needs one: fresh memory costs page faults. */
export class BlockPool {
  /** Bounded by {@link MOST_SPARE}. */
  readonly #spare: Uint8Array[] = []

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
