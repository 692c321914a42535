// Every command as its users meet it.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { Home, program, root, run, runJson, start, startNode } from './natwork.ts'
import { listen, need } from './servers.ts'

test('--help names every command and exit code, --version the version', async (t) => {
  const home = new Home(t)
  const { stdout, code } = await run(t, home, ['--help'])
  assert.equal(code, 0)
  for (const name of ['up', 'expose', 'unexpose', 'forward', 'cat', 'proxy', 'ping', 'why', 'status', 'id']) {
    assert.match(stdout, new RegExp(`^  ${name} `, 'm'))
    const help = await run(t, home, [name, '--help'])
    assert.deepEqual([help.code, help.stderr], [0, ''])
    assert.match(help.stdout, /--json/)
  }
  assert.match(stdout, /Exit codes:\n {2}0 /)
  const manual = readFileSync(join(root, 'docs/cli.md'), 'utf8').replaceAll(/ +/g, ' ')
  for (const [, exit = '', meaning = ''] of stdout.matchAll(/^ {2}(\d+) +(.+)$/gm)) {
    assert.ok(manual.includes(`| ${exit} | ${meaning} |`), `docs/cli.md: exit code ${exit}`)
  }
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  assert.equal((await run(t, home, ['--version'])).stdout, `${version}\n`)
})

test('allow lists: by id, by the name of a peer; through a running node and without one', async (t) => {
  const web = createServer((_request, response) => response.end('hello'))
  const target = `127.0.0.1:${await listen(t, web)}`
  const [owner, user] = [new Home(t), new Home(t)]
  const { id } = await runJson<{ id: string }>(t, user, ['id'])
  const node = await startNode(t, owner)
  const exposed = await runJson<object>(t, owner, ['expose', `web=${target}`, '--allow', id])
  assert.deepEqual(exposed, { name: 'web', target, allow: [id] })
  mkdirSync(join(user.path, 'config/natwork'))
  writeFileSync(
    join(user.path, 'config/natwork/config.yaml'),
    `peers:\n  box: { id: ${node.up.id}, addresses: ["${node.up.listens}"] }\n`,
  )
  const request = 'GET / HTTP/1.0\r\n\r\n'
  const get = async () => {
    const cat = start(t, user, ['cat', 'box/web'], { stdio: ['pipe', 'pipe', 'pipe'] })
    cat.child.stdin?.end(request)
    assert.equal(await cat.ended, 0, cat.stderr)
    return cat.stdout
  }
  assert.match(await get(), /hello$/)
  const own = await startNode(t, user)
  assert.match(await get(), /hello$/)
  const pong = await runJson<Record<string, unknown>>(t, user, ['ping', 'box', '--count', '1'])
  assert.equal(pong['id'], node.up.id)
  assert.equal(pong['remote'], node.up.listens)
  assert.ok(Number(pong['roundTrip']) > 0 && Number(pong['connect']) > 0)
  await own.stop()
})

test('what is exposed stays exposed, until it is not', async (t) => {
  const home = new Home(t)
  const first = await startNode(t, home)
  const made = await runJson<{ ticket: string; uses: number; command: string }>(t, home, [
    ...['expose', 'web=127.0.0.1:80', '--ticket', '--uses', '5', '--expires', '7d'],
  ])
  assert.equal(made.uses, 5)
  assert.equal(made.command, `npx natwork forward 8080 ${made.ticket}`)
  await first.stop()
  const second = await startNode(t, home)
  const names = async () =>
    (await runJson<{ services: { name: string }[] }>(t, home, ['status'])).services.map(({ name }) => name)
  assert.deepEqual(await names(), ['web'])
  await runJson(t, home, ['unexpose', 'web'])
  assert.deepEqual(await names(), [])
  assert.equal((await run(t, home, ['unexpose', 'web'])).code, 2)
  await second.stop()
  await startNode(t, home)
  assert.deepEqual(await names(), [])
})

