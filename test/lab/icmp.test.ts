// 10 s. A router on the way to a peer has a smaller MTU than the relay's network: its ICMP errors reach the client of the relay.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { Lab } from '../../src/lab/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()

/** A program of `fixtures`, and what it says line by line. */
function run(lab: Lab, host: string, name: string, ...args: string[]) {
  const file = join(import.meta.dirname, 'fixtures', name)
  const child = lab.exec(host, process.execPath, ['--import', import.meta.resolve('tsx'), file, ...args])
  child.stderr.pipe(process.stderr)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    say: (line: string): void => void child.stdin.write(`${line}\n`),
    hear: async (): Promise<string> => String((await lines.next()).value),
  }
}

for (const { family, error, dontFragment } of [
  { family: 4, error: '3/4', dontFragment: false },
  { family: 6, error: '2/0', dontFragment: false },
  { family: 4, error: '3/4', dontFragment: true },
] as const) {
  const name = `IPv${family}${dontFragment ? ', DONT-FRAGMENT' : ''}`
  test(
    `${name}: a datagram that is too long for a router on the way`,
    { skip, timeout: 60_000 },
    async () => {
      await using lab = await Lab.create({
        hosts: { relay: { addresses: 1 } },
        sites: { a: { routers: ['firewall'], families: [4, 6] } },
      })
      for (const link of ['a1', 'lan0']) await lab.run('a-home', 'ip', ['link', 'set', link, 'mtu', '1300'])
      const options = { host: lab.address('relay', family), family, dontFragment }
      const relay = run(lab, 'relay', 'icmp-relay.ts', JSON.stringify(options))
      const [, address = '', port = ''] = (await relay.hear()).split(' ')
      const peer = run(lab, 'a1', 'icmp-peer.ts', address, port)
      const at = `${lab.address('a1', family)} ${(await peer.hear()).split(' ')[1]}`
      relay.say(`${at} 1`)
      assert.equal(await peer.hear(), 'heard 1')
      relay.say(`${at} 1400`)
      assert.equal(await relay.hear(), `icmp ${at} ${error} 1300`)
      relay.say(`${at} 1401`)
      if (dontFragment) {
        // The relay knows by now.
        assert.equal(await relay.hear(), `icmp ${at} ${error} 1300`)
        relay.say(`${at} 1272`)
        assert.equal(await peer.hear(), 'heard 1272')
      } else {
        assert.equal(await peer.hear(), 'heard 1401', 'in pieces; the one before is lost')
      }
    },
  )
}
