import type { Micros } from '../../../core/machine.ts'
import type { TurnClient, TurnEvent } from '../../client/index.ts'

/** How an allocation's client reaches its server: a UDP port shared with others, or a TCP or TLS connection of its own. */
export interface RelayLink {
  readonly transport: 'udp' | 'tcp' | 'tls'
  readonly client: TurnClient
  /** The port was closed under it: nobody will answer. */
  readonly isOver: boolean
  now(): Micros
  /** Drains the client after a mutation from outside. */
  wake(): void
  /** Ends at once: nothing is sent or received any more. */
  end(): Promise<void>
}

/** What a link tells. */
export type OnTurnEvent = (event: TurnEvent) => void
