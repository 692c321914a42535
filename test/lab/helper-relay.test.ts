// 40 s. Two nodes that have only their helper's relay between them: over UDP behind symmetric NATs, and over TLS on 443 where
// UDP is blocked on one side or both. In the middle of a pipe the helper is killed and started again. The whole 100 MiB each:
// NATWORK_TEST_FULL=1 node --import tsx --test test/lab/helper-relay.test.ts
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Lab, type PipedProcess } from '../../src/lab/index.ts'
import type { KindName } from '../../src/sim/index.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()
const program = fileURLToPath(new URL('traversal-node.ts', import.meta.url))
const MiB = 1_048_576
const bytes = (process.env['NATWORK_TEST_FULL'] === '1' ? 100 : 6) * MiB

interface Said {
  readonly id?: string
  readonly connected?: number
  readonly blocked?: boolean
  readonly moved?: number
  readonly same?: boolean
  readonly history?: readonly string[]
  readonly sent?: number
  readonly seconds?: number
  readonly error?: string
}

class Spoken {
  readonly child: PipedProcess
  readonly #lines: AsyncIterator<string>
  #log = ''

  constructor(lab: Lab, host: string, role: string, options: object, ...more: string[]) {
    const args = ['--import', import.meta.resolve('tsx'), program, role, JSON.stringify(options), ...more]
    this.child = lab.exec(host, process.execPath, args)
    this.child.stderr.on('data', (text) => (this.#log += String(text)))
    this.#lines = createInterface(this.child.stdout)[Symbol.asyncIterator]()
  }

  async hear(is: (said: Said) => boolean): Promise<Said> {
    for (;;) {
      const next = await this.#lines.next()
      if (next.done === true) throw new Error(`the node ended: ${this.#log}`)
      const said = JSON.parse(next.value) as Said
      if (said.error !== undefined) throw new Error(said.error)
      if (is(said)) return said
    }
  }

  async kill(): Promise<void> {
    const gone = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await gone
  }
}

/** A helper on the internet, or behind a NAT that lets all datagrams in, as clouds do it. */
type Place = 'outside' | 'behind a 1:1 NAT'

async function play(t: TestContext, a: KindName, b: KindName, place: Place = 'outside'): Promise<Said> {
  const folder = await mkdtemp(join(tmpdir(), 'natwork-lab-'))
  t.after(() => rm(folder, { recursive: true }))
  const hosts = { helper: { addresses: 1 as const } }
  await using lab = await Lab.create({ hosts, sites: { a, b, cloud: 'port-forward' } })
  const isOutside = place === 'outside'
  const host = lab.address(isOutside ? 'helper' : 'cloud-home')
  const where = isOutside ? { host } : { publicAddresses: [host] }
  if (!isOutside) {
    const rule = `add rule ip nat prerouting meta l4proto udp meta iif ext0 dnat to ${lab.address('cloud1')}`
    await once(lab.exec('cloud-home', 'nft', rule.split(' ')), 'exit')
  }
  // The relay takes only addresses of the internet, and the lab's are for documentation.
  const help = { relay: { allow: ['0.0.0.0/0'] } }
  const serve = async (): Promise<Spoken & { id: string }> => {
    const options = { ...where, port: 1315, help, key: join(folder, 'key') }
    const spoken = new Spoken(lab, isOutside ? 'helper' : 'cloud1', 'helper', options)
    const { id = '' } = await spoken.hear((said) => said.id !== undefined)
    return Object.assign(spoken, { id })
  }
  const helper = await serve()
  const options = { port: 1315, helpers: [`${helper.id}@${host}:1315`], timeouts: { keepAlive: 1_000 } }
  const sink = new Spoken(lab, 'b1', 'sink', options)
  const { id = '' } = await sink.hear((said) => said.id !== undefined)
  const source = new Spoken(lab, 'a1', 'bulk', options, id, String(bytes))
  const begun = await source.hear(({ connected }) => connected !== undefined)
  await source.hear(({ moved = 0 }) => moved > bytes / 3)

  await helper.kill()
  const again = await serve()
  assert.equal(again.id, helper.id)
  source.child.stdin.write('that was it\n')
  const done = await source.hear(({ same }) => same !== undefined)
  assert.equal(done.same, true)
  assert.ok(
    done.history?.every((kind) => kind === 'relayed'),
    String(done.history),
  )
  const { sent = 0, seconds = 0 } = done
  t.diagnostic(
    `connected in ${begun.connected} ms; ${(sent / MiB).toFixed(0)} MiB in ${seconds.toFixed(1)} s, the restart included`,
  )
  return { ...begun, ...done }
}

const limit = { skip, timeout: 240_000 }

test('symmetric × symmetric: a pipe through the helper’s relay outlives its restart', limit, async (t) => {
  const { blocked } = await play(t, 'symmetric', 'symmetric')
  assert.equal(blocked, false)
})

test('the same through a helper behind a 1:1 NAT, which knows its public address', limit, async (t) => {
  const { blocked } = await play(t, 'symmetric', 'symmetric', 'behind a 1:1 NAT')
  assert.equal(blocked, false)
})

test('UDP blocked on both sides: the same over TLS on 443', limit, async (t) => {
  const { blocked } = await play(t, 'tls-only', 'udp-blocked')
  assert.equal(blocked, true)
})

test('UDP blocked at the side that is called: one half over TLS, one over UDP', limit, async (t) => {
  const { blocked } = await play(t, 'symmetric', 'tls-only')
  assert.equal(blocked, false)
})