test('services of the configuration are shared, and changed only there', async (t) => {
  const home = new Home(t)
  mkdirSync(join(home.path, 'config/natwork'))
  writeFileSync(join(home.path, 'config/natwork/config.yaml'), 'services:\n  web: 127.0.0.1:8080\n')
  const node = await startNode(t, home, ['--demo'])
  assert.deepEqual(
    (await runJson<{ services: unknown }>(t, home, ['status'])).services,
    [{ name: 'web', target: '127.0.0.1:8080', allow: [] }],
    'the demo page is only for who shares nothing',
  )
  const refused = await run(t, home, ['unexpose', 'web'])
  assert.equal(refused.code, 2)
  assert.match(refused.stderr, /set in the configuration file/)
  await node.stop()
})

test('curl through the proxy: HTTP, CONNECT and SOCKS 5', async (t) => {
  const [curl] = need(t, 'curl') ?? []
  if (curl === undefined) return
  const web = createServer((request, response) =>
    response.end(`${request.url ?? ''} at ${request.headers.host ?? ''}`),
  )
  const [owner, user] = [new Home(t), new Home(t)]
  const { id } = await runJson<{ id: string }>(t, user, ['id'])
  const node = await startNode(t, owner)
  await runJson(t, owner, ['expose', `web=127.0.0.1:${await listen(t, web)}`, '--allow', id])
  mkdirSync(join(user.path, 'config/natwork'))
  writeFileSync(
    join(user.path, 'config/natwork/config.yaml'),
    `peers:\n  box: { id: ${node.up.id}, addresses: ["${node.up.listens}"] }\n`,
  )
  const proxy = start(t, user, ['proxy', '0', '--json'])
  const [, port = ''] = await proxy.sees(/"port":(\d+)/)
  const get = async (...args: string[]) =>
    (await program(curl, ['-sS', '--noproxy', '', ...args])).stdout.toString()
  const name = `web.${node.up.id}.natwork`
  for (const how of [
    ['-x', `socks5h://127.0.0.1:${port}`],
    ['-x', `http://127.0.0.1:${port}`],
    ['-p', '-x', `http://127.0.0.1:${port}`],
  ]) {
    assert.equal(await get(...how, `http://${name}/a`), `/a at ${name}`, how.join(' '))
    assert.equal(await get(...how, 'http://web.box.natwork/b'), '/b at web.box.natwork')
  }
  assert.match(await get('-x', `http://127.0.0.1:${port}`, 'http://example.org/'), /reaches only hosts named/)
  assert.match(
    await get('-x', `http://127.0.0.1:${port}`, 'http://ssh.box.natwork/'),
    /offers no service "ssh"/,
  )
  assert.equal(await proxy.stop('SIGINT'), 0)
})

test('npm start: one line the second time; a signal to npm, or Ctrl-C to all of it, ends the node cleanly', async (t) => {
  const home = new Home(t, {
    npm_config_cache: join(root, 'node_modules/.cache/npm'),
    npm_config_update_notifier: 'false',
  })
  const npmStart = () => start(t, home, ['start', '--', '--host', '127.0.0.1', '--port', '0'], { npm: true })
  const first = npmStart()
  await first.sees(/npx natwork forward 8080 natwork1/)
  const second = npmStart()
  assert.equal(await second.ended, 4)
  assert.match(second.stderr, /^natwork: a node already runs here \(pid \d+\)/m)
  // npm's exit code is its own; that it ends at all means that the node has let go of its stdout.
  await first.stop('SIGTERM')
  assert.match(first.stderr, /stopped/)
  assert.equal((await run(t, home, ['status'])).code, 4)

  const third = npmStart()
  await third.sees(/npx natwork forward/)
  process.kill(-(third.child.pid ?? 0), 'SIGINT')
  await third.ended
  assert.match(third.stderr, /stopped/)
  assert.equal((await run(t, home, ['status'])).code, 4)
})
