// 80 s. Every router kind seen from outside, as root and as an unprivileged user, and nothing left behind.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { selfTest } from '../../src/lab/index.ts'
import { kindNames } from '../../src/sim/kinds.ts'
import { labUnavailable } from './available.ts'

const skip = await labUnavailable()

test('every kind is as declared, and nothing stays', { skip }, async () => {
  const own = `\0lab-${process.pid}-` // in the names of its labs
  const before = hostState(own)
  const reports = await selfTest()
  assert.deepEqual(
    reports.filter(({ disagreements }) => disagreements.length > 0),
    [],
  )
  assert.deepEqual(
    reports.map(({ kind }) => kind),
    [...kindNames],
  )
  assert.deepEqual(hostState(own), before)
})

const notRoot =
  skip || (process.getuid?.() !== 0 && 'this very process has no privileges: the test above was it')

test('the same for a user without any privilege', { skip: notRoot }, () => {
  const home = mkdtempSync(join(tmpdir(), 'natwork-nobody-'))
  try {
    execFileSync('chown', ['nobody', home])
    // The helper lies in this user's own cache: every process of its labs has that in its command line.
    const before = hostState(home)
    const index = new URL('../../src/lab/index.ts', import.meta.url).href
    const script = `
      import { selfTest } from ${JSON.stringify(index)}
      const reports = await selfTest()
      console.log(JSON.stringify(reports.filter(({ disagreements }) => disagreements.length > 0)))`
    const { status, stdout, stderr } = spawnSync(
      'setpriv',
      [
        '--reuid=nobody',
        '--regid=nogroup',
        '--clear-groups',
        '--no-new-privs',
        process.execPath,
        '--import',
        'tsx',
        '--input-type=module',
        '-e',
        script,
      ],
      {
        cwd: fileURLToPath(new URL('../..', import.meta.url)),
        env: { PATH: '/usr/bin:/bin', HOME: home, TMPDIR: home },
        encoding: 'utf8',
      },
    )
    assert.equal(stderr, '')
    assert.equal(status, 0)
    assert.deepEqual(JSON.parse(stdout), [])
    assert.deepEqual(hostState(home), before)
  } finally {
    rmSync(home, { recursive: true })
  }
})

/** What a lab could leave: interfaces, named namespaces, mounts, and processes of its own. */
function hostState(marker: string): object {
  return {
    links: execFileSync('ip', ['-br', 'link'], { encoding: 'utf8' }),
    namespaces: execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }),
    mounts: readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length,
    processes: processesWith(marker),
  }
}

function processesWith(marker: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      const command = /^\d+$/.test(pid) ? readFileSync(`/proc/${pid}/cmdline`, 'utf8') : ''
      return command.includes(marker) ? [command] : []
    } catch {
      return []
    }
  })
}
