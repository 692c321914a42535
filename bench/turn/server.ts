// One of the servers as a process of its own, for main.ts: `server.ts natwork|natwork-dgram|bare-dgram|turn-server|node-turn
// PORT`.
import { setDefaultDriver } from '../../src/socket/index.ts'
import { StaticUsers } from '../../src/stun/credentials/server.ts'
import { TurnService } from '../../src/turn/index.ts'

const [name, text] = process.argv.slice(2)
const port = Number(text)
const host = '127.0.0.1'

switch (name) {
  case 'natwork':
  case 'natwork-dgram':
    if (name === 'natwork-dgram') setDefaultDriver('dgram')
    await TurnService.listen({
      users: new StaticUsers('bench', { user: 'pass' }),
      addresses: [{ host }],
      peers: { allow: [host] },
      listen: [
        { host, port, transport: 'udp' },
        { host, port, transport: 'tcp' },
      ],
      rateLimit: false,
      maxConnectionsPerSource: 4_096,
      oldChannels: true,
      limits: { allocations: 100_000, allocationsPerUser: 100_000, allocationsPerSource: 100_000 },
    })
    break
  case 'bare-dgram': {
    const { forward } = await import('./bare.ts')
    forward(host, port)
    break
  }
  case 'turn-server': {
    const { createServer } = await import('turn-server')
    createServer({
      auth: { mechanism: 'long-term', realm: 'bench', credentials: { user: 'pass' } },
      relay: { ip: host, externalIp: host },
      allowLoopback: true,
      userQuota: 0,
      totalQuota: 0,
    }).listen([{ port, address: host, transport: 'udp' }])
    break
  }
  case 'node-turn': {
    const { default: Turn } = await import('node-turn')
    new Turn({
      authMech: 'long-term',
      realm: 'bench',
      credentials: { user: 'pass' },
      listeningPort: port,
      listeningIps: [host],
      relayIps: [host],
      debugLevel: 'OFF',
    }).start()
  }
}
