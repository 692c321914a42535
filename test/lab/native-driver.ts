// `receive`: says its port, then, when a datagram of no byte comes, what came before it: first byte and size of each.
// `send HOST PORT SIZE[/TTL]…`: datagrams of those sizes, each of its own number, as one row as far as they go.
import { UdpEndpoint } from '../../src/socket/index.ts'
import { TestMachine } from '../unit/socket/machines.ts'

const [role, address = '', port = '', ...sizes] = process.argv.slice(2)
const endpoint = await UdpEndpoint.bind({ host: '0.0.0.0', port: 0, driver: 'native' })
if (role === 'receive') {
  const got: string[] = []
  const nothing = (): undefined => undefined
  endpoint.attach(
    {
      handleDatagram: (_now, _path, bytes) => {
        if (bytes.length > 0) got.push(`${bytes[0]} ${bytes.length}`)
        else console.log(JSON.stringify(got))
        return true
      },
      ...{ handleTimeout: nothing, pollTransmit: nothing, pollEvent: nothing, pollTimeout: nothing },
    },
    nothing,
  )
  console.log(endpoint.address.port)
} else {
  const sender = new TestMachine()
  const path = endpoint.path({ address, port: Number(port) })
  for (const [i, text] of sizes.entries()) {
    const [size, ttl] = text.split('/').map(Number)
    sender.outgoing.push({ path, data: Buffer.alloc(size ?? 0, i), ...(ttl !== undefined && { ttl }) })
  }
  sender.outgoing.push({ path, data: Buffer.alloc(0) })
  endpoint.attach(sender, () => undefined)
  await new Promise(setImmediate)
  await endpoint.close()
}
