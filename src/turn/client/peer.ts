import type { SocketAddress } from '../../core/address.ts'
import { formatAddress } from '../../core/address.ts'
import type { Carrier, Micros, Path } from '../../core/machine.ts'
import type { Permission } from './permissions.ts'

/**
 * A peer behind an allocation, which is also the path to it: who sends on it needs no look-up.
 */
export class Peer implements Path {
  readonly remote: SocketAddress
  readonly via: Carrier
  readonly key: string
  permission: Permission
  /** Taken out of the table: a sender who still holds it is given the one that took its place. */
  evicted = false
  /** When we last sent to it. */
  usedAt: Micros
  /** Send indications, up to the number from which a channel pays. */
  sent = 0

  /** 0x4000–0x4FFF, this peer's for as long as the server may remember it; 0: none. */
  channel = 0
  /** Data goes by ChannelData. */
  bound = false
  binding = false
  /** When the channel's permission runs out at the server unless bound again: data must not go by it any more. */
  boundUntil: Micros = -Infinity
  refreshAt: Micros = Infinity
  /** After a refusal: not before this. */
  bindAfter: Micros = -Infinity
  /** When its number may become another's (RFC 8656 §12). */
  freeAt: Micros = -Infinity

  constructor(remote: SocketAddress, via: Carrier, permission: Permission, now: Micros) {
    this.remote = remote
    this.via = via
    this.key = formatAddress(remote)
    this.permission = permission
    this.usedAt = now
  }
}
