// The README's first minute, as two users on one machine and as two terminals of one user.
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Home, run, start, startForward, startNode } from './natwork.ts'

// One connection a request: what is tested is whether new pipes open.
const page = async (port: number) =>
  (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } })).text()

test('another user on the machine opens the page by the printed line', async (t) => {
  const node = await startNode(t, new Home(t), ['--demo'])
  const [offer] = node.up.tickets
  assert.equal(offer?.command, `npx natwork forward 8080 ${node.ticket}`)
  const forward = await startForward(t, new Home(t), node.ticket)
  assert.match(forward.stdout, new RegExp(`"url":"http://127.0.0.1:${forward.port}/"`))
  const html = await page(forward.port)
  assert.ok(html.includes(node.up.id))
  assert.match(html, /This page came through natwork/)
  assert.equal(await forward.stop('SIGINT'), 0)
  assert.equal(await node.stop('SIGINT'), 0)
})

test('a second terminal of the same user, with the node running', async (t) => {
  const home = new Home(t)
  const node = await startNode(t, home, ['--demo'])
  const forward = await startForward(t, home, node.ticket)
  assert.match(await page(forward.port), /This page came through natwork/)
  assert.equal(await forward.stop('SIGTERM'), 0)
  assert.equal(await node.stop('SIGTERM'), 0)
})

test('what people see', async (t) => {
  const node = start(t, new Home(t), ['up', '--demo', '--host', '127.0.0.1', '--port', '0'])
  const [line = ''] = await node.sees(/npx natwork (.*)/)
  assert.match(
    node.stdout,
    /● natwork is up\n\n {2}id {9}b[a-z2-7]{52}\n {2}listens {4}UDP 127\.0\.0\.1:\d+\n/,
  )
  assert.match(node.stdout, /shares {5}demo \(127\.0\.0\.1:\d+\) with who has a ticket/)
  const args = line
    .split(' ')
    .slice(2)
    .map((arg) => (arg === '8080' ? '0' : arg))
  const forward = start(t, new Home(t), args)
  const [, url] = await forward.sees(/open (http:\/\/127\.0\.0\.1:\d+\/)/)
  assert.equal((await fetch(url ?? '')).status, 200)
  assert.equal(await forward.stop('SIGINT'), 0)
  assert.equal(await node.stop('SIGINT'), 0)
  assert.ok(!`${node.stdout}${forward.stdout}`.includes('\u001b'), 'no colours in a pipe')
})

test('killing the node: the forward tells, and works again when the node is back', async (t) => {
  const owner = new Home(t, { NATWORK_PORT: '' })
  const first = await startNode(t, owner, ['--demo'])
  const udp = first.up.listens.split(':')[1] ?? ''
  const forward = await startForward(t, new Home(t), first.ticket)
  await page(forward.port)
  await first.stop('SIGKILL')
  await assert.rejects(page(forward.port))
  await forward.sees(/"error":\{"code":"ERR_NATWORK_/)
  const second = start(t, owner, ['up', '--json', '--demo', '--host', '127.0.0.1', '--port', udp])
  await second.sees(/"event":"up"/)
  assert.match(await page(forward.port), /This page came through natwork/, 'the ticket outlives its node')
  assert.equal(await forward.stop(), 0)
  assert.equal(await second.stop(), 0)
})

test('killing the forward: the node has no pipe left', async (t) => {
  const node = await startNode(t, new Home(t), ['--demo'])
  const forward = await startForward(t, new Home(t), node.ticket)
  await page(forward.port)
  const socket = await fetch(`http://127.0.0.1:${forward.port}/`, { headers: { connection: 'keep-alive' } })
  await socket.text()
  await forward.stop('SIGTERM')
  await node.sees(/"event":"pipeClosed"/)
  assert.equal(await node.stop(), 0)
})

test('the key is made on first run, for its owner only, and stays', async (t) => {
  const home = new Home(t)
  const first = await startNode(t, home)
  await first.stop()
  assert.equal(statSync(join(home.path, 'state/natwork/key.pem')).mode & 0o777, 0o600)
  const second = await startNode(t, home)
  assert.equal(second.up.id, first.up.id)
  await second.stop()
  const { stdout } = await run(t, home, ['id'])
  assert.equal(stdout, `${first.up.id}\n`)
})
