import { isIP } from 'node:net'
import type { Micros } from '../../../core/machine.ts'
import { MAX_PERMISSIONS, type TurnClient, type TurnEvent } from '../../client/index.ts'
import { TurnUsageError } from '../../errors.ts'

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

/** @throws {TurnUsageError} `ERR_NATWORK_TURN_PEER`; `ERR_NATWORK_TURN_BUSY` when there is no room for another. */
export function permitThrough(link: RelayLink, addresses: readonly string[]): void {
  for (const address of addresses) {
    requireAddress(address)
    if (link.client.permit(link.now(), address)) continue
    throw new TurnUsageError(
      'ERR_NATWORK_TURN_BUSY',
      `one allocation takes ${MAX_PERMISSIONS} peer addresses: forbid some before you permit ${address}`,
    )
  }
  link.wake()
}

export function forbidThrough(link: RelayLink, addresses: readonly string[]): void {
  for (const address of addresses) link.client.forbid(address)
}

/** Gives the allocation back, and ends the link: `answered` is for who hears the server's answer. */
export async function giveBack(link: RelayLink, answered: (resolve: () => void) => void): Promise<void> {
  await new Promise<void>((resolve) => {
    answered(resolve)
    if (link.isOver) resolve()
    link.client.close(link.now())
    link.wake()
  })
  await link.end()
}

/** @throws {TurnUsageError} `ERR_NATWORK_TURN_PEER` */
export function requireAddress(address: string): void {
  if (isIP(address) !== 0) return
  throw new TurnUsageError(
    'ERR_NATWORK_TURN_PEER',
    `"${address}" is not an IP address: a relay needs one, resolve the name first`,
  )
}
