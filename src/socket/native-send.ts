import type { SocketAddress } from '../core/address.ts'
import type { Transmit } from '../core/machine.ts'
import { errnoOf, type Addon } from './native-addon.ts'
import { hashAddress } from './paths.ts'

/** A port with something collected. */
export interface Collecting {
  /** Gives it to the kernel: nothing of it stays in the {@link SendMemory}. */
  flush(): void
}

/**
 * Where this thread's batched ports collect what they send, one for all of them: a port that is idle needs none. The
 * datagrams of a port are a chain in it, from which the addon gives the kernel rows without copying.
 */
export class SendMemory {
  /** Of each datagram, by index, until the port that sends it has been flushed; the bytes of them may be others by now. */
  readonly #transmits: Transmit[] = []
  readonly bytes = new Uint8Array(SEND_BYTES + MAX_DATAGRAM)
  /** [failures, {offset, length, slot, ttl, next}…, {index, errno}…] as in native/udp/addon.c. */
  readonly state = new Int32Array(1 + 7 * SEND_DATAGRAMS)
  readonly #addon: Addon
  #count = 0
  #used = 0
  /** Ports with something collected, and those flushed since it was empty. Bounded by the number of datagrams. */
  readonly #collecting: Collecting[] = []
  #flushed = 0

  // Slots of the addon's table of destinations. A slot changes hands only when nothing that is collected goes there.
  readonly #remotes = new Array<SocketAddress | undefined>(REMOTES)
  /** How often the memory had been empty when the slot was last named by a datagram. */
  readonly #namedIn = new Float64Array(REMOTES).fill(-1)
  #emptied = 0
  #lastRemote: SocketAddress | undefined
  #lastSlot = 0

  constructor(addon: Addon) {
    this.#addon = addon
  }

  /** The port has something from now on, until it says {@link flushed}. */
  begin(port: Collecting): void {
    this.#collecting.push(port)
  }

  /** One port less. */
  flushed(): void {
    if (++this.#flushed < this.#collecting.length) return
    while (this.#collecting.length > 0) this.#collecting.pop()
    this.#flushed = 0
    this.#count = 0
    this.#used = 0
    this.#emptied++
  }

  /** Has everything flushed when there is no room for one more datagram of whatever size. Call it before each. */
  makeRoom(): void {
    if (this.#count === SEND_DATAGRAMS || this.#used > SEND_BYTES) this.#flushAll()
  }

  /**
   * Takes a datagram of at most {@link MAX_DATAGRAM} bytes.
   *
   * @returns its index, for the chain of its port.
   */
  put(transmit: Transmit, slot: number): number {
    const { data, ttl = 0 } = transmit
    const state = this.state
    const index = this.#count++
    this.bytes.set(data, this.#used)
    const entry = 1 + index * 5
    state[entry] = this.#used
    state[entry + 1] = data.byteLength
    state[entry + 2] = slot
    state[entry + 3] = ttl
    state[entry + 4] = NONE
    this.#transmits[index] = transmit
    this.#namedIn[slot] = this.#emptied
    this.#used += data.byteLength
    return index
  }

  /** `next` follows `index` in the chain of their port. */
  chain(index: number, next: number): void {
    this.state[1 + index * 5 + 4] = next
  }

  /** What follows in the chain, or {@link NONE}. */
  after(index: number): number {
    return this.state[1 + index * 5 + 4] ?? NONE
  }

  /** A datagram that is still collected, with its bytes as they were given. */
  transmitAt(index: number): Transmit | undefined {
    const transmit = this.#transmits[index]
    const entry = 1 + index * 5
    const from = this.state[entry] ?? 0
    return transmit && { ...transmit, data: this.bytes.subarray(from, from + (this.state[entry + 1] ?? 0)) }
  }

  /** What the last call of the addon's `send` refused: the datagram, and why. */
  failures(): { readonly transmit: Transmit; readonly errno: number }[] {
    const { state } = this
    return Array.from({ length: state[0] ?? 0 }, (_, n) => {
      const at = 1 + 5 * SEND_DATAGRAMS + 2 * n
      return { transmit: this.transmitAt(state[at] ?? 0), errno: state[at + 1] ?? 0 }
    }).flatMap(({ transmit, errno }) => (transmit === undefined ? [] : [{ transmit, errno }]))
  }

  /** The slot of a destination; an errno negated when it can have none. */
  slotOf(remote: SocketAddress): number {
    if (remote === this.#lastRemote) return this.#lastSlot
    const first = hashAddress(remote.address, remote.port) & (REMOTES - 1) & ~1
    let slot = first
    if (!this.#isAt(slot, remote) && !this.#isAt(++slot, remote)) {
      slot = this.#remotes[first] === undefined ? first : first + (remote.port & 1)
      if (this.#namedIn[slot] === this.#emptied) this.#flushAll()
      try {
        this.#addon.setRemote(slot, remote.address, remote.port)
      } catch (error) {
        return -errnoOf(error)
      }
      this.#remotes[slot] = remote
    }
    this.#lastRemote = remote
    this.#lastSlot = slot
    return slot
  }

  /** Again and again: who is told of a failure may send. */
  #flushAll(): void {
    while (this.#collecting.length > 0) for (const port of this.#collecting.slice()) port.flush()
  }

  #isAt(slot: number, remote: SocketAddress): boolean {
    const there = this.#remotes[slot]
    return there === remote || (there?.port === remote.port && there.address === remote.address)
  }
}

/** The end of a chain, as in native/udp/udp.h. */
export const NONE = -1
export const MAX_DATAGRAM = 65_535
const SEND_DATAGRAMS = 1_024
const REMOTES = 4_096
/** Collected before the kernel gets it, whatever the endpoint says: about four full rows of UDP_SEGMENT. */
const SEND_BYTES = 256 * 1024
