import { Duplex } from 'node:stream'

/**
 * A byte stream whose transport comes later. Until then what is written is kept, to be {@link takeSaid taken} and carried some
 * other way, and what came that way is {@link give given} to the reader.
 */
export class LateTransport extends Duplex {
  /** Something was written, while there is no transport. */
  onSaid: () => void = () => undefined
  #said: Buffer[] = []
  #raw: Duplex | undefined
  #waitsForMore = false

  constructor() {
    super({ allowHalfOpen: true })
  }

  /** What was written since the last call. */
  takeSaid(): Buffer {
    return Buffer.concat(this.#said.splice(0))
  }

  /** What the peer has written, as it came by another way. */
  give(bytes: Buffer): void {
    if (!this.destroyed) this.push(bytes)
  }

  /**
   * From here on bytes go by `raw`, which belongs to this stream now: first `head` and what was not taken, together with the
   * next words if `withNext`, so that they share a datagram.
   */
  attach(raw: Duplex, head: Buffer, withNext: boolean): void {
    this.#raw = raw
    this.#said.unshift(head)
    this.#waitsForMore = withNext
    raw.on('data', (chunk: Buffer) => {
      // A transport that lends its buffers wants them back when this returns.
      if (this.readableFlowing === true && this.readableLength === 0) this.emit('data', chunk)
      else if (!this.push(Buffer.from(chunk))) raw.pause()
    })
    raw.once('end', () => this.push(null))
    raw.once('error', (error) => this.destroy(error))
    raw.once('close', () => {
      if (this.readableEnded || !raw.readableEnded) this.destroy()
      else this.once('end', () => this.destroy())
    })
    if (!withNext) this.#flush()
  }

  override _read(): void {
    this.#raw?.resume()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    const raw = this.#carrier()
    if (raw !== undefined) {
      raw.write(chunk, done)
      return
    }
    this.#keep([chunk])
    done()
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    const raw = this.#carrier()
    if (raw === undefined) {
      this.#keep(chunks.map(({ chunk }) => chunk))
      done()
      return
    }
    raw.cork()
    const last = chunks.length - 1
    for (const [i, { chunk }] of chunks.entries()) {
      if (i < last) raw.write(chunk)
      else raw.write(chunk, done)
    }
    raw.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#raw === undefined) {
      done()
      return
    }
    this.#flush()
    this.#raw.end(() => done())
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#said = []
    this.#raw?.destroy(error ?? undefined)
    done(error)
  }

  /** Where what is written goes at once. */
  #carrier(): Duplex | undefined {
    return this.#said.length > 0 ? undefined : this.#raw
  }

  #keep(chunks: Buffer[]): void {
    for (const chunk of chunks) this.#said.push(Buffer.from(chunk))
    if (this.#raw === undefined) this.onSaid()
    else if (this.#waitsForMore) this.#flush()
  }

  #flush(): void {
    this.#waitsForMore = false
    const said = this.takeSaid()
    if (said.length > 0) this.#raw?.write(said)
  }
}
