import type { SocketAddress } from '../../core/address.ts'
import type { IceSession, NatHints } from '../../ice/index.ts'
import type { ControlChannel } from '../control.ts'
import type { EarlyHandshake } from '../early-handshake.ts'
import type { NodeInfo } from '../node-info.ts'
import type { RelayUser } from '../relays.ts'
import type { LinkMessage } from '../signalling/message.ts'
import type { SendOptions, SignalTarget } from '../signalling/signaller.ts'
import type { PeerLink } from './peer-link.ts'

/** What a link needs of the node around it. */
export interface LinkHost {
  readonly now: () => number
  open(link: PeerLink, controlling: boolean, hints: NatHints): IceSession
  /** After every call of a session. */
  wake(): void
  /**
   * Finds what a relay can add, for as long as the link wants it. Resolves when there is no more. With `instead`: at other
   * IP addresses than these, and now.
   */
  gatherMore(
    link: PeerLink,
    target: SignalTarget | undefined,
    user: RelayUser,
    instead?: readonly string[],
  ): Promise<void>
  hints(): NatHints
  /** The outer port of a flow that is opened just now, where the NAT's next ones follow from it. */
  readonly newestPort: () => Promise<number | undefined>
  record(): NodeInfo
  /** The address of this machine from which data to that one goes, where no check has said it. */
  localTowards(remote: SocketAddress): SocketAddress
  send(target: SignalTarget, message: LinkMessage, options: SendOptions): Promise<ControlChannel>
  /** The first words of TLS with the peer; undefined when there are as many as there may be. */
  readonly beginTls: (role: 'client' | 'server') => EarlyHandshake | undefined
  debug(message: string, fields: object): void
  /** The path, or what is known of it, has changed. */
  changed(link: PeerLink): void
}
