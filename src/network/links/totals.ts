import type { UtpStream } from '../../utp/driver/index.ts'

/** What all streams of a link have moved, those that are over included. */
export class Totals {
  #bytesIn = 0
  #bytesOut = 0
  #sent = 0
  #lost = 0

  /** The stream is over: what it moved is kept. */
  add({ connection: { stats } }: UtpStream): void {
    this.#bytesIn += stats.bytesReceived
    this.#bytesOut += stats.bytesSent
    this.#sent += stats.packetsSent
    this.#lost += stats.lostPackets
  }

  /** With those that go on. */
  with(streams: Iterable<UtpStream>): { bytesIn: number; bytesOut: number; loss: number } {
    const sum = new Totals()
    sum.#bytesIn = this.#bytesIn
    sum.#bytesOut = this.#bytesOut
    sum.#sent = this.#sent
    sum.#lost = this.#lost
    for (const stream of streams) sum.add(stream)
    return {
      bytesIn: sum.#bytesIn,
      bytesOut: sum.#bytesOut,
      loss: sum.#sent === 0 ? 0 : sum.#lost / sum.#sent,
    }
  }
}
