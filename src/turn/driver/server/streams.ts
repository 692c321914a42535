import { createServer, type Server, type Socket } from 'node:net'
import { pipeline, Transform } from 'node:stream'
import { createServer as createTlsServer, Server as TlsServer, type TlsOptions } from 'node:tls'
import { formatAddress, type SocketAddress } from '../../../core/address.ts'
import type { Micros } from '../../../core/machine.ts'
import { systemClock } from '../../../core/ports.ts'
import { StunView } from '../../../stun/codec/view.ts'
import { isBindingRequest, type StunResponder } from '../../../stun/server/responder.ts'
import { TurnSystemError } from '../../errors.ts'
import { channelOf, mayBeChannelData } from '../../protocol/channel-data.ts'
import { TURN_ALPN } from '../../protocol/constants.ts'
import { TurnFramer } from '../../protocol/framing.ts'
import { sourceKey, Tally } from '../../server/limits.ts'
import type { Allocation } from '../../server/allocation.ts'
import type { ClientLink } from '../../server/io.ts'
import type { RelayHost } from './host.ts'
import { StreamLink, unmappedText } from './links.ts'
import { PeerSocket } from './relayed-tcp.ts'

export interface StreamsOptions {
  readonly channels: ClientLink['channels']
  /** Milliseconds that a connection may last without an allocation; default 30,000. */
  readonly idleTimeout: number
  /** Connections at once, of all ports together. */
  readonly maxConnections: number
  /** Connections at once from one address (IPv6: one /64). */
  readonly maxConnectionsPerSource: number
}

/** The TCP and TLS ports that clients come to (RFC 8656 §3.1). */
export class Streams {
  readonly #host: RelayHost
  readonly #responder: StunResponder
  readonly #options: StreamsOptions
  readonly #servers: Server[] = []
  /** Bounded by `maxConnections`. */
  readonly #open = new Set<Socket>()
  readonly #perSource = new Tally()

  constructor(host: RelayHost, responder: StunResponder, options: StreamsOptions) {
    this.#host = host
    this.#responder = responder
    this.#options = options
  }

  get addresses(): SocketAddress[] {
    return this.#servers.map(boundTo)
  }

