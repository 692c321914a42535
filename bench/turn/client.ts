import { randomBytes } from 'node:crypto'
import type { Path, SocketAddress } from '../../src/core/index.ts'
import { bindDriver, type Driver } from '../../src/socket/index.ts'
import { Attribute, MessageClass, Method, StunBuilder, StunView } from '../../src/stun/index.ts'
import { OldAuth } from './old-auth.ts'

export const host = '127.0.0.1'
const TRIES = 6
const PATIENCE = 500

/** A UDP port of the load: on the native driver, because node:dgram would be the bottleneck. */
export class Port {
  readonly driver: Driver
  /** Every datagram that is no answer. */
  received = 0
  onDatagram: ((bytes: Uint8Array) => boolean) | undefined

  static async open(): Promise<Port> {
    return new Port(
      await bindDriver({ address: host, port: 0 }, 'auto', { recvBufferSize: 4 << 20, reusePort: false }),
    )
  }

  private constructor(driver: Driver) {
    this.driver = driver
    driver.start({
      onDatagram: (_path, bytes) => {
        if (this.onDatagram?.(bytes) !== true) this.received++
      },
      onBatchEnd: () => undefined,
      onWritable: () => undefined,
      onSendError: () => undefined,
      onReceiveError: () => undefined,
    })
  }

  get address(): SocketAddress {
    return this.driver.address
  }
}

/** A TURN client that costs little: one 5-tuple, one request at a time, MD5 and SHA-1, which all servers know. */
export class Client {
  readonly port: Port
  readonly server: Path
  relayed: SocketAddress | undefined
  readonly #auth = new OldAuth('user', 'pass')
  readonly #builder = new StunBuilder()
  readonly #view = new StunView()

  static async open(port: number): Promise<Client> {
    return new Client(await Port.open(), { remote: { address: host, port } })
  }

  private constructor(port: Port, server: Path) {
    this.port = port
    this.server = server
  }

  /** @throws {Error} with the error code, or when nothing answers. */
  async request(method: number, build: (request: StunBuilder) => unknown): Promise<StunView> {
    for (let round = 0; ; round++) {
      const id = randomBytes(12)
      const builder = this.#builder.start(method, MessageClass.Request, id)
      build(builder)
      this.#auth.sign(builder)
      const view = await this.#exchange(id, builder.copy())
      if (this.#auth.examine(view) === 'retry' && round < 3) continue
      if (view.messageClass === MessageClass.Success) return view
      throw new Error(`answered ${view.errorCode()?.code ?? 400}`)
    }
  }

  async allocate(): Promise<void> {
    const view = await this.request(Method.Allocate, (request) =>
      request.uint8(Attribute.RequestedTransport, 17, true),
    )
    this.relayed = view.xorAddress(Attribute.XorRelayedAddress)
  }

  async permit(peer: SocketAddress): Promise<void> {
    await this.request(Method.CreatePermission, (request) =>
      request.xorAddress(Attribute.XorPeerAddress, peer),
    )
  }

  async bind(channel: number, peer: SocketAddress): Promise<void> {
    await this.request(Method.ChannelBind, (request) =>
      request.uint16(Attribute.ChannelNumber, channel).xorAddress(Attribute.XorPeerAddress, peer),
    )
  }

  /** Gives the allocation back, if it is taken, and closes. */
  async close(): Promise<void> {
    await this.request(Method.Refresh, (request) => request.uint32(Attribute.Lifetime, 0)).catch(
      () => undefined,
    )
    await this.port.driver.close()
  }

  #exchange(id: Buffer, data: Uint8Array): Promise<StunView> {
    return new Promise((resolve, reject) => {
      let tries = 0
      const send = (): void => {
        if (tries++ === TRIES) {
          settle()
          reject(new Error('no answer'))
          return
        }
        this.port.driver.send({ path: this.server, data })
        this.port.driver.flush()
      }
      const timer = setInterval(send, PATIENCE)
      const settle = (): void => {
        clearInterval(timer)
        this.port.onDatagram = undefined
      }
      this.port.onDatagram = (bytes) => {
        if (Buffer.compare(bytes.subarray(8, 20), id) !== 0) return false
        settle()
        this.#view.open(Buffer.from(bytes))
        resolve(this.#view)
        return true
      }
      send()
    })
  }
}
