import type { SocketAddress } from '../../core/address.ts'
import type { Rng } from '../../core/ports.ts'
import { StunBuilder } from '../../stun/codec/builder.ts'
import { Attribute, MessageClass, Method } from '../../stun/codec/registry.ts'
import { streamedChannelDataLength, writeChannelData } from '../protocol/channel-data.ts'
import { ICMP_LENGTH, writeIcmp, type IcmpError } from '../protocol/icmp.ts'
import type { ClientLink } from './io.ts'

/** What the relay sends to clients of itself: data of peers, and news of them. */
export class ToClients {
  readonly #rng: Rng
  readonly #builder = new StunBuilder()
  readonly #transactionId = new Uint8Array(12)
  /** Every message is written here: its link has copied it, or sent it, when it returns. */
  readonly #memory = new Uint8Array(streamedChannelDataLength(0xffff))
  #message = this.#memory

  constructor(rng: Rng) {
    this.#rng = rng
  }

  channelData(link: ClientLink, channel: number, payload: Uint8Array): void {
    const stream = link.kind === 'stream'
    const length = writeChannelData(this.#memory, channel, payload, stream)
    // Most are as long as the one before: no view of its own for each.
    if (this.#message.length !== length) this.#message = this.#memory.subarray(0, length)
    link.send(this.#message)
  }

  dataIndication(link: ClientLink, peer: SocketAddress, payload: Uint8Array): void {
    this.#send(
      link,
      this.#start(Method.Data).xorAddress(Attribute.XorPeerAddress, peer).bytes(Attribute.Data, payload),
    )
  }

  icmpIndication(link: ClientLink, peer: SocketAddress, error: IcmpError): void {
    const value = new Uint8Array(ICMP_LENGTH)
    writeIcmp(error, value)
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
    link.send(message.view())
  }
}
