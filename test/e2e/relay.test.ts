// `natwork relay` as its operator sees it. About 10 seconds.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Probe } from '../../src/cli/relay/probe.ts'
import { Attribute } from '../../src/stun/index.ts'
import { parseAddress } from '../../src/core/index.ts'
import { Home, run, start } from './natwork.ts'

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

test('mistakes in relay.yaml: one line with the place and what to write', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'relay.yaml')
  const cases: [string, RegExp][] = [
    ['realm: x\n', /relay\.yaml: nobody could use this relay: set `users` or `sharedSecret`/],
    [
      'realm: x\nusers: { a: b }\nports: 1\n',
      /relay\.yaml:3: ports: there is no such setting; there are realm, listen/,
    ],
    ['realm: x\nusers: { a: b }\nlisten: [3478]\n', /relay\.yaml:3: listen\.0: /],
    ['realm: x\nusers: { a: b }\nlisten: ["tls:0.0.0.0:443"]\n', /a `tls:` port needs `tls`/],
    [
      'realm: x\nusers: { a: b }\nrelay:\n  ports: 80-90\n',
      /relay\.yaml:4: relay\.ports: write the first and the last/,
    ],
    ['realm: x\nsharedSecret: short\n', /relay\.yaml:2: sharedSecret: write at least 16 characters/],
    [
      'realm: x\nusers: { a: b }\npeers: { allow: [10.0.0.0/33] }\n',
      /peers\.allow\.0: write a block of addresses/,
    ],
  ]
  for (const [yaml, line] of cases) {
    writeFileSync(file, yaml)
    const { code, stderr } = await run(t, home, ['relay', '--config', file])
    assert.match(stderr, line)
    assert.equal(stderr.trim().split('\n').length, 1, stderr)
    assert.equal(code, 2)
  }
  const none = await run(t, home, ['relay', '--config', join(home.path, 'none.yaml')])
  assert.match(none.stderr, /cannot read the configuration .*none\.yaml/)
})

test('a relay: serves, takes other settings on SIGHUP, drains on SIGTERM', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'relay.yaml')
  const admin = await freePort()
  const write = (users: string): void => {
    writeFileSync(
      file,
      [
        'realm: example.org',
        'listen: ["udp:127.0.0.1:0"]',
        'relay: { addresses: [127.0.0.1] }',
        `users: ${users}`,
        `admin: 127.0.0.1:${admin}`,
        'alternate: 192.0.2.9:3478',
        '',
      ].join('\n'),
    )
  }
  write('{ alice: wonderland }')
  const relay = start(t, home, ['relay', '--json', '--config', file])
  const [, at = ''] = await relay.sees(/"event":"up".*"listens":\["([^"]+)"/)
  const server = parseAddress(at)

  const alice = await Probe.open(server, 'udp', { username: 'alice', password: 'wonderland' })
  t.after(() => {
    alice.abandon()
  })
  assert.equal((await alice.allocate()).code, 0)
  await relay.sees(/"user":"alice".*"msg":"allocation created"/)
  const status = await run(t, home, ['relay', 'status', '--config', file])
  assert.match(status.stdout, /1 allocations/)
  assert.match(status.stdout, /alice +127\.0\.0\.1:\d+/)
  const metrics = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text()
  assert.match(metrics, /^natwork_relay_allocations 1$/m)
  assert.equal((await fetch(`http://127.0.0.1:${admin}/`)).status, 404)

  writeFileSync(file, 'realm: [')
  relay.child.kill('SIGHUP')
  await relay.sees(/settings not taken: the old ones hold/)
  write('{ bob: builder }')
  relay.child.kill('SIGHUP')
  await relay.sees(/settings read again/)
  const ask = async (username: string, password: string): Promise<number> => {
    const probe = await Probe.open(server, 'udp', { username, password })
    const { code } = await probe.allocate()
    await probe.close()
    return code
  }
  assert.equal(await ask('bob', 'builder'), 0)
  assert.equal(await ask('alice', 'wonderland'), 401)
  // Her allocation is there; that it ends when it is not refreshed is for her to notice.
  assert.match(await (await fetch(`http://127.0.0.1:${admin}/status`)).text(), /"user":"alice"/)

  write('{ alice: wonderland, bob: builder }')
  relay.child.kill('SIGHUP')
  await relay.sees(/settings read again[^]*settings read again/)
  relay.child.kill('SIGTERM')
  await relay.sees(/"msg":"draining"/)
  const late = await Probe.open(server, 'udp', { username: 'bob', password: 'builder' })
  const { code, view } = await late.allocate()
  assert.equal(code, 300)
  assert.deepEqual(view.address(Attribute.AlternateServer), { address: '192.0.2.9', port: 3478 })
  late.abandon()
  await alice.close()
  assert.equal(await relay.ended, 0)
  assert.doesNotMatch(relay.stdout + relay.stderr, /wonderland|builder/, 'a secret in the log')
})

