import { setDefaultDriver, type DriverChoice } from '../../src/socket/index.ts'
import { UtpServer } from '../../src/utp/driver/index.ts'
import type { CongestionName } from '../../src/utp/index.ts'
import type { Peer } from '../peer.ts'

/** natwork's uTP as its users get it on Linux. */
export const peer: Peer = natwork('natwork', 'native', 'bbr')

export function natwork(name: string, driver: DriverChoice, congestion: CongestionName): Peer {
  const limits = { connection: { congestion } }
  return {
    name,

    async listen(host, onStream) {
      setDefaultDriver(driver)
      const server = new UtpServer({ host, port: 0, onConnection: onStream, limits })
      await server.start()
      return { host, port: server.address.port }
    },

    async dialer(host) {
      setDefaultDriver(driver)
      const server = new UtpServer({ host, port: 0, limits })
      await server.start()
      return (to) => server.connect({ address: to.host, port: to.port })
    },
  }
}
