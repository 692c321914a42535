import type { Duplex } from 'node:stream'

export interface At {
  readonly host: string
  readonly port: number
  /** The node to reach there, where transports have such. */
  readonly id?: string
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
  'natwork-cubic',
  'natwork-ledbat',
  'natwork-dgram',
  'natwork-dgram-cubic',
  'natwork-dgram-ledbat',
  'natwork-pipe',
  'natwork-to-libutp',
  'utp-native',
  'utp-native-4mb',
  'udx-native',
  'udx-secret',
  'quic',
  'tcp',
  'tcp-bbr',
] as const
export type PeerName = (typeof peerNames)[number]

/** Ours are compared with the best of the others. */
export function isOurs(name: PeerName): boolean {
  return name.startsWith('natwork')
}

/** TCP is shown beside the others; ratios are taken to the best transport over UDP. Which congestion control it has. */
export function tcpOf(name: PeerName): 'cubic' | 'bbr' | undefined {
  if (name === 'tcp') return 'cubic'
  return name === 'tcp-bbr' ? 'bbr' : undefined
}

export async function loadPeer(name: PeerName): Promise<Peer> {
  const { peer } = (await import(`./peers/${name}.js`)) as { peer: Peer }
  return peer
}
