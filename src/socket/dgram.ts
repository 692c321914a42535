import { createSocket, type RemoteInfo, type Socket, type SocketOptions } from 'node:dgram'
import { familyOf, type SocketAddress } from '../core/address.ts'
import type { Transmit } from '../core/machine.ts'
import type { Driver, DriverHandler, DriverOptions } from './driver.ts'
import { bindError, sharedPortError } from './errors.ts'
import { bindFamilies, type Families } from './families.ts'
import { PathTable } from './paths.ts'

/**
 * The driver on node:dgram: one system call per datagram each way.
 *
 * @throws {SystemError} `ERR_NATWORK_SOCKET_…` when the port cannot be had; nothing stays open then.
 */
export async function bindDgram(at: SocketAddress, options: DriverOptions): Promise<Driver> {
  const sockets = await bindFamilies(
    at,
    (one) => bindSocket(one, options),
    (socket) => socket.address().port,
  )
  return new DgramDriver(at, sockets)
}

class DgramDriver implements Driver {
  readonly name = 'node:dgram'
  readonly address: SocketAddress
  readonly #four: Socket | undefined
  readonly #six: Socket | undefined
  #handler: DriverHandler = nobody
  readonly #paths = new PathTable()

  // Receiving: node gives no sign when a turn of the loop has read everything. One immediate per turn is that sign.
  #inTurn = 0
  #lastTurn = 0
  #sinceCount = 0

  // Sending. libuv holds on to what the kernel does not take at once, and nothing tells which datagram that was.
  #memory = NO_MEMORY
  #used = 0
  #sinceCheck = 0
  #sinceChecked = 0
  #checked: Set<SocketAddress> | undefined
  #pressed: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  /** @param at what was bound; port 0: the sockets say which it is. */
  constructor(at: SocketAddress, { four, six }: Families<Socket>) {
    this.#four = four
    this.#six = six
    this.address = at.port === 0 ? { ...at, port: (four ?? six)?.address().port ?? 0 } : at
  }

  /** Asked for when it is wanted: of most ports nobody does. */
  get recvBufferSize(): number {
    return Math.min(...this.#sockets().map(grantedRecvBuffer))
  }

  start(handler: DriverHandler): void {
    this.#handler = handler
    for (const socket of this.#sockets()) {
      socket.on('message', this.#onMessage)
      socket.on('error', (error) => {
        handler.onReceiveError(error)
      })
    }
  }

  send(transmit: Transmit): boolean {
    const { path, data, ttl } = transmit
    const { address, port } = path.remote
    const socket = familyOf(address) === 6 ? this.#six : this.#four
    if (socket === undefined || this.#closing !== undefined) {
      this.#handler.onSendError(transmit, new Error(`this port does not speak the family of ${address}`))
      return true
    }
    if (ttl !== undefined) return this.#sendWithTtl(socket, transmit, ttl)
    // Node tells errors to a callback only, which costs 15 % of a send.
    if (this.#wasChecked(path.remote)) socket.send(this.#copy(data), port, address)
    else this.#sendChecked(socket, transmit)
    // Below the kernel's limit libuv sends at once and queues nothing, so looking every few datagrams bounds its queue.
    return ++this.#sinceCheck < CHECK_EVERY || this.#hasRoom()
  }

  flush(): void {
    // Nothing is kept back.
  }

  close(): Promise<void> {
    this.#handler = nobody
    this.#closing ??= Promise.all(
      this.#sockets().map((socket) => {
        clearTimeout(this.#pressed)
        socket.off('message', this.#onMessage)
        return new Promise<void>((resolve) => socket.close(resolve))
      }),
    ).then(() => undefined)
    return this.#closing
  }

  readonly #onMessage = (bytes: Uint8Array, from: RemoteInfo): void => {
    if (this.#inTurn === 0 && this.#lastTurn < BULK && ++this.#sinceCount < COUNT_EVERY) {
      this.#handler.onDatagram(this.#paths.lookup(from.address, from.port), bytes)
      this.#handler.onBatchEnd()
      return
    }
    this.#sinceCount = 0
    if (++this.#inTurn === 1) setImmediate(this.#onTurnEnd)
    this.#handler.onDatagram(this.#paths.lookup(from.address, from.port), bytes)
    // Waiting for the end of the turn would cost a lone message about 25 µs; in bulk it lets one acknowledgement
    // speak for many datagrams. What the last turn brought tells which of the two this is.
    if (this.#inTurn === 1 && this.#lastTurn < BULK) this.#handler.onBatchEnd()
  }

  readonly #onTurnEnd = (): void => {
    const answered = this.#inTurn === 1 && this.#lastTurn < BULK
    this.#lastTurn = this.#inTurn
    this.#inTurn = 0
    if (!answered) this.#handler.onBatchEnd()
  }

  // The TTL is the socket's, so it is set and set back around the one send, which happens inside the call (lookupless,
  // see bindSocket) unless libuv has a queue: then the datagram would leave later with the wrong TTL, and is dropped.
  #sendWithTtl(socket: Socket, transmit: Transmit, ttl: number): boolean {
    if (!this.#hasRoom()) {
      this.#handler.onSendError(transmit, new Error('the send queue is full: not sent with another TTL'))
      return false
    }
    try {
      socket.setTTL(ttl)
      this.#sendChecked(socket, transmit)
    } catch (error) {
      this.#handler.onSendError(transmit, error instanceof Error ? error : new Error(String(error)))
    } finally {
      socket.setTTL(DEFAULT_TTL)
    }
    return this.#hasRoom()
  }

  /** Into memory that is used again as soon as libuv holds nothing. */
  #copy(data: Uint8Array): Buffer {
    const { length } = data
    // The kernel refuses it anyway.
    if (length > SEND_MEMORY) return Buffer.from(data)
    if (this.#used + length > this.#memory.length) {
      if (this.#memory.length === 0 || this.#queued() > 0) this.#memory = Buffer.allocUnsafeSlow(SEND_MEMORY)
      this.#used = 0
    }
    const from = this.#used
    this.#used = from + length
    this.#memory.set(data, from)
    return this.#memory.subarray(from, this.#used)
  }

  /** Whether a datagram to this remote was reported on lately: the first is, and then one in so many. */
  #wasChecked(remote: SocketAddress): boolean {
    const checked = (this.#checked ??= new Set())
    // All of them anew, when each has had its share.
    if (++this.#sinceChecked > REPORT_EVERY * checked.size || checked.size >= MAX_CHECKED) {
      checked.clear()
      this.#sinceChecked = 0
    }
    if (checked.has(remote)) return true
    checked.add(remote)
    return false
  }

  #sendChecked(socket: Socket, transmit: Transmit): void {
    const { remote } = transmit.path
    socket.send(this.#copy(transmit.data), remote.port, remote.address, (error) => {
      if (error !== null) this.#handler.onSendError(transmit, error)
    })
  }

  // libuv queues without bound what the kernel does not take. It has no callback for "queue empty", and the kernel
  // drains at line speed: look again each millisecond.
  #hasRoom(): boolean {
    this.#sinceCheck = 0
    if (this.#pressed !== undefined) return false
    if (this.#queued() === 0) return true
    this.#pressed = setTimeout(() => {
      this.#pressed = undefined
      if (this.#hasRoom()) this.#handler.onWritable()
    }, 1)
    return false
  }

  #queued(): number {
    return (this.#four?.getSendQueueCount() ?? 0) + (this.#six?.getSendQueueCount() ?? 0)
  }

  #sockets(): Socket[] {
    return [this.#four, this.#six].filter((socket) => socket !== undefined)
  }
}

