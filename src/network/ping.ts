import { randomBytes } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { PeerError } from '../core/errors.ts'
import { Scope } from './deadline.ts'
import { readExactly } from './protocol.ts'
import type { SecureStream } from './secure-stream.ts'

const length = 8

/** An open connection to a node for measuring round trips. Close it. */
export class Pinger {
  readonly #stream: SecureStream
  readonly #timeout: number

  /** @internal Use `network.ping`. */
  constructor(stream: SecureStream, timeout: number) {
    this.#stream = stream
    this.#timeout = timeout
    stream.on('error', () => undefined)
  }

  get peer(): SecureStream['peer'] {
    return this.#stream.peer
  }

  /** The peer's transport address. */
  get remote(): SecureStream['remote'] {
    return this.#stream.remote
  }

  /**
   * One round trip through everything a pipe passes: uTP, TLS, and the other node's program. One at a time.
   *
   * @returns milliseconds.
   * @throws {PeerError} `ERR_NATWORK_TIMEOUT`, or why the connection broke.
   */
  async roundTrip(signal?: AbortSignal): Promise<number> {
    const scope = new Scope(this.#timeout, [signal], () => {
      return new PeerError('ERR_NATWORK_TIMEOUT', `${this.peer} did not answer within ${this.#timeout} ms`)
    })
    try {
      const sent = randomBytes(length)
      const start = performance.now()
      this.#stream.write(sent)
      const echo = await scope.run(readExactly(this.#stream, length))
      if (echo?.equals(sent) !== true) {
        throw new PeerError('ERR_NATWORK_PROTOCOL', `${this.peer} answered a ping with something else`)
      }
      return performance.now() - start
    } finally {
      scope.close()
    }
  }

  close(): void {
    this.#stream.end()
    this.#stream.resume()
  }
}
