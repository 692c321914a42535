// What goes wrong on the user's side: one line that says what and what to do, an exit code, and nothing lost.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { Home, main, program, run, runJson, start, startForward, startNode } from './natwork.ts'
import { listen } from './servers.ts'

const stranger = 'bqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqa'

function fails(result: { code: number; stderr: string }, code: number, line: RegExp): void {
  assert.match(result.stderr, line)
  assert.equal(result.stderr.trim().split('\n').length, 1, `one line, not\n${result.stderr}`)
  assert.equal(result.code, code)
}

test('a wrong command line', async (t) => {
  const home = new Home(t)
  fails(await run(t, home, ['fly']), 2, /^natwork: unknown command 'fly'/)
  fails(await run(t, home, ['status', '--jsn']), 2, /unknown option '--jsn'.*--json/)
  fails(await run(t, home, ['forward', '8080']), 2, /missing required argument/)
  fails(
    await run(t, home, ['forward', 'x', `${stranger}/web`]),
    2,
    /"x" is no place to listen on: write a port/,
  )
  fails(await run(t, home, ['forward', '0', 'somewhere']), 2, /neither a ticket nor ID\/NAME/)
  fails(await run(t, home, ['cat', 'laptop/ssh']), 2, /"laptop" is no node id .*, and no name under `peers`/)
  fails(await run(t, home, ['cat', 'natwork1abc']), 2, /not a usable ticket/)
  fails(await run(t, home, ['ping', stranger, '--count', '0']), 2, /--count/)
  fails(await run(t, home, ['up', '--expose', 'web']), 2, /--expose: "web" is not NAME=HOST:PORT/)
  const json = await run(t, home, ['fly', '--json'])
  assert.equal((JSON.parse(json.stderr) as { error: { code: string } }).error.code, 'ERR_NATWORK_USAGE')
  const nothing = await run(t, home, [])
  assert.equal(nothing.code, 2)
  assert.match(nothing.stderr, /^Usage: natwork/)
})

test('a bad configuration', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'config/natwork/config.yaml')
  mkdirSync(join(file, '..'))
  writeFileSync(file, 'host: 127.0.0.1\nport: none\n')
  fails(await run(t, home, ['up']), 2, /config\.yaml:2: port: write a number from 0 to 65535/)
  writeFileSync(file, 'host: nowhere.invalid\nport: 0\n')
  fails(await run(t, home, ['up']), 2, /nowhere\.invalid/)
  writeFileSync(file, '')
  fails(await run(t, home, ['up'], { NATWORK_PORT: '1e9' }), 2, /^natwork: NATWORK_PORT: write a number/)
  fails(
    await run(t, home, ['up', '--config', '/none']),
    3,
    /cannot read the configuration \/none: there is no such file/,
  )
})

test('a port in use: UDP of the node, TCP of a forward and of a proxy', async (t) => {
  const udp = createSocket('udp4')
  t.after(() => udp.close())
  udp.bind(0, '127.0.0.1')
  await once(udp, 'listening')
  const taken = String(udp.address().port)
  fails(
    await run(t, new Home(t), ['up', '--host', '127.0.0.1', '--port', taken]),
    3,
    new RegExp(`${taken}.*port`),
  )

  const tcp = createServer()
  const port = String(await listen(t, tcp))
  const node = await startNode(t, new Home(t), ['--demo'])
  fails(await run(t, new Home(t), ['forward', port, node.ticket]), 3, new RegExp(`${port}: .*choose another`))
  fails(await run(t, new Home(t), ['proxy', port]), 3, new RegExp(`${port}: .*choose another`))
})

