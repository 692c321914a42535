import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { StaticUsers } from '../src/stun/index.ts'
import { connectRelay, TurnService } from '../src/turn/index.ts'

// A relay to try it with. In earnest it is another machine, with a public address.
const service = await TurnService.listen({
  users: new StaticUsers('example.org', { alice: 'secret' }),
  listen: [{ host: '127.0.0.1', port: 0, transport: 'udp' }],
  addresses: [{ host: '127.0.0.1' }],
  peers: { allow: ['127.0.0.1/32'] },
})
const port = service.udpAddresses[0]?.port ?? 0

const relay = await connectRelay(`turn:127.0.0.1:${port}?transport=udp`, {
  username: 'alice',
  password: 'secret',
  signal: AbortSignal.timeout(10_000),
})
console.log(`peers reach us at ${relay.relayed.address}`)

// Whoever has this IP address may send to us now; sending there would have done the same.
relay.permit(['127.0.0.1'])
relay.on('message', (data, from) => {
  console.log(`${from.address} says: ${Buffer.from(data).toString()}`)
  relay.send(Buffer.from('hello, peer'), from)
})

// The peer: plain UDP, it knows nothing of TURN.
const peer = createSocket('udp4')
const knocking = setInterval(() => peer.send('hello, relay', relay.relayed.port, relay.relayed.address), 100)
const [answer] = (await once(peer, 'message')) as [Buffer]
clearInterval(knocking)
console.log(`the relay brings: ${answer.toString()}`)

peer.close()
await relay.close()
await service.close()
