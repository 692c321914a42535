import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { TlsPlace } from './place.ts'

/**
 * A TCP connection as a plain stream. TLS on a bare `net.Socket` would take its handle away, and with it the raw end that
 * tells an authentic end from a cut connection (see `AuthenticEnd`); on this it reads like uTP's streams.
 */
export class TcpStream extends Duplex {
  readonly remoteAddress: string
  readonly remotePort: number
  /** Where it was dialled to; undefined when it came in. */
  readonly place: TlsPlace | undefined
  readonly #socket: Socket

  /** Owns the socket, which is connected. */
  constructor(socket: Socket, place?: TlsPlace) {
    super({ allowHalfOpen: true })
    this.place = place
    this.remoteAddress = unmapped(socket.remoteAddress ?? '')
    this.remotePort = socket.remotePort ?? 0
    this.#socket = socket
    socket.allowHalfOpen = true
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) socket.pause()
    })
    socket.on('end', () => this.push(null))
    socket.on('error', (error) => this.destroy(error))
    socket.on('close', () => {
      // In good order both ends are known by now; else it was cut.
      if (!this.readableEnded || !this.writableFinished) this.destroy()
    })
    socket.pause()
  }

  override _read(): void {
    this.#socket.resume()
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (error === null) this.#socket.destroy()
    else this.#socket.resetAndDestroy()
    done(error)
  }
}

/** A dual-stack socket shows IPv4 peers as `::ffff:192.0.2.1`. */
export function unmapped(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '')
}
