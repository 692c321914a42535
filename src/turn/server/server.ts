import type { SocketAddress } from '../../core/address.ts'
import type { Deadline, Machine, Micros, Path, Transmit } from '../../core/machine.ts'
import { StunView } from '../../stun/codec/view.ts'
import { channelOf, mayBeChannelData } from '../protocol/channel-data.ts'
import type { Allocation } from './allocation.ts'
import type { ClientLink, RelayEvent } from './io.ts'
import type { Relay } from './relay.ts'

export interface TurnServerPlace {
  /**
   * Which channel numbers clients may bind: all of RFC 8656's; `no-utp` on a port that speaks uTP too, where no number
   * may look like a SYN; `old` for clients of RFC 5766, on a port of its own only. Default `no-utp`.
   */
  readonly channels?: ClientLink['channels']
  /** Sends at once, past {@link TurnServer.pollTransmit}; false when there is no room, and then it waits. */
  readonly forward?: (transmit: Transmit) => boolean
  /** Everything that came in has been relayed: hand it to the kernel. */
  readonly flush?: () => void
}

/**
 * The relay's machine on one UDP port, which may be shared. It owns TURN's requests and Send indications, and ChannelData
 * of exactly those 5-tuples that have bound the channel: anything else that looks like ChannelData is not its own.
 */
export class TurnServer implements Machine<RelayEvent> {
  readonly #relay: Relay
  readonly #channels: ClientLink['channels']
  readonly #send: (transmit: Transmit) => void
  readonly #flush: (() => void) | undefined
  readonly #view = new StunView()
  /** Clients with an allocation, by address and port. Bounded by the relay's limit of allocations, twice while they move. */
  readonly #links = new Map<string, Map<number, UdpLink>>()
  // Taken after each datagram, or dropped beyond MAX_WAITING.
  readonly #transmits: Transmit[] = []
  #lastPath: Path | undefined
  #lastLink: UdpLink | undefined

  constructor(relay: Relay, place: TurnServerPlace = {}) {
    this.#relay = relay
    this.#channels = place.channels ?? 'no-utp'
    this.#flush = place.flush
    const { forward } = place
    this.#send = (transmit) => {
      if (forward?.(transmit) === true) return
      if (this.#transmits.length < MAX_WAITING)
        this.#transmits.push({ ...transmit, data: transmit.data.slice() })
    }
  }

  handleDatagram(now: Micros, path: Path, bytes: Uint8Array): boolean {
    // Who comes through a relay could use this one too: a loop in the making.
    if (path.via !== undefined) return false
    if (mayBeChannelData(bytes)) {
      const link = this.#linkOf(path)
      const number = channelOf(bytes)
      if (link?.allocation?.ownsChannel(number) !== true) return false
      link.allocation.handleChannelData(now, link, number, bytes)
      return true
    }
    const view = this.#view
    if (!view.open(bytes)) return false
    const known = this.#linkOf(path)
    const link = known ?? new UdpLink(path, this.#channels, this.#send)
    if (!this.#relay.handleMessage(now, link, view)) return false
    if (known === undefined && (link.allocation !== undefined || link.opening)) this.#keep(link)
    else if (known !== undefined && known.allocation === undefined && !known.opening) this.#drop(known)
    return true
  }

  handleTimeout(now: Micros): void {
    this.#relay.handleTimeout(now)
  }

  pollTransmit(): Transmit | undefined {
    const next = this.#transmits.shift()
    if (next === undefined) this.#flush?.()
    return next
  }

  pollEvent(): RelayEvent | undefined {
    return this.#relay.pollEvent()
  }

  pollTimeout(): Deadline | undefined {
    return this.#relay.pollTimeout()
  }

  #linkOf(path: Path): UdpLink | undefined {
    if (path === this.#lastPath) return this.#lastLink
    const { address, port } = path.remote
    const link = this.#links.get(address)?.get(port)
    this.#lastPath = path
    this.#lastLink = link
    return link
  }

  #keep(link: UdpLink): void {
    const { address, port } = link.remote
    const ports = this.#links.get(address)
    if (ports === undefined) this.#links.set(address, new Map([[port, link]]))
    else ports.set(port, link)
    link.onReleased = () => {
      this.#drop(link)
    }
    this.#lastPath = undefined
  }

  #drop(link: UdpLink): void {
    const { address, port } = link.remote
    const ports = this.#links.get(address)
    if (ports?.get(port) !== link) return
    ports.delete(port)
    if (ports.size === 0) this.#links.delete(address)
    this.#lastPath = undefined
  }
}

class UdpLink implements ClientLink {
  readonly kind = 'udp'
  readonly channels: ClientLink['channels']
  allocation: Allocation | undefined = undefined
  opening = false
  onReleased: (() => void) | undefined
  readonly #path: Path
  readonly #send: (transmit: Transmit) => void

  constructor(path: Path, channels: ClientLink['channels'], send: (transmit: Transmit) => void) {
    this.#path = path
    this.channels = channels
    this.#send = send
  }

  get remote(): SocketAddress {
    return this.#path.remote
  }

  send(data: Uint8Array): void {
    this.#send({ path: this.#path, data })
  }

  released(): void {
    this.onReleased?.()
  }
}

const MAX_WAITING = 4_096
