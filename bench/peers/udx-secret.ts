import SecretStream from '@hyperswarm/secret-stream'
import type { Peer } from '../peer.ts'
import { peer as udx } from './udx-native.ts'

/** udx with the encryption that its users put on it (Noise, libsodium's secretstream). */
export const peer: Peer = {
  name: 'udx-native, encrypted',

  listen: (host, onStream) => udx.listen(host, (stream) => onStream(new SecretStream(false, stream))),

  async dialer(host) {
    const dial = await udx.dialer(host)
    return async (to) => new SecretStream(true, await dial(to))
  },
}
