/**
 * Room for datagrams on their way out. They are cut one after the other from chunks that are never written twice, as
 * whoever sends may hold on to them for as long as it likes; a chunk goes when all of its datagrams have.
 */
export class SendBuffer {
  #chunk: Uint8Array = NOTHING
  #at = 0

  /** `length` bytes that nobody else has, holding whatever was in this memory before. */
  take(length: number): Uint8Array {
    if (this.#at + length > this.#chunk.length) {
      this.#chunk = Buffer.allocUnsafeSlow(Math.max(CHUNK, length))
      this.#at = 0
    }
    const from = this.#at
    // Kept aligned: copying is faster so.
    this.#at = (from + length + 7) & ~7
    return this.#chunk.subarray(from, from + length)
  }
}

const NOTHING = new Uint8Array(0)
const CHUNK = 128 * 1024
