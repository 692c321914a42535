import { formatAddress } from '../core/index.ts'
import type { Network } from '../network/index.ts'
import { packError, type WireError } from './control/protocol.ts'
import type { Goal, Peer } from './goal.ts'
import type { HostPort } from './names.ts'
import type { Moved } from './progress.ts'
import type { Pong } from './reach.ts'

/** What a forward has to tell while it runs. */
export type ForwardEvent =
  | ({ readonly event: 'moved' } & Moved)
  /** One connection got no pipe, and was reset. */
  | { readonly event: 'failed'; readonly error: WireError }

/** A TCP port of this machine that leads to a service of another node. */
export interface Forwarding {
  readonly address: HostPort
  /** Rejects when it ends by itself. */
  readonly ended: Promise<void>
  close(): Promise<void>
}

/** Milliseconds between two looks at how much has moved. */
const INTERVAL = 250

/** Forwards over `network`, and tells how it goes. */
export async function startForwarding(
  network: Network,
  goal: Goal,
  at: HostPort,
  onEvent: (event: ForwardEvent) => void,
): Promise<Forwarding> {
  const forward = await network.forward({ ...at, to: goal })
  forward.on('failed', (error) => onEvent({ event: 'failed', error: packError(error) }))
  const ended = new Promise<void>((resolve) => forward.once('close', resolve))
  let told = 0
  const timer = setInterval(() => {
    const { sent, received } = forward.moved
    if (sent + received === told) return
    told = sent + received
    onEvent({ event: 'moved', sent, received })
  }, INTERVAL)
  return {
    address: { host: forward.address.address, port: forward.address.port },
    ended,
    async close() {
      clearInterval(timer)
      await forward.close()
    },
  }
}

/** Connects to a node and measures one round trip. */
export async function pingPeer(network: Network, peer: Peer, signal: AbortSignal): Promise<Pong> {
  const start = performance.now()
  const pinger = await network.ping(peer.id, { addresses: peer.addresses, signal })
  try {
    const connect = performance.now() - start
    const roundTrip = await pinger.roundTrip(signal)
    const remote = pinger.remote === undefined ? '' : formatAddress(pinger.remote)
    return { id: peer.id, remote, connect, roundTrip }
  } finally {
    pinger.close()
  }
}