/** Of a socket that has sent nothing: one for all, as thousands of relayed ports are idle. */
const NO_MEMORY = Buffer.alloc(0)
const ignore = (): void => undefined
const nobody: DriverHandler = {
  onDatagram: ignore,
  onBatchEnd: ignore,
  onWritable: ignore,
  onSendError: ignore,
  onReceiveError: ignore,
}

/** Datagrams in one turn of the loop from which on the next turn's answers wait for its end. */
const BULK = 4
/** While messages come alone only every so many are a turn counted: the immediate costs as much as a third of a send. */
const COUNT_EVERY = 8
/** Of the datagrams to one remote one in so many reports whether it could be sent. */
const REPORT_EVERY = 64
/** Remotes that are remembered for that. */
const MAX_CHECKED = 256
/** So many datagrams at most wait in libuv beyond what the kernel takes. */
const CHECK_EVERY = 8
/** Node has SO_REUSEPORT since 22.12. */
const CAN_SHARE_PORTS = canSharePorts()
/** Room for two of the longest datagrams, or for 89 that fill an Ethernet packet. */
const SEND_MEMORY = 128 * 1024
/** What Linux, macOS and Windows (since 2000: 128, harmlessly lower) give a socket; node cannot read it back. */
const DEFAULT_TTL = 64

function bindSocket(at: SocketAddress, options: DriverOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (options.reusePort && !CAN_SHARE_PORTS) {
      reject(sharedPortError())
      return
    }
    const six = familyOf(at.address) === 6
    const socket = createSocket({
      ...(options.reusePort && { reusePort: true }),
      type: six ? 'udp6' : 'udp4',
      ipv6Only: six,
      lookup: literal,
    })
    socket.once('error', (error) => {
      socket.close()
      reject(bindError(at, error))
    })
    socket.bind({ address: at.address, port: at.port, exclusive: true }, () => {
      socket.removeAllListeners('error')
      try {
        socket.setRecvBufferSize(options.recvBufferSize)
      } catch {
        // macOS refuses more than its ceiling instead of cutting: the default stays, and is read back by whoever asks.
      }
      resolve(socket)
    })
  })
}

// Only literals come here. Answering at once keeps every send inside its call; node's own lookup would delay even a
// literal by a tick. One for all sockets: it would hold on to what made each.
const literal: SocketOptions['lookup'] = (hostname, _options, callback) => {
  callback(null, hostname, familyOf(hostname))
}

function canSharePorts(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 22 || (major === 22 && minor >= 12)
}

// Linux doubles the number to account for its bookkeeping and reports the doubled one (socket(7), SO_RCVBUF).
function grantedRecvBuffer(socket: Socket): number {
  const reported = socket.getRecvBufferSize()
  return process.platform === 'linux' ? reported / 2 : reported
}
