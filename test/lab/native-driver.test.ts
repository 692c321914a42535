// 5 s. The batched driver where packets leave the machine: rows are cut into datagrams, and each keeps its own TTL.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Lab } from '../../src/lab/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const program = (role: string, ...args: string[]): string[] => [
  '--import',
  'tsx',
  fileURLToPath(new URL('native-driver.ts', import.meta.url)),
  role,
  ...args,
]

/** Starts the receiver, runs the sender, and says what arrived. */
async function exchange(t: TestContext, lab: Lab, ...what: string[]): Promise<string[]> {
  const cwd = fileURLToPath(new URL('../..', import.meta.url))
  const receiver = lab.exec('receiver', process.execPath, program('receive'), { cwd })
  t.after(() => receiver.kill())
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]()
  const port = (await lines.next()).value as string
  const sender = await lab.run(
    'sender',
    process.execPath,
    program('send', lab.address('receiver'), port, ...what),
    { cwd },
  )
  assert.equal(sender.stderr, '')
  return JSON.parse((await lines.next()).value as string) as string[]
}

test('rows arrive as single datagrams, whole and in order, over a wire of MTU 1500', { skip }, async (t) => {
  await using lab = await Lab.create({ hosts: { sender: {}, receiver: {} }, sites: {} })
  const sizes = [...Array<number>(100).fill(1_448), 700, ...Array<number>(30).fill(1_200), 9]
  const got = await exchange(t, lab, ...sizes.map((size) => `${size}`))
  assert.deepEqual(
    got,
    sizes.map((size, i) => `${i % 256} ${size}`),
  )
  // The emulator counts what passes the wire: no row passed as one.
  assert.equal(await lab.packetsBetween('sender', 'receiver'), sizes.length + 1)
})

test('a TTL is the datagram’s own, also between others of its row', { skip }, async (t) => {
  await using lab = await Lab.create({
    hosts: { sender: { path: { hops: 3 } }, receiver: { path: { hops: 3 } } },
    sites: {},
  })
  const got = await exchange(t, lab, '100', '100/3', '100', '100/9', '100/6', '100')
  assert.deepEqual(got, ['0 100', '2 100', '3 100', '5 100'])
})
