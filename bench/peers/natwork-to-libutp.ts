import type { Peer } from '../peer.ts'
import { peer as natwork } from './natwork.ts'
import { peer as libutp } from './utp-native-4mb.ts'

/** What libutp's receiver takes from natwork, to be compared with what it takes from its own kind. */
export const peer: Peer = {
  name: 'natwork to utp-native (4 MiB buffers)',
  listen: (host, onStream) => libutp.listen(host, onStream),
  dialer: (host) => natwork.dialer(host),
}
