// What "Running a relay" says against what there is.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { fields, loadRelayConfig, type RelayConfig } from '../../../src/cli/relay/config.ts'
import { defaultLimits } from '../../../src/turn/index.ts'
import { missing, output } from '../../interop/stun-peers.ts'

const root = join(import.meta.dirname, '../../..')
const page = readFileSync(join(root, 'docs/relay.md'), 'utf8')

/** The rows of "Every setting": names and default. */
const rows = [...page.matchAll(/^\| (`[^|]+`) +\| ([^|]*)\|/gm)]
  .filter(([line]) => !line.includes('natwork_relay'))
  .map(([, names = '', standard = '']) => ({
    names: [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name),
    standard: standard.replaceAll('`', '').trim(),
  }))

test('docs/relay.md has every setting, and no other', () => {
  const there = Object.entries(fields).flatMap(([parent, names]) =>
    parent === '' ? names.filter((name) => !(name in fields)) : names.map((name) => `${parent}.${name}`),
  )
  // Written as one value.
  const known = there.filter((name) => !name.startsWith('rateLimit.')).concat('rateLimit')
  assert.deepEqual(rows.flatMap(({ names }) => names).sort(), known.sort())
})

test('docs/relay.md has the defaults', (t) => {
  const config = load(t, 'realm: x\nusers: { a: b }\n')
  const standard = (name: string): string | undefined =>
    rows.find(({ names }) => names.includes(name))?.standard
  const { admin, listen, relay } = config
  assert.ok(admin !== false)
  assert.equal(standard('admin'), `${admin.address}:${admin.port}`)
  assert.equal(
    standard('listen'),
    listen.map(({ transport, host, port }) => `${transport}:${host}:${port}`).join(', '),
  )
  assert.equal(standard('relay.ports'), `${relay.ports.min}-${relay.ports.max}`)
  assert.equal(standard('drain'), `${config.drain}s`)
  assert.equal(standard('nonceLifetime'), `${config.nonceLifetime / 60}m`)
  assert.equal(standard('limits.lifetime'), `${defaultLimits.lifetime / 3.6e9}h`)
  for (const name of ['tcpRelaying', 'mobility', 'oldChannels', 'logLevel'] as const) {
    assert.equal(standard(name), String(config[name]))
  }
  for (const [name, value] of Object.entries(defaultLimits)) {
    if (name === 'lifetime') continue
    assert.equal(standard(`limits.${name}`), value === Infinity ? 'none' : String(value), name)
  }
})

test('the example configuration and those of the page are taken', (t) => {
  const yaml = readFileSync(join(root, 'examples/relay/relay.yaml'), 'utf8')
  // Nobody is to run with a secret that the whole world has read.
  assert.throws(() => load(t, yaml), /sharedSecret: write at least 16 characters/)
  const example = load(t, yaml.replace("sharedSecret: ''", `sharedSecret: ${'a'.repeat(64)}`))
  assert.deepEqual(
    example.listen.map(({ transport }) => transport),
    ['udp', 'tcp', 'tls'],
  )
  const shown = [...page.matchAll(/```yaml\n([^]*?)```/g)].map(([, yaml = '']) => yaml)
  assert.ok(shown.length > 0)
  for (const yaml of shown) load(t, `realm: x\nusers: { a: b }\n${yaml}`)
  const [, first = ''] = /relay\.yaml >\/dev\/null <<END\n([^]*?)END/.exec(page) ?? []
  const { relay } = load(t, first.replace(/\$\(.*?\)/, 'a'.repeat(64)))
  assert.deepEqual(relay.addresses, [{ host: '203.0.113.5' }])
})

test('the systemd unit is one', { skip: missing('systemd-analyze') }, async () => {
  const { text, code } = await output('systemd-analyze', [
    'verify',
    join(root, 'examples/relay/natwork-relay.service'),
  ])
  // It speaks up about units of the machine too.
  assert.doesNotMatch(text, /natwork-relay/)
  assert.equal(code, 0, text)
})

function load(t: TestContext, yaml: string): RelayConfig {
  const folder = mkdtempSync(join(tmpdir(), 'natwork-relay-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'relay.yaml')
  writeFileSync(file, yaml)
  return loadRelayConfig(file)
}
