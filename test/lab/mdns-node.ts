// A node in a lab, as mdns.test.ts plays it: says who is near by whenever that changes, connects and stops when it is told to.
import { createInterface } from 'node:readline'
import { formatAddress, silentLogger } from '../../src/core/index.ts'
import { createContext, memoryDirectory } from '../../src/directory/index.ts'
import { Network, parseNodeId, type NetworkOptions } from '../../src/network/index.ts'

const options = JSON.parse(process.argv[2] ?? '{}') as NetworkOptions
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`)
const warnings: string[] = []
const logger = { ...silentLogger, warn: (message: string) => void warnings.push(message) }
const network = new Network(createContext({ directory: memoryDirectory(), logger }), options)
network.on('nearby', (nodes) =>
  say({ nearby: nodes.map(({ id, addresses }) => ({ id, addresses: addresses.map(formatAddress) })) }),
)
await network.start()
say({ id: network.id, warnings })

for await (const line of createInterface(process.stdin)) {
  const { connect, stop } = JSON.parse(line) as { connect?: string; stop?: true }
  if (stop) break
  try {
    const pinger = await network.ping(parseNodeId(connect ?? ''))
    await pinger.roundTrip()
    pinger.close()
    say({ reached: connect })
  } catch (error) {
    say({ error: (error as Error).message })
  }
}
await network.stop()
