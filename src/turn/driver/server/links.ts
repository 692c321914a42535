import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { SocketAddress } from '../../../core/address.ts'
import type { Allocation } from '../../server/allocation.ts'
import type { ClientLink, PeerConnection } from '../../server/io.ts'

/** A client's TCP or TLS connection. */
export class StreamLink implements ClientLink {
  readonly kind = 'stream'
  readonly secure: boolean
  readonly channels: ClientLink['channels']
  readonly remote: SocketAddress
  readonly socket: Socket
  allocation: Allocation | undefined = undefined
  opening = false
  readonly #onJoin: (peer: PeerConnection, allocation: Allocation) => void
  readonly #onReleased: () => void
  #corked = false

  constructor(
    socket: Socket,
    channels: ClientLink['channels'],
    onJoin: (peer: PeerConnection, allocation: Allocation) => void,
    onReleased: () => void,
  ) {
    this.socket = socket
    this.secure = socket instanceof TLSSocket
    this.channels = channels
    this.remote = { address: unmappedText(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 }
    this.#onJoin = onJoin
    this.#onReleased = onReleased
  }

  /** What the client does not read is dropped, as a datagram would be: the relay does not grow with it. */
  send(data: Uint8Array): void {
    const { socket } = this
    if (socket.destroyed || socket.writableLength > MAX_UNREAD) return
    if (!this.#corked) {
      // One system call for all that a turn of the loop brings.
      this.#corked = true
      socket.cork()
      setImmediate(() => {
        this.#corked = false
        socket.uncork()
      })
    }
    socket.write(Buffer.from(data))
  }

  released(): void {
    this.#onReleased()
  }

  joinTo(peer: PeerConnection, allocation: Allocation): void {
    this.#onJoin(peer, allocation)
  }
}

const MAX_UNREAD = 1024 * 1024

/** A dual-stack socket shows IPv4 clients as `::ffff:192.0.2.1`. */
export function unmappedText(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '')
}
