import type { SocketAddress } from '../../core/address.ts'
import type { Rng } from '../../core/ports.ts'
import { StunBuilder } from '../../stun/codec/builder.ts'
import { Attribute, MessageClass, Method } from '../../stun/codec/registry.ts'
import { streamedChannelDataLength, writeChannelData } from '../protocol/channel-data.ts'
import type { ClientLink } from './io.ts'
import { SendBuffer } from './send-buffer.ts'

/** What the relay sends to clients of itself: data of peers, and news of them. */
export class ToClients {
  readonly buffer = new SendBuffer()
  readonly #rng: Rng
  readonly #builder = new StunBuilder()
  readonly #transactionId = new Uint8Array(12)

  constructor(rng: Rng) {
    this.#rng = rng
  }

  channelData(link: ClientLink, channel: number, payload: Uint8Array): void {
    const stream = link.kind === 'stream'
    const data = this.buffer.take(stream ? streamedChannelDataLength(payload.length) : 4 + payload.length)
    writeChannelData(data, channel, payload, stream)
    link.send(data)
  }

  dataIndication(link: ClientLink, peer: SocketAddress, payload: Uint8Array): void {
    this.#send(
      link,
      this.#start(Method.Data).xorAddress(Attribute.XorPeerAddress, peer).bytes(Attribute.Data, payload),
    )
  }

  /** RFC 8656 §18.13: type, code, and the MTU of "fragmentation needed" or "packet too big". */
  icmpIndication(link: ClientLink, peer: SocketAddress, type: number, code: number, data: number): void {
    const value = Buffer.alloc(8)
    value[2] = type
    value[3] = code
    value.writeUInt32BE(data, 4)
    this.#send(
      link,
      this.#start(Method.Data).xorAddress(Attribute.XorPeerAddress, peer).bytes(Attribute.Icmp, value),
    )
  }

  /** RFC 6062 §5.3. */
  connectionAttempt(link: ClientLink, peer: SocketAddress, id: number): void {
    this.#send(
      link,
      this.#start(Method.ConnectionAttempt)
        .uint32(Attribute.ConnectionId, id)
        .xorAddress(Attribute.XorPeerAddress, peer),
    )
  }

  #start(method: number): StunBuilder {
    this.#rng.fill(this.#transactionId)
    return this.#builder.start(method, MessageClass.Indication, this.#transactionId)
  }

  #send(link: ClientLink, message: StunBuilder): void {
    const view = message.view()
    const data = this.buffer.take(view.length)
    data.set(view)
    link.send(data)
  }
}
