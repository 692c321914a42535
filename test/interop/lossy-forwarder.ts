import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'

/** A UDP forwarder in front of one server that loses datagrams of both directions, in an order that the seed decides. */
export class LossyForwarder {
  forwarded = 0
  lost = 0
  readonly #front: Socket
  /** By the client's port. Bounded by the test. */
  readonly #backs = new Map<number, Socket>()
  readonly #loss: number
  #state: number

  static async open(target: number, loss: number, seed: number): Promise<LossyForwarder> {
    const front = createSocket('udp4')
    front.bind(0, '127.0.0.1')
    await once(front, 'listening')
    front.setRecvBufferSize(4 << 20)
    return new LossyForwarder(front, target, loss, seed)
  }

  private constructor(front: Socket, target: number, loss: number, seed: number) {
    this.#front = front
    this.#loss = loss
    this.#state = seed
    front.on('message', (bytes, from) => {
      if (this.#passes()) this.#back(from.port).send(bytes, target, '127.0.0.1')
    })
  }

  get port(): number {
    return this.#front.address().port
  }

  close(): void {
    this.#front.close()
    for (const back of this.#backs.values()) back.close()
  }

  #back(port: number): Socket {
    let back = this.#backs.get(port)
    if (back === undefined) {
      back = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
      back.bind(0, '127.0.0.1')
      back.on('message', (bytes) => {
        if (this.#passes()) this.#front.send(bytes, port, '127.0.0.1')
      })
      this.#backs.set(port, back)
    }
    return back
  }

  // mulberry32
  #passes(): boolean {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    const passes = ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 >= this.#loss
    if (passes) this.forwarded++
    else this.lost++
    return passes
  }
}
