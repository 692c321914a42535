import { connect, createServer, type Server, type Socket } from 'node:net'
import type { SocketAddress } from '../../../core/address.ts'
import { CONNECT_TIMEOUT } from '../../protocol/constants.ts'
import type { Allocation } from '../../server/allocation.ts'
import type { PeerConnection, RelayedSocket } from '../../server/io.ts'
import { unmappedText } from './links.ts'
import type { Outside } from './outside.ts'

type OnPeer = (allocation: Allocation, connection: PeerConnection) => void

/**
 * A TCP port at a relayed transport address (RFC 6062): it listens, and it is what connections to peers come from. The
 * kernel lets a port connect or listen but not both at once, unless asked for by an option that Node has not got: while
 * a connection begins the port stops listening, for a turn of the event loop.
 */
export class TcpRelayed implements RelayedSocket {
  readonly address: SocketAddress
  readonly #at: SocketAddress
  readonly #names: Outside
  readonly #onClose: () => void
  readonly #onPeer: OnPeer
  #server: Server
  #allocation: Allocation | undefined
  /** Connections that wait for their turn at the port. Bounded by the limit `connections`. */
  readonly #queue: (() => void)[] = []
  #busy = false
  #closed = false

  /** Rejects when the port cannot be had. */
  static async listen(
    at: SocketAddress,
    address: SocketAddress,
    names: Outside,
    onClose: () => void,
    onPeer: OnPeer,
  ): Promise<TcpRelayed> {
    const relayed = new TcpRelayed(at, address, names, onClose, onPeer)
    await relayed.#listen()
    return relayed
  }

  private constructor(
    at: SocketAddress,
    address: SocketAddress,
    names: Outside,
    onClose: () => void,
    onPeer: OnPeer,
  ) {
    this.#at = at
    this.#names = names
    this.address = address
    this.#onClose = onClose
    this.#onPeer = onPeer
    this.#server = createServer()
  }

  start(allocation: Allocation): void {
    this.#allocation = allocation
  }

  send(): void {
    // Datagrams are not what this address is for.
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#server.close()
    this.#onClose()
  }

  /** `done` gets the connection, or undefined when the peer does not answer or refuses. */
  connect(peer: SocketAddress, done: (connection: PeerConnection | undefined) => void): void {
    this.#queue.push(() => {
      this.#connectNow(peer, done)
    })
    this.#next()
  }

  #next(): void {
    if (this.#busy) return
    const job = this.#queue.shift()
    if (job === undefined) return
    this.#busy = true
    job()
  }

  #connectNow(peer: SocketAddress, done: (connection: PeerConnection | undefined) => void): void {
    this.#server.close()
    const { address, port } = this.#names.inside(peer)
    const socket = connect({
      host: address,
      port,
      localAddress: this.#at.address,
      localPort: this.#at.port,
      noDelay: true,
    })
    let settled = false
    const settle = (connection: PeerConnection | undefined): void => {
      if (settled) return
      settled = true
      clearTimeout(timer)
      done(connection)
    }
    const timer = setTimeout(() => {
      socket.destroy()
      settle(undefined)
    }, CONNECT_TIMEOUT / 1_000)
    socket.once('error', () => {
      settle(undefined)
    })
    socket.once('connect', () => {
      settle(new PeerSocket(socket, this.#names))
    })
    // Bound and under way by then: the port can listen again.
    setImmediate(() => {
      const free = (): void => {
        this.#busy = false
        this.#next()
      }
      if (this.#closed) free()
      else {
        this.#server = createServer()
        this.#listen().then(free, free)
      }
    })
  }

  #listen(): Promise<void> {
    const server = this.#server
    server.on('connection', (socket) => {
      if (this.#allocation === undefined) socket.destroy()
      else this.#onPeer(this.#allocation, new PeerSocket(socket, this.#names))
    })
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: this.#at.address, port: this.#at.port, exclusive: true }, () => {
        server.off('error', reject)
        server.on('error', () => undefined)
        resolve()
      })
    })
  }
}

/** A connection with a peer. Node reads nothing of it before it is joined to the client's. */
export class PeerSocket implements PeerConnection {
  readonly remote: SocketAddress
  readonly socket: Socket

  constructor(socket: Socket, names: Outside) {
    this.socket = socket
    const address = unmappedText(socket.remoteAddress ?? '')
    this.remote = names.outside({ address, port: socket.remotePort ?? 0 })
    socket.on('error', () => undefined)
    socket.pause()
  }

  destroy(): void {
    this.socket.destroy()
  }

  onClose(listener: () => void): void {
    this.socket.once('close', listener)
  }
}
