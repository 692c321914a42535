import { SECOND, type Micros, type Path, type Transmit } from '../core/machine.ts'
import type { Rng } from '../core/ports.ts'
import type { UtpConnection } from './connection.ts'
import { HalfOpenTable, type HalfOpen } from './half-open.ts'
import {
  CAPABILITIES_SIZE,
  EXTENSION_BITS,
  HEADER_SIZE,
  ST_DATA,
  ST_STATE,
  stamp,
  writeCapabilities,
  writeHeader,
  type Packet,
} from './packet.ts'
import { REORDER_LIMIT } from './receiver.ts'
import { sequenceDistance } from './sequence.ts'

/** How far the first packet of a new connection may lie beyond the SYN: those before it may be late. */
const FIRST_FLIGHT = 1_024

/** SYNs a second whose data may be taken; that of others comes again when they have shown who they are. */
const MAX_WITH_DATA = 256
/**
 * Connections at a time whose SYN's data was taken and whose initiator has not been heard: who invents the address of one that
 * is verified keeps no more than these busy.
 */
const MAX_UNPROVED = 128

/** The machine, as far as its acceptor needs it. */
export interface AcceptorHost {
  readonly rng: Rng
  /** See `UtpMachineOptions.isVerified`. */
  readonly isVerified: (path: Path) => boolean
  /** See `UtpMachineOptions.isBelieved`. */
  readonly isBelieved: (path: Path) => boolean
  /** Whether there may be one connection more. */
  hasRoom(): boolean
  /** What a new connection can receive at first, in bytes. */
  firstWindow(): number
  find(path: Path, receiveId: number): UtpConnection | undefined
  /** On whichever path it is. */
  findAnywhere(receiveId: number, fits: (connection: UtpConnection) => boolean): UtpConnection | undefined
  /** A connection begins, and the application hears of it. */
  accept(now: Micros, path: Path, entry: HalfOpen): UtpConnection
  move(now: Micros, connection: UtpConnection, path: Path): void
  answer(transmit: Transmit): void
  /** In answer to the current packet. */
  refuse(now: Micros, path: Path): void
}

/**
 * The acceptor's side of the handshake: answers SYNs, and says when their initiators have shown that they get the answers.
 * Until then the address in a SYN may be invented: its owner gets one small packet, and it costs us some bytes of memory, no
 * more. The one exception are paths that are known to be true: what a SYN brings along is taken there at once.
 */
export class Acceptor {
  readonly #host: AcceptorHost
  readonly #halfOpen: HalfOpenTable
  /** {@link MAX_WITH_DATA} */
  #withData = 0
  #withDataSince: Micros = 0
  /** {@link MAX_UNPROVED} */
  #unproved = 0

  constructor(host: AcceptorHost, maxHalfOpen: number) {
    this.#host = host
    this.#halfOpen = new HalfOpenTable(maxHalfOpen)
  }

  /** Handshakes in waiting. */
  get size(): number {
    return this.#halfOpen.size
  }

  handleSyn(now: Micros, path: Path, packet: Packet, bytes: Uint8Array): void {
    const { connectionId } = packet
    if (packet.part > 0) {
      this.#handleRest(now, path, packet, bytes)
      return
    }
    let entry = this.#halfOpen.find(now, path, connectionId)
    // The same SYN that came by other paths.
    const others =
      entry === undefined
        ? this.#halfOpen.withId(now, connectionId).filter((one) => one.sequence === packet.sequence)
        : []
    const taken = others.find((one) => one.withData)
    if (taken !== undefined) {
      // One that was on its way for longer moves nothing back.
      if (((packet.timestamp - taken.timestamp) | 0) <= 0) return
      entry = this.#broughtAlong(now, path, packet, taken)
    }
    // A repeated SYN of a connection that is already known: its initiator has heard us, or will from the connection. But
    // one that began with the SYN's data waits for the answer to the SYN.
    const isKnown = this.#host.find(path, receiveIdOf(connectionId)) !== undefined
    if (entry?.sequence !== packet.sequence) {
      if (!isKnown) this.#begin(now, path, packet, bytes, others.length > 0)
    } else if (isKnown === entry.withData) this.#answer(now, entry, packet)
  }

  /**
   * The handshake that this packet, which is for no connection, shows to be complete: its sender got our answer, as its ack
   * is one less than the random number we chose (libutp and we count the answer as carrying the number of our first DATA).
   * The proof may come by another path than the SYN: the initiator has found a better one meanwhile. It waits no longer.
   *
   * An initiator that says nothing until it is spoken to is not kept waiting: ours sends a STATE at once (see
   * `UtpConnection`), and libutp's acceptor cannot speak first either (it may not write before the first DATA), so no
   * program written for libutp relies on it.
   */
  take(now: Micros, path: Path, packet: Packet): HalfOpen | undefined {
    const id = synIdOf(packet.connectionId)
    const here = this.#halfOpen.find(now, path, id)
    // Each answer has a number of its own: which one the initiator took is not the path's to say.
    const isMeant = (one: HalfOpen): boolean => !one.withData && proves(packet, one)
    const entry = here !== undefined && isMeant(here) ? here : this.#halfOpen.withId(now, id).find(isMeant)
    if (entry !== undefined) this.#halfOpen.remove(entry)
    return entry
  }

