import { UtpServer } from '../../src/utp/driver/index.ts'
import type { Peer } from '../peer.ts'

/** natwork's uTP as its users get it. */
export const peer: Peer = {
  name: 'natwork',

  async listen(host, onStream) {
    const server = new UtpServer({ host, port: 0, onConnection: onStream })
    await server.start()
    return { host, port: server.address.port }
  },

  async dialer(host) {
    const server = new UtpServer({ host, port: 0 })
    await server.start()
    return (to) => server.connect({ address: to.host, port: to.port })
  },
}