  /** @throws {TurnSystemError} `ERR_NATWORK_TURN_LISTEN` */
  async listen(at: SocketAddress, tls: TlsOptions | undefined): Promise<SocketAddress> {
    let server: Server
    if (tls === undefined) {
      server = createServer((socket) => {
        if (this.#admit(socket)) this.#serve(socket)
      })
    } else {
      server = this.#secure(tls)
    }
    this.#servers.push(server)
    const place = boundTo(await bound(server, at))
    this.#host.addListening(place.address, place.port)
    return place
  }

  /** For a TCP port that others listen at too: what takes those connections of it that are clients'. */
  guests(tls: TlsOptions): (socket: Socket) => void {
    const server = this.#secure(tls)
    return (socket) => void server.emit('connection', socket)
  }

  /** New TLS connections get the new certificate. */
  setSecureContext(tls: TlsOptions): void {
    for (const server of this.#servers) if (server instanceof TlsServer) server.setSecureContext(tls)
  }

  /** Listens no more; connections go on. */
  stopListening(): Promise<unknown> {
    return Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))))
  }

  close(): void {
    for (const server of this.#servers) server.close()
    for (const socket of this.#open) socket.destroy()
  }

  #secure(tls: TlsOptions): TlsServer {
    const server = createTlsServer(
      { handshakeTimeout: TLS_HANDSHAKE_TIMEOUT, ...tls, minVersion: 'TLSv1.2', ALPNProtocols },
      (socket) => {
        this.#serve(socket)
      },
    )
    // Counted from the TCP handshake on, not only once TLS is done.
    server.on('connection', (socket: Socket) => this.#admit(socket))
    server.on('tlsClientError', (_error, socket) => socket.destroy())
    return server
  }

  /** False when there are too many already: it is closed. */
  #admit(socket: Socket): boolean {
    const source = sourceKey(unmappedText(socket.remoteAddress ?? ''))
    const { maxConnections, maxConnectionsPerSource } = this.#options
    socket.on('error', () => socket.destroy())
    if (
      socket.remoteAddress === undefined ||
      this.#open.size >= maxConnections ||
      this.#perSource.of(source) >= maxConnectionsPerSource
    ) {
      socket.destroy()
      return false
    }
    this.#open.add(socket)
    this.#perSource.add(source)
    socket.once('close', () => {
      this.#open.delete(socket)
      this.#perSource.remove(source)
    })
    socket.setNoDelay(true)
    return true
  }

  #serve(socket: Socket): void {
    const host = this.#host
    socket.on('error', () => socket.destroy())
    const view = new StunView()
    let idle: NodeJS.Timeout | undefined
    const expectAllocation = (): void => {
      clearTimeout(idle)
      idle = setTimeout(() => {
        if (link.allocation === undefined && !joined) socket.destroy()
      }, this.#options.idleTimeout)
      idle.unref()
    }
    let joined = false
    const link = new StreamLink(
      socket,
      this.#options.channels,
      (peer, allocation) => {
        joined = true
        framer.stop()
        if (peer instanceof PeerSocket) join = { peer, allocation }
      },
      expectAllocation,
    )
    let join: { readonly peer: PeerSocket; readonly allocation: Allocation } | undefined
    const framer = new TurnFramer({
      oldChannels: this.#options.channels === 'old',
      onMessage: (message) => {
        const now = systemClock.now()
        if (mayBeChannelData(message)) {
          link.allocation?.handleChannelData(now, link, channelOf(message), message)
        } else if (
          view.open(message) &&
          !host.relay.handleMessage(now, link, view) &&
          isBindingRequest(view)
        ) {
          const reply = this.#responder.respond(now, view, { source: link.remote, origin: 0, reliable: true })
          if (reply !== undefined) link.send(reply.data)
        }
      },
    })
    const onData = (chunk: Buffer): void => {
      const used = framer.push(chunk)
      host.drain()
      // No TURN, or a stranger who wants us to keep a long message for it.
      if (used === -1 || (link.allocation === undefined && framer.buffered > MAX_UNAUTHENTICATED)) {
        socket.destroy()
      } else if (join !== undefined) {
        socket.off('data', onData)
        clearTimeout(idle)
        const { peer, allocation } = join
        if (used < chunk.length) socket.unshift(chunk.subarray(used))
        splice(socket, peer.socket, (toPeer, bytes) =>
          host.relay.carry(systemClock.now(), allocation, toPeer, bytes),
        )
      }
    }
    socket.on('data', onData)
    socket.once('close', () => {
      host.relay.linkClosed(systemClock.now(), link)
      host.drain()
      clearTimeout(idle)
    })
    expectAllocation()
  }
}

/**
 * Joins a client's data connection to the peer's (RFC 6062 §5.4, §5.5): what one has sent the other still gets, and when
 * one breaks, the other does.
 */
function splice(client: Socket, peer: Socket, carry: (toPeer: boolean, bytes: number) => Micros): void {
  for (const socket of [client, peer]) socket.allowHalfOpen = true
  const over = (): void => undefined
  pipeline(
    client,
    paced((bytes) => carry(true, bytes)),
    peer,
    over,
  )
  pipeline(
    peer,
    paced((bytes) => carry(false, bytes)),
    client,
    over,
  )
}

/** Passes on what it gets, and then rests for as long as it is told. */
function paced(carry: (bytes: number) => Micros): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const rest = carry(chunk.length) / 1_000
      this.push(chunk)
      if (rest > 0) setTimeout(done, rest).unref()
      else done()
    },
  })
}

const ALPNProtocols = [TURN_ALPN, 'stun.nat-discovery']
const TLS_HANDSHAKE_TIMEOUT = 10_000
/** No request of a stranger is longer. */
const MAX_UNAUTHENTICATED = 4_096

function bound(server: Server, at: SocketAddress): Promise<Server> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const message = `cannot listen on TCP ${formatAddress(at)}: ${cause.message}`
      reject(new TurnSystemError('ERR_NATWORK_TURN_LISTEN', message, { cause }))
    })
    server.listen(at.port, at.address, () => {
      resolve(server)
    })
  })
}

function boundTo(server: Server): SocketAddress {
  const at = server.address()
  return at !== null && typeof at === 'object'
    ? { address: at.address, port: at.port }
    : { address: '', port: 0 }
}