  /** Whether a handshake on that path waits for its proof. */
  isWaiting(now: Micros, path: Path, { connectionId }: Packet): boolean {
    return this.#halfOpen.find(now, path, synIdOf(connectionId))?.withData === false
  }

  /** The initiator of a connection that began with the SYN's data has our answer, or there is nobody to answer. */
  answered(connection: UtpConnection): void {
    if (connection.beganWith === undefined) return
    this.#halfOpen.remove(connection.beganWith)
    connection.beganWith = undefined
    this.#unproved--
  }

  #begin(now: Micros, path: Path, packet: Packet, bytes: Uint8Array, isElsewhere: boolean): void {
    const host = this.#host
    if (!host.hasRoom()) {
      host.refuse(now, path)
      return
    }
    const { connectionId, sequence, reorderLimit, timestamp } = packet
    const withData =
      packet.payloadAt < bytes.length &&
      reorderLimit > 0 &&
      // The same SYN was answered without elsewhere; or it is late, and a connection began with it.
      !isElsewhere &&
      host.findAnywhere(receiveIdOf(connectionId), () => true) === undefined &&
      this.#takesData(now, path)
    const ours = host.rng.uint32() & 0xffff
    const entry = { path, connectionId, sequence, ours, reorderLimit, since: now, withData, timestamp }
    this.#halfOpen.add(entry)
    this.#answer(now, entry, packet)
    if (withData) this.#openWithData(now, entry, packet, bytes)
  }

  /** Such a connection is there before its initiator has shown that it gets our answers, and to look costs time: not too often. */
  #takesData(now: Micros, path: Path): boolean {
    if (now - this.#withDataSince >= SECOND) {
      this.#withDataSince = now
      this.#withData = 0
    }
    if (this.#unproved >= MAX_UNPROVED || this.#withData++ >= MAX_WITH_DATA) return false
    return this.#host.isVerified(path) || this.#host.isBelieved(path)
  }

  /** The initiator knows nothing of us yet: that our answer reached it, its first packet will show. */
  #openWithData(now: Micros, entry: HalfOpen, packet: Packet, bytes: Uint8Array): void {
    const connection = this.#host.accept(now, entry.path, entry)
    connection.beganWith = entry
    this.#unproved++
    takeData(now, connection, entry, packet, bytes)
  }

  /** What did not fit in the SYN: nothing without the connection that began with it, whose initiator sends it again as any DATA. */
  #handleRest(now: Micros, path: Path, packet: Packet, bytes: Uint8Array): void {
    const connection = this.#host.find(path, receiveIdOf(packet.connectionId))
    const entry = connection?.beganWith
    if (connection === undefined || entry?.sequence !== packet.sequence) return
    takeData(now, connection, entry, packet, bytes)
  }

  /**
   * The connection that began with this SYN on another path goes along with its initiator. That the SYN is the same, 32
   * random bits say, which only those know who are on the verified path.
   */
  #broughtAlong(now: Micros, path: Path, { timestamp }: Packet, entry: HalfOpen): HalfOpen | undefined {
    const id = receiveIdOf(entry.connectionId)
    const connection = this.#host.findAnywhere(id, (one) => one.beganWith === entry)
    if (connection === undefined) return undefined
    const here = { ...entry, path, timestamp }
    this.#halfOpen.remove(entry)
    this.#halfOpen.add(here)
    connection.beganWith = here
    this.#host.move(now, connection, path)
    return here
  }

  /** STATE that acknowledges the SYN. It tells our capabilities only to peers that told theirs, and so is never larger. */
  #answer(now: Micros, entry: HalfOpen, { timestamp }: Packet): void {
    const capable = entry.reorderLimit > 0
    const data = new Uint8Array(HEADER_SIZE + (capable ? CAPABILITIES_SIZE : 0))
    writeHeader(data, ST_STATE, capable ? EXTENSION_BITS : 0, entry.connectionId, entry.ours)
    const ack = (entry.sequence + Number(entry.withData)) & 0xffff
    if (capable) writeCapabilities(data, HEADER_SIZE, REORDER_LIMIT)
    const difference = timestamp === 0 ? 0 : (now - timestamp) >>> 0
    stamp(data, now, difference, this.#host.firstWindow(), ack)
    this.#host.answer({ path: entry.path, data })
  }
}

/** The bytes of a SYN's datagram, as the packet that they would have been: it shows nothing of what its sender has got. */
function takeData(
  now: Micros,
  connection: UtpConnection,
  entry: HalfOpen,
  packet: Packet,
  bytes: Uint8Array,
): void {
  packet.type = ST_DATA
  packet.sequence = (entry.sequence + 1 + packet.part) & 0xffff
  packet.ack = (entry.ours - 1) & 0xffff
  connection.handlePacket(now, entry.path, packet, bytes)
}

/** BEP 29: the SYN alone has the id that its initiator receives with; we receive with the next one. */
function receiveIdOf(synId: number): number {
  return (synId + 1) & 0xffff
}

function synIdOf(receiveId: number): number {
  return (receiveId - 1) & 0xffff
}

/** Whether the packet shows that its sender got our answer to that SYN. */
function proves({ ack, sequence }: Packet, entry: HalfOpen): boolean {
  const beyond = sequenceDistance(sequence, entry.sequence)
  return ack === ((entry.ours - 1) & 0xffff) && beyond >= 1 && beyond <= FIRST_FLIGHT
}
