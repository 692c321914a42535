// Your own protocol code behind two NATs, in virtual time: run it with `npx tsx examples/sim-ping.ts`.
// In a project of your own the import is from 'natwork/sim'.
import { simulate } from '../src/sim/index.ts'

simulate((world) => {
  const server = world.publicHost('server', { addresses: ['192.0.2.1'] }).bind({ port: 7 })
  server.onMessage = (data, from) => server.send(data, from) // your server: an echo

  const home = world.site('home', { kind: 'symmetric', link: { loss: 0.1 } })
  const client = home.client.bind()
  let answers = 0
  client.onMessage = () => answers++ // your client: asks until it has ten answers

  const ask = (): void => {
    client.send(Uint8Array.of(answers), server.address)
    if (answers < 10) world.at(world.now + 100_000, ask)
  }
  ask()
  if (!world.run(() => answers >= 10)) throw new Error(`only ${answers} answers`)
})
console.log('ten answers through a symmetric NAT at 10 % loss each way, for 20 seeds')