test('a node that runs already; no node at all', async (t) => {
  const home = new Home(t)
  for (const args of [['status'], ['expose', 'web=127.0.0.1:80'], ['unexpose', 'web']]) {
    fails(await run(t, home, args), 4, /^natwork: no node runs here: start one with `natwork up`/)
  }
  const node = await startNode(t, home, ['--demo'])
  const again = await run(t, home, ['up', '--port', '0'])
  fails(again, 4, new RegExp(`a node already runs here \\(pid ${node.child.pid ?? 0}\\)`))
  await runJson(t, home, ['status'])
  assert.equal(await node.stop(), 0)
})

test('a node that was killed leaves nothing that stops the next', async (t) => {
  const home = new Home(t)
  const first = await startNode(t, home)
  await runJson(t, home, ['expose', 'web=127.0.0.1:80', '--allow', stranger])
  await first.stop('SIGKILL')
  const second = await startNode(t, home)
  const { services } = await runJson<{ services: unknown }>(t, home, ['status'])
  assert.deepEqual(services, [{ name: 'web', target: '127.0.0.1:80', allow: [stranger] }])
  assert.equal(second.up.id, first.up.id)
})

test('an unknown id, an altered ticket, a service that is not there or not for us', async (t) => {
  const home = new Home(t)
  const owner = new Home(t)
  const other = new Home(t)
  const unknown = /^natwork: no address of bq.* is known: use a ticket/
  for (const args of [
    ['cat', `${stranger}/ssh`],
    ['ping', stranger],
    ['forward', '0', `${stranger}/web`],
  ]) {
    fails(await run(t, home, args), 5, unknown)
  }
  const node = await startNode(t, owner, ['--demo'])
  fails(
    await run(t, home, ['cat', `${node.ticket.slice(0, -2)}xx`]),
    2,
    /not a usable ticket: part of it is missing/,
  )

  const [address = ''] = node.up.listens.split(' ')
  mkdirSync(join(home.path, 'config/natwork'))
  writeFileSync(
    join(home.path, 'config/natwork/config.yaml'),
    `peers:\n  box: { id: ${node.up.id}, addresses: ["${address}"] }\n  wrong: { id: ${stranger}, addresses: ["${address}"] }\n`,
  )
  fails(await run(t, home, ['cat', 'box/demo']), 6, /offers no service "demo", or not to this node/)
  fails(await run(t, home, ['ping', 'wrong']), 6, new RegExp(`expected ${stranger}, found ${node.up.id}`))

  const { ticket } = await runJson<{ ticket: string }>(t, owner, ['expose', 'demo', '--ticket'])
  assert.equal((await run(t, home, ['cat', ticket])).code, 0, 'the first node uses the ticket up')
  fails(await run(t, other, ['cat', ticket]), 6, /used by as many nodes as it is good for/)
  await runJson(t, owner, ['unexpose', 'demo'])
  fails(await run(t, home, ['cat', node.ticket]), 6, /offers no service "demo"/)
})

test('a service that does not answer', async (t) => {
  const closed = createServer()
  await once(closed.listen(0, '127.0.0.1'), 'listening')
  const { port } = closed.address() as AddressInfo
  await new Promise((resolve) => closed.close(resolve))
  const node = await startNode(t, new Home(t), ['--expose', `gone=127.0.0.1:${port}`])
  const refused = await run(t, new Home(t), ['cat', node.ticket])
  fails(refused, 6, /shares "gone", but nothing answers on its local port/)
})

test('a peer that vanishes in the middle', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => undefined).write('hello'))
  const node = await startNode(t, new Home(t), ['--expose', `silent=127.0.0.1:${await listen(t, silent)}`])
  const cat = start(t, new Home(t), ['cat', node.ticket], { stdio: ['pipe', 'pipe', 'pipe'] })
  await cat.sees(/hello/)
  await node.stop('SIGKILL')
  cat.child.stdin?.on('error', () => undefined).write('are you there?')
  assert.equal(await cat.ended, 5)
  assert.match(cat.stderr, /^natwork: .+\n$/)
})

