import utp, { type Connection, type Utp } from 'utp-native'
import { once } from 'node:events'
import type { Peer } from '../peer.ts'

/** libutp's C code as its users get it: the buffers it sets by itself. */
export const peer: Peer = libutp('utp-native (default buffers)', () => undefined)

/** libutp by utp-native, with `tune` applied to each socket once it is bound. */
export function libutp(name: string, tune: (socket: Utp) => void): Peer {
  return {
    name,

    async listen(host, onStream) {
      const server = utp.createServer({ allowHalfOpen: true }, onStream)
      server.listen(0, host)
      await once(server, 'listening')
      tune(server)
      return { host, port: server.address().port }
    },

    async dialer(host) {
      const socket = utp({ allowHalfOpen: true })
      socket.bind(0, host)
      await once(socket, 'listening')
      tune(socket)
      return async (to) => {
        const connection: Connection = socket.connect(to.port, to.host)
        await once(connection, 'connect')
        return connection
      }
    },
  }
}
