import { setTimeout as sleep } from 'node:timers/promises'
import { formatAddress } from '../core/index.ts'
import { explain } from '../ice/index.ts'
import type { Network, NodeConnection } from '../network/index.ts'
import { blockedSentence } from './blocked.ts'
import { packError, type WireError } from './control/protocol.ts'
import type { Goal, Peer } from './goal.ts'
import type { HostPort } from './names.ts'
import type { Moved } from './progress.ts'
import type { Pong, Why } from './reach.ts'

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
  const pinger = await network.ping(peer.id, { ...peer, signal })
  try {
    const connect = performance.now() - start
    const roundTrip = await pinger.roundTrip(signal)
    const remote = pinger.remote === undefined ? '' : formatAddress(pinger.remote)
    const path = connectionTo(network, peer)?.path?.kind ?? 'direct'
    return { id: peer.id, remote, path, connect, roundTrip }
  } finally {
    pinger.close()
  }
}

/** Milliseconds for better paths to be found, or to fail, before the question why is answered; and between looks. */
const SETTLE = 3_000
const LOOK = 100

/** Connects to a node, and says why it goes the way it goes. A node that cannot be reached is explained too. */
export async function explainPeer(network: Network, peer: Peer, signal: AbortSignal): Promise<Why> {
  let failure: Error | undefined
  const steps: object[] = []
  const onTrace = (id: string, entry: object): void => {
    if (id === peer.id) steps.push(entry)
  }
  network.on('trace', onTrace)
  try {
    const pinger = await network.ping(peer.id, { ...peer, signal })
    const { packets = 0, perSecond = 1 } = peer.exhaustive ?? {}
    const until = performance.now() + SETTLE + (packets / perSecond) * 1_000
    while (connectionTo(network, peer)?.path?.kind === 'relayed' && performance.now() < until) {
      await sleep(LOOK, undefined, { signal })
    }
    pinger.close()
  } catch (error) {
    signal.throwIfAborted()
    failure = error as Error
  } finally {
    network.off('trace', onTrace)
  }
  const connection = connectionTo(network, peer)
  const { pairs = [], trace = [], history = [], path } = connection ?? {}
  const found = pairs.length > 0 ? explain(trace, pairs) : undefined
  return {
    id: peer.id,
    outcome: path?.kind ?? 'none',
    sentence: failure?.message ?? blockedHere(network, path?.kind) ?? found?.sentence ?? KNOWN_ADDRESS,
    pairs: (found?.pairs ?? []).map(({ local, remote, rtt, words }) => ({
      local: `${local.type} ${local.address === undefined ? '' : formatAddress(local.address)}`.trimEnd(),
      remote: `${remote.type} ${formatAddress(remote.address)}`,
      rtt: rtt === undefined ? undefined : rtt / 1_000,
      words,
    })),
    history: history.map(({ kind, remote, since }) => ({
      path: kind,
      remote: formatAddress(remote),
      since: since.toISOString(),
    })),
    trace: trace.length > 0 ? trace : steps,
  }
}

/** More than what the checks alone tell: they only see that nothing answers. */
function blockedHere(network: Network, path: 'direct' | 'relayed' | undefined): string | undefined {
  if (path !== 'relayed' || !network.udpBlocked) return undefined
  return `${blockedSentence(network.helpers)}; a direct path needs outgoing UDP to be allowed.`
}

const KNOWN_ADDRESS = 'the node answers at an address that is known, so that nothing had to be searched for.'

function connectionTo(network: Network, { id }: Peer): NodeConnection | undefined {
  return network.connections.find(({ peer }) => peer === id)
}
