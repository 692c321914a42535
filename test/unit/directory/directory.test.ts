import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import {
  createContext,
  memoryDirectory,
  openLevelDirectory,
  type Directory,
} from '../../../src/directory/index.ts'
import { createIdentity, generatePrivateKey } from '../../../src/network/identity.ts'
import { signNodeInfo, type NodeInfo } from '../../../src/network/node-info.ts'
import { signTicket } from '../../../src/network/ticket.ts'

const alice = await createIdentity(generatePrivateKey())
const record = (sequence: number, identity = alice, expires = 2_000_000_000): NodeInfo =>
  signNodeInfo(identity, { addresses: [{ address: '192.0.2.1', port: 1315 }], sequence, expires })

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'natwork-directory-'))
  t.after(() => rm(path, { recursive: true, force: true }))
  return join(path, 'nodes')
}

async function all(directory: Directory): Promise<string[]> {
  const ids: string[] = []
  for await (const id of directory.list()) ids.push(id)
  return ids
}

const drivers: Record<string, (t: TestContext, options?: { limit: number }) => Promise<Directory>> = {
  memory: (_t, options) => Promise.resolve(memoryDirectory(options)),
  level: async (t, options) => {
    const directory = await openLevelDirectory(await folder(t), options)
    t.after(() => directory.close())
    return directory
  },
}

for (const [name, open] of Object.entries(drivers)) {
  test(`${name}: the newer sequence wins, whatever comes first or at once`, async (t) => {
    const directory = await open(t)
    assert.equal(await directory.get(alice.id), undefined)
    const kept = await Promise.all([2, 5, 3, 5, 4].map((sequence) => directory.put(record(sequence))))
    assert.deepEqual(kept, [true, true, false, false, false])
    assert.equal((await directory.get(alice.id))?.sequence, 5)
    assert.deepEqual(await all(directory), [alice.id])
    assert.equal(await directory.remove(alice.id), true)
    assert.equal(await directory.remove(alice.id), false)
    assert.deepEqual(await all(directory), [])
  })

  test(`${name}: a record that does not verify is never kept`, async (t) => {
    const directory = await open(t)
    await assert.rejects(directory.put({ ...record(1), sequence: 9 }), { code: 'ERR_NATWORK_NODE_INFO' })
    assert.equal(await directory.get(alice.id), undefined)
    assert.deepEqual(await all(directory), [])
  })

  test(`${name}: beyond its limit the record that expires first goes`, async (t) => {
    const directory = await open(t, { limit: 2 })
    const others = await Promise.all([1, 2, 3].map(() => createIdentity(generatePrivateKey())))
    await directory.put(record(1, others[0], 300))
    await directory.put(record(1, others[1], 100))
    await directory.put(record(1, others[2], 200))
    assert.deepEqual((await all(directory)).sort(), [others[0]?.id, others[2]?.id].sort())
  })

  test(`${name}: a ticket's uses are counted per node, once each, and revocation ends it`, async (t) => {
    const { tickets } = await open(t)
    const bob = await createIdentity(generatePrivateKey())
    const ticket = signTicket(alice, { service: 'web', uses: 1, expires: 1_000, addresses: [] })
    assert.equal(await tickets.redeem(ticket.ticketId, bob.id), 'unknown')
    await tickets.add(ticket, 0)
    const results = await Promise.all(
      [bob.id, alice.id, bob.id].map((by) => tickets.redeem(ticket.ticketId, by)),
    )
    assert.deepEqual(results, ['ok', 'used-up', 'ok'])
    assert.deepEqual(await tickets.list(), [
      { ticketId: ticket.ticketId, service: 'web', expires: 1_000, uses: 1, usedBy: [bob.id] },
    ])
    assert.equal(await tickets.revoke(ticket.ticketId), true)
    assert.equal(await tickets.redeem(ticket.ticketId, bob.id), 'unknown')
  })

  test(`${name}: tickets that have expired are swept when another is made`, async (t) => {
    const { tickets } = await open(t)
    const make = (expires: number) => signTicket(alice, { service: 'web', uses: 1, expires, addresses: [] })
    await tickets.add(make(10), 0)
    const second = make(20)
    await tickets.add(second, 10)
    assert.deepEqual(
      (await tickets.list()).map(({ ticketId }) => ticketId),
      [second.ticketId],
    )
  })
}

