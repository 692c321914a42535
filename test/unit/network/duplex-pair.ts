import { Duplex } from 'node:stream'

/**
 * Two ends of a byte stream in memory, with the manners of a uTP stream: each direction ends by itself, a full reader
 * stops the writer, and destroying one end breaks the other with an error.
 */
export class End extends Duplex {
  other!: End
  #room: (() => void) | undefined
  written = 0

  constructor() {
    super({ allowHalfOpen: true })
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.written += chunk.length
    setImmediate(() => {
      if (this.other.push(Buffer.from(chunk))) done()
      else this.other.#room = done
    })
  }

  override _read(): void {
    const room = this.#room
    this.#room = undefined
    room?.()
  }

  override _final(done: () => void): void {
    setImmediate(() => {
      this.other.push(null)
      done()
    })
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const clean = this.readableEnded && this.writableFinished
    if (!clean && !this.other.destroyed) {
      setImmediate(() =>
        this.other.destroy(Object.assign(new Error('reset by peer'), { code: 'ECONNRESET' })),
      )
    }
    done(error)
  }
}

export function duplexPair(): [End, End] {
  const a = new End()
  const b = new End()
  a.other = b
  b.other = a
  return [a, b]
}

/** Everything until the end. Not `for await`: that destroys a stream whose other direction is still open. */
export function readAll(stream: Duplex): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    stream
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .on('end', () => resolve(Buffer.concat(chunks)))
      .on('error', reject)
      .resume()
  })
}