test('cat and ping end by the signal that ended them', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => undefined).write('hello'))
  const node = await startNode(t, new Home(t), ['--expose', `silent=127.0.0.1:${await listen(t, silent)}`])
  const expected = [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const
  for (const [signal, code] of expected) {
    const cat = start(t, new Home(t), ['cat', node.ticket], { stdio: ['pipe', 'pipe', 'pipe'] })
    await cat.sees(/hello/)
    assert.equal(await cat.stop(signal), code)
    assert.equal(cat.stderr, '')
  }
})

test('a full disk: nothing that was there is lost', async (t) => {
  const enter = process.getuid?.() === 0 ? ['-m'] : ['-rm']
  if (spawnSync('unshare', [...enter, 'true']).status !== 0) {
    t.skip('no mount namespaces here; root, or `sysctl kernel.unprivileged_userns_clone=1`, enables it')
    return
  }
  const home = new Home(t)
  // A state folder of 8 MiB: a node shares something there, the disk fills up, things are tried, the node starts again.
  const script = `
    set -e
    mount -t tmpfs -o size=8m none "$XDG_STATE_HOME"
    natwork() { "${process.execPath}" "${main}" "$@"; }
    up() {
      : > up.log
      "${process.execPath}" "${main}" up --host 127.0.0.1 --port 0 --json > up.log & node=$!
      until grep -q '"up"' up.log; do kill -0 $node; sleep 0.1; done
    }
    trap 'kill $node 2> /dev/null || true' EXIT
    up
    natwork expose kept=127.0.0.1:80 --json > /dev/null
    dd if=/dev/zero of="$XDG_STATE_HOME/ballast" bs=64k 2> /dev/null || true
    dd if=/dev/zero of="$XDG_STATE_HOME/ballast2" bs=1k 2> /dev/null || true
    natwork expose lost=127.0.0.1:81 && exit 90
    echo "expose $?"
    kill -TERM $node; wait $node && echo "down 0"
    natwork up --host 127.0.0.1 --port 0 && exit 91
    echo "up $?"
    rm "$XDG_STATE_HOME/ballast" "$XDG_STATE_HOME/ballast2"
    up
    natwork status --json
    kill -TERM $node; wait $node`
  const { code, stdout, stderr } = await program('unshare', [...enter, 'sh', '-c', script], {
    env: { ...home.env, PWD: home.path },
    cwd: home.path,
  })
  const lines = stdout.toString().trim().split('\n')
  assert.deepEqual(lines.slice(0, 3), ['expose 3', 'down 0', 'up 3'], stderr)
  assert.equal(code, 0, stderr)
  const { services } = JSON.parse(lines[3] ?? '') as { services: { name: string }[] }
  assert.deepEqual(
    services.map(({ name }) => name),
    ['kept'],
  )
  const said = stderr
    .trim()
    .split('\n')
    .filter((line) => !line.includes('"down"'))
  assert.equal(said.length, 2, stderr)
  for (const line of said) assert.match(line, /^natwork: .*(?:full).*free some space/)
})

test('a folder that may not be written', async (t) => {
  if (process.getuid?.() === 0) {
    // Root may write anywhere: a file in the way does it too.
    const home = new Home(t)
    writeFileSync(join(home.path, 'state/natwork'), '')
    fails(await run(t, home, ['up', '--port', '0']), 3, /cannot make the folder .*state\/natwork/)
    return
  }
  const home = new Home(t)
  chmodSync(join(home.path, 'state'), 0o500)
  fails(await run(t, home, ['up', '--port', '0']), 3, /cannot make the folder .*: permission denied/)
})

test('a forward whose node stops says so and ends', async (t) => {
  const owner = await startNode(t, new Home(t), ['--demo'])
  const home = new Home(t)
  const node = await startNode(t, home)
  const forward = await startForward(t, home, owner.ticket)
  await node.stop()
  assert.equal(await forward.ended, 5)
  assert.match(forward.stderr, /"ERR_NATWORK_NODE_GONE"/)
})
