import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { compile, sourceHash, targets } from '../../../native/udp/compile.mjs'
import type { Addon } from '../../../src/socket/native-addon.ts'
import { findProgram } from '../../../scripts/system.mjs'

const run = promisify(execFile)
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const folder = here('../../../native/udp')
const cc = findProgram('cc') ?? ''

test('a C compiler is here', () => {
  assert.notEqual(cc, '', 'these tests compile: apt-get install gcc libc6-dev')
})

test('what is shipped was built from the sources as they are', (t) => {
  const scratch = scratchFolder(t)
  for (const { name, compilers } of targets) {
    const shipped = readFileSync(join(folder, 'prebuilt', `${name}.node`))
    assert.ok(shipped.includes(sourceHash()), `${name}.node is of other sources: npm run build:native`)
    // No libc by name: the one that Node runs on has what is called, glibc and musl alike.
    for (const library of ['libc.so', 'libc.musl', 'libgcc_s']) assert.ok(!shipped.includes(library))
    // The same compiler gives the same bytes: nobody can hide anything in a binary.
    const compiler = compilers.find((one) => findProgram(one) !== undefined)
    if (compiler === undefined) continue
    const file = join(scratch, `${name}.node`)
    compile(compiler, file)
    const built = readFileSync(file)
    if (versionOf(built) === versionOf(shipped)) assert.ok(built.equals(shipped), `${name}.node differs`)
  }
})

test('where nothing was prebuilt the addon is compiled on install; without a compiler that is no error', async (t) => {
  const scratch = scratchFolder(t)
  for (const name of readdirSync(folder)) {
    if (/\.(c|h|mjs)$/.test(name)) copyFileSync(join(folder, name), join(scratch, name))
  }
  const install = [join(scratch, 'install.mjs')]
  const built = join(scratch, 'build', `${process.platform}-${process.arch}.node`)
  await run(process.execPath, install, { env: { PATH: scratch } })
  assert.throws(() => readFileSync(built), { code: 'ENOENT' })
  await run(process.execPath, install)
  const addon = createRequire(import.meta.url)(built) as Addon
  assert.equal(addon.sourceHash, sourceHash())
})

// Each names faults of fixtures/faults.c and what the driver then calls itself.
const kernels = [
  ['full-queue', 'native (recvmmsg + UDP_GRO, sendmmsg + UDP_SEGMENT)'],
  ['interrupted', 'native (recvmmsg + UDP_GRO, sendmmsg + UDP_SEGMENT)'],
  ['merged-eio', 'native (recvmmsg + UDP_GRO, sendmmsg + UDP_SEGMENT)'],
  ['merged-einval full-queue', 'native (recvmmsg + UDP_GRO, sendmmsg + UDP_SEGMENT)'],
  ['no-offload full-queue', 'native (recvmmsg, sendmmsg)'],
  ['no-batches', 'node:dgram'],
] as const

test('the driver does its work on a kernel that refuses', { timeout: 120_000 }, async (t) => {
  const library = join(scratchFolder(t), 'faults.so')
  await run(cc, ['-shared', '-fPIC', '-O1', '-o', library, here('fixtures/faults.c')])
  for (const [faults, driver] of kernels) {
    await t.test(faults, async () => {
      const { stdout } = await run(process.execPath, ['--import', 'tsx', here('fixtures/exchange.ts')], {
        env: { ...process.env, LD_PRELOAD: library, NATWORK_FAULTS: faults },
        timeout: 60_000,
      })
      assert.equal(stdout, `${driver}: 5000 of 5000\n`)
    })
  }
})

function scratchFolder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'natwork-native-'))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

/** The compiler's own words in its output. */
function versionOf(binary: Buffer): string {
  return /GCC: \([^\0]*/.exec(binary.toString('latin1'))?.[0] ?? 'unknown'
}
