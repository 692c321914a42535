import type { Duplex } from 'node:stream'

export interface At {
  readonly host: string
  readonly port: number
}

/**
 * A transport under measurement: one file in peers/ that exports one, and its name in `peerNames`. Both roles run in
 * processes of their own; each uses one socket for all its connections.
 */
export interface Peer {
  /** Shown in the table. */
  readonly name: string
  /** Listens on `host`, any port, and hands over every stream that comes. */
  listen(host: string, onStream: (stream: Duplex) => void): Promise<At>
  /** Prepares to connect from `host`. The function it gives connects once per call. */
  dialer(host: string): Promise<(to: At) => Promise<Duplex>>
}

export const peerNames = [
  'natwork',
  'natwork-dgram',
  'utp-native',
  'utp-native-4mb',
  'udx-native',
  'tcp',
] as const
export type PeerName = (typeof peerNames)[number]

/** Shown beside the others; ratios are taken to the best transport over UDP. */
export const yardstick: PeerName = 'tcp'

export async function loadPeer(name: PeerName): Promise<Peer> {
  const { peer } = (await import(`./peers/${name}.js`)) as { peer: Peer }
  return peer
}
