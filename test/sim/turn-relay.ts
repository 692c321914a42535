/** A TURN server of ours on a simulated host, which can be restarted. */
import type { Path } from '../../src/core/machine.ts'
import type { Host } from '../../src/sim/index.ts'
import { LongTermAuth, LongTermServerAuth, StaticUsers, type CredentialStore } from '../../src/stun/index.ts'
import { PeerPolicy, Relay, TurnServer, type OpenRequest, type RelayedSocket } from '../../src/turn/index.ts'

export const RELAY_PORT = 3478
export const credentials = (): LongTermAuth => new LongTermAuth('user', 'secret')

/** @returns the end of it: everything it knew is forgotten. */
export function startRelay(
  host: Host,
  users: CredentialStore = new StaticUsers('relay.test', { user: 'secret' }),
): () => void {
  const secret = new Uint8Array(32)
  host.rng.fill(secret)
  const relay = new Relay({
    rng: host.rng,
    families: [1],
    auth: new LongTermServerAuth(users, secret, 600_000_000),
    // The simulated internet is made of documentation addresses.
    policy: new PeerPolicy({ allow: ['0.0.0.0/0'] }),
  })
  const socket = host.bind({ port: RELAY_PORT })
  const relayed = new Set<RelayedSocket>()
  const attachment = socket.attach(new TurnServer(relay), (event) => {
    if (event.type !== 'open') return
    relay.opened(socket.now(), event.ticket, {
      sockets: event.request.families.map(() => open(event.request)),
    })
  })

  const open = (_request: OpenRequest): RelayedSocket => {
    const port = host.bind()
    const made: RelayedSocket = {
      address: port.address,
      start: (allocation) => {
        port.onMessage = (data, remote) => {
          allocation.handlePeerDatagram(port.now(), { remote }, data)
          attachment.wake()
        }
      },
      send: ({ remote }: Path, data) => port.send(data, remote),
      close: () => {
        relayed.delete(made)
        port.close()
      },
    }
    relayed.add(made)
    return made
  }
  return () => {
    for (const one of [...relayed]) one.close()
    socket.close()
  }
}
