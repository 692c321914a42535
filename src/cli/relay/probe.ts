import { randomBytes } from 'node:crypto'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { connect, type Socket } from 'node:net'
import { familyOf, PeerError, type SocketAddress } from '../../core/index.ts'
import {
  type ClientAuth,
  LongTermAuth,
  MessageClass,
  Method,
  Attribute,
  StunBuilder,
  StunView,
} from '../../stun/index.ts'
import { mayBeChannelData, TransportProtocol, TurnFramer } from '../../turn/index.ts'

export interface Reply {
  /** 0 for success, else the error code. */
  readonly code: number
  readonly view: StunView
  /** Bytes of the request that it answers. */
  readonly requestLength: number
  /** Microseconds. */
  readonly roundTrip: number
}

/**
 * A TURN client that does as it is told, also what no client should: one 5-tuple, one request at a time. The real client
 * is `TurnClient`; this one is for `natwork relay check`.
 */
export class Probe {
  /** What the server sends besides answers. */
  onUnasked: (message: Buffer) => void = () => undefined
  #auth: ClientAuth | undefined
  readonly #builder = new StunBuilder()
  #udp: UdpSocket | undefined
  #tcp: Socket | undefined
  readonly #server: SocketAddress
  #closed = false
  #waiting: { id: Buffer; done: (view: StunView) => void } | undefined

  static async open(
    server: SocketAddress,
    transport: 'udp' | 'tcp',
    user?: { username: string; password: string },
  ): Promise<Probe> {
    const probe = new Probe(server, user)
    if (transport === 'udp') await probe.#bind()
    else await probe.#connect()
    return probe
  }

  private constructor(server: SocketAddress, user?: { username: string; password: string }) {
    this.#server = server
    this.#auth = user && new LongTermAuth(user.username, user.password)
  }

  /** True once the server has closed the TCP connection. */
  get closed(): boolean {
    return this.#closed
  }

  /** What signs the requests from now on: also somebody else's. */
  get auth(): ClientAuth | undefined {
    return this.#auth
  }

  set auth(value: ClientAuth | undefined) {
    this.#auth = value
  }

  /** Asks, with credentials when there are some, and answers challenges. */
  async request(method: number, build: (request: StunBuilder) => unknown = () => undefined): Promise<Reply> {
    for (let round = 1; ; round++) {
      const id = randomBytes(12)
      const builder = this.#builder.start(method, MessageClass.Request, id)
      build(builder)
      const signature = this.#auth?.sign(builder)
      const bytes = builder.copy()
      const from = performance.now()
      const view = await this.#exchange(id, bytes)
      const roundTrip = (performance.now() - from) * 1000
      if (round < 4 && this.#auth?.examine(view, signature) === 'retry') continue
      const code = view.messageClass === MessageClass.Success ? 0 : (view.errorCode()?.code ?? 400)
      return { code, view, requestLength: bytes.length, roundTrip }
    }
  }

  allocate(transport: TransportProtocol = TransportProtocol.Udp): Promise<Reply> {
    return this.request(Method.Allocate, (request) =>
      request.uint8(Attribute.RequestedTransport, transport, true),
    )
  }

  permit(peer: SocketAddress): Promise<Reply> {
    return this.request(Method.CreatePermission, (request) =>
      request.xorAddress(Attribute.XorPeerAddress, peer),
    )
  }

  bind(channel: number, peer: SocketAddress): Promise<Reply> {
    return this.request(Method.ChannelBind, (request) =>
      request.uint16(Attribute.ChannelNumber, channel).xorAddress(Attribute.XorPeerAddress, peer),
    )
  }

  /** Sends these bytes as they are. */
  send(bytes: Uint8Array): void {
    this.#udp?.send(bytes, this.#server.port, this.#server.address)
    if (this.#tcp?.destroyed === false) this.#tcp.write(bytes)
  }

  /** Sends a Send indication. */
  indicate(peer: SocketAddress, data: Uint8Array): void {
    const builder = this.#builder.start(Method.Send, MessageClass.Indication, randomBytes(12))
    this.send(builder.xorAddress(Attribute.XorPeerAddress, peer).bytes(Attribute.Data, data).copy())
  }

  /** Gives the allocation back, as far as there is one, and closes. */
  async close(): Promise<void> {
    if (!this.#closed && this.#auth !== undefined) {
      await this.request(Method.Refresh, (request) => request.uint32(Attribute.Lifetime, 0)).catch(
        () => undefined,
      )
    }
    this.abandon()
  }

  /** Closes without a word. */
  abandon(): void {
    this.#udp?.close()
    this.#udp = undefined
    this.#tcp?.destroy()
  }

  #exchange(id: Buffer, bytes: Uint8Array): Promise<StunView> {
    return new Promise((resolve, reject) => {
      let sent = 0
      const again = (): void => {
        if (this.#closed || sent++ === MAX_SENDS) {
          settle()
          reject(new PeerError('ERR_NATWORK_RELAY_CHECK', 'the server does not answer'))
        } else if (sent === 1 || this.#tcp === undefined) this.send(bytes)
      }
      const timer = setInterval(again, RESEND_INTERVAL)
      const settle = (): void => {
        clearInterval(timer)
        this.#waiting = undefined
      }
      this.#waiting = {
        id,
        done: (view) => {
          settle()
          resolve(view)
        },
      }
      again()
    })
  }

  readonly #onMessage = (message: Uint8Array): void => {
    const kept = Buffer.from(message)
    const view = new StunView()
    if (!mayBeChannelData(kept) && view.open(kept) && this.#waiting?.id.equals(view.transactionId) === true) {
      this.#waiting.done(view)
    } else {
      this.onUnasked(kept)
    }
  }

  #bind(): Promise<void> {
    const socket = createSocket(familyOf(this.#server.address) === 6 ? 'udp6' : 'udp4')
    this.#udp = socket
    socket.on('message', this.#onMessage)
    socket.on('error', () => undefined)
    return new Promise((resolve) => socket.bind(0, resolve))
  }

  #connect(): Promise<void> {
    const socket = connect({ host: this.#server.address, port: this.#server.port, noDelay: true })
    this.#tcp = socket
    const framer = new TurnFramer({ onMessage: this.#onMessage, oldChannels: true })
    socket.on('data', (chunk: Buffer) => {
      if (framer.push(chunk) === -1) socket.destroy()
    })
    socket.once('close', () => {
      this.#closed = true
    })
    return new Promise((resolve, reject) => {
      socket.once('connect', resolve)
      socket.on('error', (cause) => {
        reject(new PeerError('ERR_NATWORK_RELAY_CHECK', `no TCP connection: ${cause.message}`, { cause }))
      })
    })
  }
}

const MAX_SENDS = 7
const RESEND_INTERVAL = 500
