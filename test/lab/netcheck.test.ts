// 30 s. Behind real nft routers: netcheck's verdicts are what the kinds declare, and a node's public address is what the
// router's own conntrack table shows.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Lab } from '../../src/lab/index.ts'
import { AGENT_PORT, kinds, type KindName } from '../../src/sim/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const source = (path: string): string => new URL(`../../src/${path}`, import.meta.url).href
const main = fileURLToPath(source('cli/main.ts'))
const asModule = ['--import', 'tsx', '--input-type=module', '-e']

const sites = {
  a: 'port-restricted',
  b: 'symmetric',
  c: 'none',
  d: 'udp-blocked',
  e: 'address-restricted',
  f: 'hairpin',
  g: 'symmetric-sequential',
} as const satisfies Record<string, KindName>

test('verdicts and public addresses behind real routers', { skip }, async () => {
  await using lab = await Lab.create({ hosts: { helper: { addresses: 2 } }, sites })
  const [first, second] = lab.hosts
    .find(({ name }) => name === 'helper')!
    .addresses.filter((address) => !address.includes(':'))
  const server = lab.exec(
    'helper',
    process.execPath,
    [
      ...asModule,
      `
      import { StunService } from ${JSON.stringify(source('stun/index.ts'))}
      const alternate = { host: '${second}', port: 3479 }
      await StunService.listen({ host: '${first}', port: 3478, tcp: false, alternate })
      console.log('listening')`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await once(server.stdout!, 'data')
  const stun = [`stun:${first}:3478`, `stun:${second}:3478`]
  await Promise.all(
    Object.entries(sites).map(async ([site, kind]) => {
      await checkVerdicts(lab, site, kind, stun)
      if (kind === 'port-restricted' || kind === 'symmetric') await checkAddress(lab, site, stun)
    }),
  )
})

async function checkVerdicts(lab: Lab, site: string, kind: KindName, stun: string[]): Promise<void> {
  const args = ['--import', 'tsx', main, 'netcheck', stun[0]!, '--json']
  const { code, stdout, stderr } = await lab.run(`${site}1`, process.execPath, args)
  const seen = JSON.parse(stdout) as Record<string, { value: unknown }>
  const declared = kinds[kind].behaviour
  assert.equal(code, declared === undefined ? 5 : 0, `${kind}: ${stderr}`)
  assert.deepEqual(
    ['mapping', 'filtering', 'hairpin', 'ports'].map((word) => seen[word]!.value),
    [declared?.mapping, declared?.filtering, declared?.hairpin, declared?.ports].map((word) => word ?? null),
    `${kind}: ${stdout}`,
  )
}

/** What `network.publicAddress` says in a node on the agent's port, and what the router has in its table meanwhile. */
async function checkAddress(lab: Lab, site: string, stun: string[]): Promise<void> {
  const node = lab.exec(
    `${site}1`,
    process.execPath,
    [
      ...asModule,
      `
      import { once } from 'node:events'
      import { createContext, memoryDirectory } from ${JSON.stringify(source('directory/index.ts'))}
      import { Network } from ${JSON.stringify(source('network/index.ts'))}
      const context = createContext({ directory: memoryDirectory() })
      const network = new Network(context, { port: ${AGENT_PORT}, stun: ${JSON.stringify(stun)} })
      await network.start()
      while (network.publicAddress.reason === 'pending') await once(network, 'publicAddress')
      console.log(JSON.stringify({ seen: network.publicAddress, address: network.address() }))`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const [line] = (await once(node.stdout!, 'data')) as [Buffer]
  const { seen, address } = JSON.parse(line.toString()) as {
    seen: { known: boolean; address: unknown; reason: string; seen: { port: number }[]; observers: unknown[] }
    address: { address: string; port: number }
  }
  // The reply direction of each flow: to the router's outer address and the port it gave.
  const outer = lab.address(`${site}-home`)
  const table = (await lab.conntrack(`${site}-home`)).filter((flow) =>
    flow.includes(`sport=${AGENT_PORT} dport=3478`),
  )
  const ports = table.map((flow) =>
    Number(new RegExp(`dst=${outer} sport=3478 dport=(\\d+)`).exec(flow)?.[1]),
  )
  assert.equal(ports.length, 2, table.join('\n'))
  if (seen.known) {
    assert.deepEqual(address, { address: outer, port: ports[0] })
    assert.equal(ports[0], ports[1])
    assert.equal(seen.observers.length, 2)
  } else {
    assert.equal(seen.reason, 'per-destination')
    assert.deepEqual(seen.seen.map(({ port }) => port).sort(), ports.sort())
  }
  assert.equal(seen.known, site === 'a')
  node.kill()
}