test('natwork relay credentials prints what a web application would: the relay takes it', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'relay.yaml')
  const secret = 'a secret of the relay and the web'
  const write = (secrets: string): void => {
    writeFileSync(
      file,
      `realm: example.org\nlisten: ["udp:127.0.0.1:0"]\nrelay: { addresses: [127.0.0.1] }\nadmin: false\nlogLevel: debug\nsharedSecret: ${secrets}\n`,
    )
  }
  write(`"${secret}"`)
  const relay = start(t, home, ['relay', '--json', '--config', file])
  const [, at = ''] = await relay.sees(/"event":"up".*"listens":\["([^"]+)"/)
  const print = async (): Promise<{ username: string; password: string }> => {
    const { stdout } = await run(t, home, ['relay', 'credentials', 'alice', '--config', file])
    const [, username = '', password = ''] = /^username {2}(\d+:alice)\npassword {2}(.+)$/m.exec(stdout) ?? []
    return { username, password }
  }
  const ask = async (user: { username: string; password: string }): Promise<number> => {
    const probe = await Probe.open(parseAddress(at), 'udp', user)
    const { code } = await probe.allocate()
    await probe.close()
    return code
  }
  const old = await print()
  assert.equal(await ask(old), 0)
  // The secret is replaced: both hold, then only the new one.
  write(`["another secret, for tomorrow", "${secret}"]`)
  relay.child.kill('SIGHUP')
  await relay.sees(/settings read again/)
  const fresh = await print()
  assert.notEqual(fresh.password, old.password)
  assert.deepEqual([await ask(old), await ask(fresh)], [0, 0])
  write('"another secret, for tomorrow"')
  relay.child.kill('SIGHUP')
  await relay.sees(/settings read again[^]*settings read again/)
  assert.deepEqual([await ask(old), await ask(fresh)], [401, 0])
  relay.child.kill('SIGTERM')
  assert.equal(await relay.ended, 0)
  for (const word of [secret, 'for tomorrow', old.password, fresh.password, 'obMatJos2']) {
    assert.ok(!(relay.stdout + relay.stderr).includes(word), `${word} is in the log`)
  }
})

test('natwork relay check prints what got through, and ends with 5', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'relay.yaml')
  writeFileSync(
    file,
    'realm: x\nlisten: ["udp:127.0.0.1:0"]\nrelay: { addresses: [127.0.0.1] }\nadmin: false\nusers: { alice: wonderland }\npeers: { allow: [127.0.0.1] }\n',
  )
  const relay = start(t, home, ['relay', '--json', '--config', file])
  const [, at = ''] = await relay.sees(/"event":"up".*"listens":\["([^"]+)"/)
  const args = ['relay', 'check', `turn:${at}`, '--user', 'alice', '--password', 'wonderland', '--no-tcp']
  const { stdout, stderr, code } = await run(t, home, args)
  assert.equal(code, 5)
  assert.match(stdout, /^loopback as a peer +GOT THROUGH +127\.0\.0\.1 by CreatePermission/m)
  assert.match(stdout, /^private networks as peers +held/m)
  assert.match(stdout, /^slow-loris over TCP +not tried +no TCP port/m)
  assert.match(stderr, /1 of \d+ attacks got through/)
  relay.child.kill('SIGTERM')
  assert.equal(await relay.ended, 0)
})

test('natwork relay user prints keys that the relay takes', async (t) => {
  const home = new Home(t)
  const made = start(t, home, ['relay', 'user', 'alice', '--realm', 'example.org'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  made.child.stdin?.end('wonderland\n')
  assert.equal(await made.ended, 0)
  const file = join(home.path, 'relay.yaml')
  writeFileSync(
    file,
    [
      'realm: example.org',
      'listen: ["udp:127.0.0.1:0"]',
      'relay: { addresses: [127.0.0.1] }',
      'admin: false',
      'users:',
      ...made.stdout
        .trimEnd()
        .split('\n')
        .map((line) => `  ${line}`),
      '',
    ].join('\n'),
  )
  const relay = start(t, home, ['relay', '--json', '--config', file])
  const [, at = ''] = await relay.sees(/"event":"up".*"listens":\["([^"]+)"/)
  const probe = await Probe.open(parseAddress(at), 'udp', { username: 'alice', password: 'wonderland' })
  assert.equal((await probe.allocate()).code, 0)
  await probe.close()
  relay.child.kill('SIGTERM')
  assert.equal(await relay.ended, 0)
})
