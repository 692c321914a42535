import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { release } from '../../src/core/release.ts'
import { createContext, memoryDirectory } from '../../src/directory/index.ts'
import { Network } from '../../src/network/index.ts'
import type { NodeId } from '../../src/network/node-id.ts'
import type { Peer } from '../peer.ts'

/** What users of the command line get, end to end: TCP → pipe → TLS over uTP → pipe → TCP. */
export const peer: Peer = {
  name: 'natwork, encrypted pipe',

  async listen(host, onStream) {
    const server = createServer({ noDelay: true }, (socket) => {
      onStream(socket)
      // A real service is another program: its collector's work is not the pipe's.
      socket.on('data', release)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const network = node(host)
    network.services.set({
      ...{ name: 'bench', host: '127.0.0.1', port: (server.address() as AddressInfo).port, allow: '*' },
    })
    await network.start()
    return { host, port: network.boundAddress.port, id: network.id }
  },

  async dialer(host) {
    const network = node(host)
    await network.start()
    let local: number | undefined
    return async (to) => {
      local ??= (
        await network.forward({
          port: 0,
          to: {
            ...{ id: to.id as NodeId, service: 'bench' },
            addresses: [{ address: to.host, port: to.port }],
          },
        })
      ).address.port
      const socket = connect({ port: local, host: '127.0.0.1', noDelay: true })
      await once(socket, 'connect')
      return socket
    }
  },
}

function node(host: string): Network {
  return new Network(createContext({ directory: memoryDirectory() }), { host, port: 0 })
}
