import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { loadConfig, type Flags } from '../../../src/cli/config.ts'
import { findFolders } from '../../../src/cli/folders.ts'
import { parseGoal, parsePeer } from '../../../src/cli/goal.ts'
import { defaultExhaustive } from '../../../src/ice/index.ts'

const home = mkdtempSync(join(tmpdir(), 'natwork-config-'))
after(() => rmSync(home, { recursive: true }))
const env = { HOME: home }
const folders = findFolders(env)
const file = join(home, '.config/natwork/config.yaml')
mkdirSync(folders.config, { recursive: true })
const id = `b${'a'.repeat(52)}`

function load(yaml: string, variables: Record<string, string> = {}, flags: Flags = {}) {
  writeFileSync(file, yaml)
  return loadConfig(folders, { ...env, ...variables }, flags)
}

const mistake = (yaml: string, line: number, what: RegExp) =>
  assert.throws(
    () => load(yaml),
    ({ code, message }: Error & { code?: string }) => {
      assert.equal(code, 'ERR_NATWORK_CONFIG')
      assert.ok(message.startsWith(`${file}:${line}: `), message)
      assert.match(message, what)
      assert.ok(!message.includes('\n'), 'one line')
      return true
    },
  )

test('without a file the defaults hold', () => {
  rmSync(file, { force: true })
  assert.deepEqual(loadConfig(folders, env, {}), {
    host: '0.0.0.0',
    port: 1315,
    logLevel: 'warn',
    congestion: 'bbr',
    udpDriver: 'auto',
    publicAddresses: [],
    portMapping: true,
    mdns: false,
    services: {},
    peers: {},
    stun: [],
    helpers: [],
    help: false,
    exhaustive: false,
    tlsPort: 'auto',
  })
})

test('flags win over the environment, that over the file', () => {
  const yaml = 'port: 1000\nhost: 127.0.0.1\nlogLevel: debug\n'
  assert.equal(load(yaml).port, 1000)
  assert.equal(load(yaml, { NATWORK_PORT: '2000' }).port, 2000)
  assert.equal(load(yaml, { NATWORK_PORT: '2000' }, { port: 3000 }).port, 3000)
  assert.equal(load(yaml, { NATWORK_PORT_MAPPING: 'false' }).portMapping, false)
  assert.equal(load('portMapping: false').portMapping, false)
  assert.throws(() => load(yaml, { NATWORK_PORT_MAPPING: 'no' }), /NATWORK_PORT_MAPPING: write true or false/)
  assert.equal(load('mdns: browse').mdns, 'browse')
  assert.equal(load('mdns: browse', { NATWORK_MDNS: 'false' }).mdns, false)
  assert.equal(load('mdns: browse', { NATWORK_MDNS: 'false' }, { mdns: true }).mdns, true)
  assert.throws(() => load(yaml, { NATWORK_MDNS: 'yes' }), /NATWORK_MDNS: write true, browse or false/)
  assert.equal(load(yaml, { NATWORK_PORT: '' }).port, 1000)
  assert.equal(load(yaml, { NATWORK_HOST: '::' }).host, '::')
  assert.equal(load(yaml, { NATWORK_LOG_LEVEL: 'error' }).logLevel, 'error')
})

test('public addresses behind a 1:1 NAT: one of each family, without ports', () => {
  assert.deepEqual(load('publicAddresses: [203.0.113.5]').publicAddresses, ['203.0.113.5'])
  const both = ['203.0.113.5', '2001:db8::5']
  assert.deepEqual(load('', {}, { publicAddresses: both }).publicAddresses, both)
  mistake('publicAddresses: [203.0.113.5:1315]', 1, /"203\.0\.113\.5:1315" is no IP address: name the one/)
  assert.throws(
    () => load('', {}, { publicAddresses: ['203.0.113.5', '203.0.113.6'] }),
    /--public-address: 203\.0\.113\.6: one public address for IPv4 and one for IPv6/,
  )
})