test('level: records and used tickets survive a restart', async (t) => {
  const path = await folder(t)
  const ticket = signTicket(alice, { service: 'web', uses: 1, expires: 1_000, addresses: [] })
  const first = await openLevelDirectory(path)
  await first.put(record(3))
  await first.tickets.add(ticket, 0)
  await first.tickets.redeem(ticket.ticketId, alice.id)
  await first.close()
  await first.close()
  const second = await openLevelDirectory(path)
  t.after(() => second.close())
  assert.deepEqual(await second.get(alice.id), record(3))
  const bob = await createIdentity(generatePrivateKey())
  assert.equal(await second.tickets.redeem(ticket.ticketId, bob.id), 'used-up')
})

test('level: what was written is there after the process is killed', async (t) => {
  const path = await folder(t)
  const script = `
    import { openLevelDirectory } from './src/directory/index.ts'
    const directory = await openLevelDirectory(process.argv[1])
    await directory.put(JSON.parse(process.argv[2]))
    console.log('written')
    setInterval(() => {}, 1000)
  `
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', script, '--', path, JSON.stringify(record(3))],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await once(child.stdout, 'data')
  // Another process has it meanwhile.
  await assert.rejects(openLevelDirectory(path), {
    name: 'SystemError',
    code: 'ERR_NATWORK_DIRECTORY_LOCKED',
    message: /another natwork process/,
  })
  child.kill('SIGKILL')
  await once(child, 'exit')
  const directory = await openLevelDirectory(path)
  t.after(() => directory.close())
  assert.deepEqual(await directory.get(alice.id), record(3))
})

test('level: a damaged database says so and what to do', async (t) => {
  const path = await folder(t)
  const directory = await openLevelDirectory(path)
  await directory.put(record(1))
  await directory.close()
  for (const file of await readdir(path)) {
    if (file.startsWith('MANIFEST')) await writeFile(join(path, file), 'damaged '.repeat(50))
  }
  await assert.rejects(openLevelDirectory(path), {
    code: 'ERR_NATWORK_DIRECTORY_CORRUPTED',
    message: /move it away/,
  })
})

test('level: a folder that cannot be made is one clear error', async (t) => {
  const path = await folder(t)
  await writeFile(path, 'a file')
  await assert.rejects(openLevelDirectory(path), { name: 'SystemError', code: 'ERR_NATWORK_DIRECTORY' })
})

const canMount = process.platform === 'linux' && process.getuid?.() === 0 && tryMount()

test(
  'level: a full disk is a typed error, nothing is lost, and it works again when there is room',
  { skip: canMount ? false : 'needs root and the right to mount a tmpfs: run as root' },
  async (t) => {
    const path = await mkdtemp(join(tmpdir(), 'natwork-full-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'none', path])
    t.after(async () => {
      execFileSync('umount', ['-l', path])
      await rm(path, { recursive: true })
    })
    let directory = await openLevelDirectory(join(path, 'nodes'))
    await directory.put(record(1))
    await writeFile(join(path, 'filler'), Buffer.alloc(300_000)).catch(() => undefined)
    await assert.rejects(
      async () => {
        for (let sequence = 2; sequence < 1_000; sequence++) await directory.put(record(sequence))
      },
      { name: 'SystemError', code: 'ERR_NATWORK_DIRECTORY_FULL', message: /free some space/ },
    )
    const last = await directory.get(alice.id)
    assert.ok(last !== undefined && last.sequence >= 1)
    await rm(join(path, 'filler'))
    assert.equal(await directory.put(record(10_000)), true)
    await directory.close()
    directory = await openLevelDirectory(join(path, 'nodes'))
    assert.equal((await directory.get(alice.id))?.sequence, 10_000)
    await directory.close()
  },
)

test('createContext: a key file is made on first use and gives the same node again', async (t) => {
  const file = join(await folder(t), 'key.pem')
  const directory = memoryDirectory()
  const first = await createContext({ directory, privateKey: file }).getSelf()
  const again = await createContext({ directory, privateKey: file }).getSelf()
  assert.equal(again.id, first.id)
  const other = await createContext({ directory }).getSelf()
  assert.notEqual(other.id, first.id)
  await directory.put(record(4))
  const known = await createContext({ directory, privateKey: alice.privateKey }).getSelf()
  assert.equal(known.sequence, 4)
})

function tryMount(): boolean {
  const path = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim()
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', path]).status === 0
  if (mounted) execFileSync('umount', [path])
  execFileSync('rmdir', [path])
  return mounted
}
