// 3 s. The page for strangers (docs/lab.md) is run, not believed; so is what it says about the literal rules.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Lab } from '../../src/lab/index.ts'
import { Observer } from '../../src/lab/observer.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const page = readFileSync(new URL('../../docs/lab.md', import.meta.url), 'utf8')
const file = new URL('../../examples/lab-own-program.ts', import.meta.url)
const example = readFileSync(file, 'utf8')

test('the example of the page is the one in examples/, and works', { skip }, () => {
  // The page imports the package by its name, the file in this repository its source.
  assert.ok(page.includes(example.replace('../src/lab/index.ts', 'natwork/lab')))
  const said = execFileSync(process.execPath, ['--import', 'tsx', fileURLToPath(file)], { encoding: 'utf8' })
  assert.match(said, /^seen as 198\.51\.100\.10:\d+\n1 flow in the router's table\n$/)
})

for (const { kind, keeps } of [
  { kind: 'port-restricted-literal', keeps: false },
  { kind: 'port-restricted', keeps: true },
] as const) {
  test(`${kind}: an early packet ${keeps ? 'leaves' : 'moves'} the mapping`, { skip }, async () => {
    await using lab = await Lab.create({ sites: { a: kind } })
    const observer = new Observer(lab)
    const peer = await observer.udp('helper', lab.address('helper'), 4000)
    const client = await observer.udp('a1', lab.address('a1'), 1315)
    const capture = await observer.udp('a-home', lab.address('a-home'), 4001)
    peer.send({ address: lab.address('a-home'), port: 1315 }, 'early')
    // Same way, later: once this one is there (or its filter has dropped it), so is the first.
    peer.send({ address: lab.address('a-home'), port: 4001 }, 'marker')
    await capture.receive('marker', keeps ? 200 : 2_000)
    client.send({ address: lab.address('helper'), port: 4000 }, 'punch')
    const seen = await peer.receive('punch', 2_000)
    assert.equal(seen?.from.port === 1315, keeps)
    const table = (await lab.conntrack('a-home')).join('\n')
    assert.equal(
      /src=192\.0\.2\.10 dst=198\.51\.100\.10 sport=4000 dport=1315 \[UNREPLIED\]/.test(
        table.replace(/^.*src=192\.168.*$/gm, ''),
      ),
      !keeps,
    )
  })
}
