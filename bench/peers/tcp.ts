import { connect, createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import type { Peer } from '../peer.ts'

/** The kernel's TCP by node:net: the yardstick. The runner sets its congestion control, see `tcpOf`. */
export const peer: Peer = tcp('TCP (node:net, cubic)')

export function tcp(name: string): Peer {
  return {
    name,

    async listen(host, onStream) {
      const server = createServer({ noDelay: true }, onStream)
      server.listen(0, host)
      await once(server, 'listening')
      return { host, port: (server.address() as AddressInfo).port }
    },

    dialer(host) {
      return Promise.resolve(async (to) => {
        const socket = connect({ ...to, localAddress: host, noDelay: true })
        await once(socket, 'connect')
        return socket
      })
    },
  }
}
