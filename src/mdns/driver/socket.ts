import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { SocketAddress } from '../../core/address.ts'
import { MDNS_GROUP, MDNS_PORT } from '../message.ts'
import type { LocalLink } from './links.ts'

/**
 * The port of multicast DNS on one link, shared with whoever else speaks it on this machine.
 *
 * @throws the system's error, and then nothing is open.
 */
export async function openSocket(
  link: LocalLink,
  onDatagram: (from: SocketAddress, bytes: Uint8Array) => void,
  onError: (error: Error) => void,
): Promise<MdnsSocket> {
  const { family, zone } = link
  const socket = createSocket({ type: `udp${family}`, reuseAddr: true, ipv6Only: family === 6 })
  try {
    const group = family === 4 ? MDNS_GROUP[4] : `${MDNS_GROUP[6]}%${zone}`
    // Where the system can, on the group's own address: what is sent to this machine alone is for its other programs.
    socket.bind({ port: MDNS_PORT, ...(process.platform === 'linux' && { address: group }) })
    await once(socket, 'listening')
    socket.addMembership(MDNS_GROUP[family], link.interface)
    socket.setMulticastInterface(link.interface)
    // RFC 6762 §11.
    socket.setMulticastTTL(255)
    socket.setMulticastLoopback(true)
  } catch (error) {
    socket.on('error', () => undefined).close()
    throw error
  }
  socket.on('error', onError)
  socket.on('message', (bytes, { address, port }) => {
    // RFC 6762 §11: others may not speak here.
    if (link.isNear(address)) onDatagram({ address, port }, bytes)
  })
  socket.unref()
  return new MdnsSocket(socket, onError)
}

export class MdnsSocket {
  readonly #socket: Socket
  readonly #onError: (error: Error) => void
  /** What is being sent. */
  #sending: Promise<void> = Promise.resolve()

  constructor(socket: Socket, onError: (error: Error) => void) {
    this.#socket = socket
    this.#onError = onError
  }

  send({ address, port }: SocketAddress, data: Uint8Array): void {
    const sent = new Promise<void>((resolve) => {
      this.#socket.send(data, port, address, (error) => {
        if (error !== null) this.#onError(error)
        resolve()
      })
    })
    this.#sending = this.#sending.then(() => sent)
  }

  /** After what is being sent. */
  async close(): Promise<void> {
    await this.#sending
    this.#socket.close()
    await once(this.#socket, 'close')
  }
}