test('an exhaustive search: by flag, with a budget in the file, and for every node that is asked for', () => {
  assert.equal(load('', {}, { exhaustive: true }).exhaustive, true)
  const config = load('exhaustive: { packets: 1000, perSecond: 50 }')
  assert.deepEqual(parsePeer(id, config).exhaustive, { packets: 1000, perSecond: 50 })
  assert.deepEqual(parseGoal(`${id}/web`, load('exhaustive: true')).exhaustive, defaultExhaustive)
  assert.equal('exhaustive' in parsePeer(id, load('')), false)
  mistake(
    'exhaustive: { packets: 0, perSecond: 50 }',
    1,
    /exhaustive\.packets: write a number from 1 to 1000000$/,
  )
  mistake('exhaustive: 7', 1, /exhaustive: write true, or/)
})

test('services and peers, in short and in full', () => {
  const config = load(`
services:
  web: 127.0.0.1:8080
  ssh: { target: "[::1]:22", allow: [laptop, ${id}] }
peers:
  laptop: { id: ${id}, addresses: [192.0.2.1:1315] }
`)
  assert.deepEqual(config.services, {
    web: { target: { host: '127.0.0.1', port: 8080 }, allow: [] },
    ssh: { target: { host: '::1', port: 22 }, allow: ['laptop', id] },
  })
  assert.deepEqual(config.peers, { laptop: { id, addresses: [{ address: '192.0.2.1', port: 1315 }] } })
})

test('a mistake names the file, the line, the field, and what to write', () => {
  mistake('host: 0.0.0.0\nport: 99999\n', 2, /port: write a number from 0 to 65535$/)
  mistake('port: "1315"\n', 1, /port: write a number/)
  mistake('prot: 1315\n', 1, /prot: there is no such setting; there are host, port,/)
  mistake('congestion: reno\n', 1, /congestion: write one of bbr, cubic, ledbat$/)
  mistake('port: [1\n', 2, /./)
  mistake('services:\n  web: nowhere\n', 2, /services\.web\.target: "nowhere" is not HOST:PORT/)
  mistake(
    'services:\n  web: { target: "a:1", alow: [] }\n',
    2,
    /services\.web\.alow: there is no such setting/,
  )
  mistake('services:\n  Web!: 127.0.0.1:80\n', 2, /services\.Web!: write a short name/)
  mistake(
    `peers:\n  x:\n    id: ${id}\n    addresses: [somewhere]\n`,
    4,
    /addresses\.0: "somewhere" is not an address/,
  )
  mistake('logLevel: loud\n', 1, /logLevel: write one of debug,/)
  mistake('- a\n- b\n', 1, /./)
})

test('a mistake in the environment or in a flag names it', () => {
  assert.throws(() => load('', { NATWORK_PORT: 'x' }), {
    message: 'NATWORK_PORT: write a number from 0 to 65535',
  })
  assert.throws(() => load('', {}, { port: 70000 }), { message: '--port: write a number from 0 to 65535' })
})

test('a file that was named must be there', () => {
  const missing = join(home, 'none.yaml')
  const expected = { code: 'ERR_NATWORK_CONFIG', message: /none\.yaml: there is no such file/ }
  assert.throws(() => loadConfig(folders, env, { config: missing }), expected)
  assert.throws(() => loadConfig(folders, { ...env, NATWORK_CONFIG: missing }, {}), expected)
})

test('XDG folders, absolute ones only', () => {
  assert.deepEqual(findFolders({ HOME: '/h' }), {
    config: '/h/.config/natwork',
    state: '/h/.local/state/natwork',
    runtime: '/h/.local/state/natwork',
  })
  assert.deepEqual(
    findFolders({ HOME: '/h', XDG_CONFIG_HOME: '/c', XDG_STATE_HOME: 'relative', XDG_RUNTIME_DIR: '/r' }),
    { config: '/c/natwork', state: '/h/.local/state/natwork', runtime: '/r/natwork' },
  )
})
