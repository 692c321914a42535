// 25 s. Two nodes whose only way to each other is a relay of ours, which is killed and started again in the middle of a
// stream: over UDP behind symmetric NATs, and over TLS on 443 where nothing else gets out. The whole bulk transfer:
// NATWORK_RELAY_MIB=100 node --import tsx --test test/lab/relay.test.ts
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import type { SocketAddress } from '../../src/core/address.ts'
import { Lab, type PipedProcess } from '../../src/lab/index.ts'
import { certificate } from '../interop/stun-peers.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const bytes = Number(process.env['NATWORK_RELAY_MIB'] ?? 12) * 1024 * 1024
const program = (name: string): string[] => [
  '--import',
  import.meta.resolve('tsx'),
  join(import.meta.dirname, 'fixtures', name),
]

/** A program of `fixtures`: what it says, by the first key of each line. */
class Spoken extends EventEmitter {
  readonly #child: PipedProcess
  /** What went wrong, and what it printed besides. */
  readonly trouble: string[] = []

  constructor(lab: Lab, host: string, name: string, options: object) {
    super()
    const child = lab.exec(host, process.execPath, [...program(name), JSON.stringify(options)])
    this.#child = child
    child.stderr.on('data', (text) => this.trouble.push(String(text)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const said = line.startsWith('{') ? (JSON.parse(line) as Record<string, unknown>) : { [line]: true }
      if (said['error'] !== undefined) this.trouble.push(line)
      this.emit(Object.keys(said)[0]!, said)
    })
  }

  tell(order: object): void {
    this.#child.stdin.write(`${JSON.stringify(order)}\n`)
  }

  async hear<T>(what: string): Promise<T> {
    const [said] = (await once(this, what)) as [T]
    return said
  }

  async kill(): Promise<void> {
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }
}

interface Transfer {
  readonly hash: string
  readonly ended?: number
}

for (const { kind, transport, uri } of [
  { kind: 'symmetric', transport: 'udp', uri: (host: string) => `turn:${host}:3478?transport=udp` },
  { kind: 'tls-only', transport: 'tls', uri: (host: string) => `turns:${host}:443` },
] as const) {
  test(
    `${kind} on both sides: a stream over ${transport} outlives a restart of the relay`,
    { skip },
    async () => {
      await using lab = await Lab.create({ hosts: { relay: { addresses: 1 } }, sites: { a: kind, b: kind } })
      const address = lab.address('relay')
      const made = await certificate(address, 'ip')
      const serve = async (): Promise<Spoken> => {
        const server = new Spoken(lab, 'relay', 'relay-server.ts', { address, ...made })
        await server.hear('ready')
        return server
      }
      let server = await serve()
      const options = { uri: uri(address), ca: made.cert }
      const [a, b] = [
        new Spoken(lab, 'a1', 'relay-node.ts', options),
        new Spoken(lab, 'b1', 'relay-node.ts', options),
      ]
      const [, there] = await Promise.all(
        [a, b].map((node) => node.hear<{ relayed: SocketAddress; transport: string }>('relayed')),
      )
      assert.ok(there)
      assert.equal(there.transport, transport)
      // Each lets the relay itself in: the other one's relayed address is there.
      for (const node of [a, b]) node.tell({ permit: address })
      const sent = a.hear<Transfer>('sent')
      const received = b.hear<Transfer>('ended')
      const troubled = Promise.race([a, b].map((node) => node.hear<{ error: string }>('error')))
      a.tell({ connect: there.relayed, bytes })

      let got = 0
      while (got < bytes / 3) got = (await b.hear<{ got: number }>('got')).got
      const renewed = Promise.all([a, b].map((node) => node.hear<{ renewed: SocketAddress }>('renewed')))
      await server.kill()
      server = await serve()
      const [atA, atB] = await Promise.race([renewed, troubled.then(({ error }) => assert.fail(error))])
      // What signalling does between real nodes.
      b.tell({ move: atA!.renewed })
      a.tell({ move: atB!.renewed })

      const both = await Promise.race([
        Promise.all([sent, received]),
        troubled.then(({ error }) => assert.fail(error)),
      ])
      assert.equal(both[1].ended, bytes)
      assert.equal(both[1].hash, both[0].hash)
      assert.equal(await lab.packetsBetween('a1', 'b1'), 0, 'nothing went directly')
      assert.deepEqual([...a.trouble, ...b.trouble], [])
    },
  )
}
