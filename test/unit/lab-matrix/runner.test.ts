// The runner against a stage without a lab: programs are plain processes here, and the counters are made up.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { appendFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Adapter, Role } from '../../../src/lab/matrix/contract.ts'
import { runMatrix, type MatrixOptions, type Pair } from '../../../src/lab/matrix/runner.ts'
import type { Stage } from '../../../src/lab/matrix/stage.ts'

const READY = `echo '{"event":"ready","info":{"from":"'$NATWORK_ROLE'"}}'; cat`
const DONE = `echo '{"event":"done","ms":120,"path":"direct","local":"192.0.2.1:1","remote":"192.0.2.2:2"}'; cat`
const pairs: Pair[] = [
  ['none', 'symmetric'],
  ['symmetric', 'none'],
]

test('plays helper, B, A in this order, tells each what it needs, and measures', async (t) => {
  const { options, log } = await fake(t, {
    a: `echo "a knows $NATWORK_PEER_INFO and $NATWORK_HELPER_INFO" >&2
        echo '{"event":"path","path":"relayed","ms":100}'; echo '{"event":"path","path":"direct","ms":300}'; ${DONE}`,
  })
  const seen: string[] = []
  const { runs, header } = await runMatrix({
    ...options,
    runs: 2,
    onRun: (run, { done, total }) => seen.push(`${run.a} ${run.b} ${run.run} ${done}/${total}`),
  })
  assert.deepEqual(seen, [
    'none symmetric 1 1/4',
    'none symmetric 2 2/4',
    'symmetric none 1 3/4',
    'symmetric none 2 4/4',
  ])
  assert.deepEqual(log.slice(0, 8), [
    'create none symmetric',
    'helper',
    'b',
    'a',
    'reset',
    'helper',
    'b',
    'a',
  ])
  assert.equal(log.filter((line) => line === 'dispose').length, 2)
  assert.equal(header.stack, 'fake')
  const [run] = runs
  assert.equal(run?.verdict, 'direct')
  assert.equal(run.firstByteMs, 120)
  assert.equal(run.pathMs, 300)
  assert.equal(run.remote, '192.0.2.2:2')
  assert.match(run.logs['a'] ?? '', /a knows {"from":"b"} and {"from":"helper"}/)
  assert.deepEqual(run.conntrack, { 'a-home': 'udp 17 …' })
})

test('a path counts from the first byte on, though its program knew it sooner', async (t) => {
  const { options } = await fake(t, { a: `echo '{"event":"path","path":"direct","ms":60}'; ${DONE}` })
  const { runs } = await runMatrix({ ...options, pairs: pairs.slice(0, 1) })
  assert.deepEqual([runs[0]?.firstByteMs, runs[0]?.pathMs], [120, 120])
})

test('programs that can play again rest between runs, and begin anew after one that failed', async (t) => {
  const again = (first: string, then: string): string => `
    echo '${first}'; while read order; do echo "told $order" >&2
      case "$order" in *rest*) echo '{"event":"resting"}';; *) echo '${then}';; esac; done`
  const done = '{"event":"done","ms":120,"path":"direct"}'
  const { options, log } = await fake(t, {
    b: again('{"event":"ready","info":1}', '{"event":"ready","info":2}'),
    a: again(done, '{"event":"failed","reason":"unlucky"}'),
  })
  const { runs } = await runMatrix({
    ...options,
    adapter: { ...options.adapter, again: true },
    pairs: pairs.slice(0, 1),
    runs: 3,
  })
  assert.deepEqual(
    runs.map(({ verdict, reason }) => reason ?? verdict),
    ['direct', 'unlucky', 'direct'],
  )
  // The third run follows a failure: everybody is started anew.
  assert.deepEqual(log, [
    'create none symmetric',
    'helper',
    'b',
    'a',
    'reset',
    'reset',
    'helper',
    'b',
    'a',
    'dispose',
  ])
  assert.match(runs[1]?.logs['a'] ?? '', /told {"do":"play","peerInfo":2}/)
  assert.doesNotMatch(runs[1]?.logs['b'] ?? '', /"ready","info":1/)
})

test('goes on where an interrupted matrix ended, half a line and all', async (t) => {
  const { options, log } = await fake(t, { a: DONE })
  await runMatrix({ ...options, pairs: pairs.slice(0, 1) })
  const file = join(options.folder, 'results.jsonl')
  const whole = await readFile(file, 'utf8')
  await appendFile(file, '{"type":"run","a":"symmetric","b":"no')
  log.length = 0
  const { runs } = await runMatrix(options)
  assert.deepEqual(
    log.filter((line) => line.startsWith('create')),
    ['create symmetric none'],
  )
  assert.equal(runs.length, 2)
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n')
  assert.equal(lines.length, 3)
  assert.ok(lines.every((line) => JSON.parse(line) !== undefined))
  assert.ok((await readFile(file, 'utf8')).startsWith(whole))

  log.length = 0
  await runMatrix(options)
  assert.deepEqual(log, [])

  await assert.rejects(runMatrix({ ...options, links: { loss: 0.1 } }), {
    message: /holds another matrix \(loss as the lab has it\): choose another folder/,
  })
  const other = { ...options, adapter: { ...options.adapter, version: '2' } }
  await assert.rejects(runMatrix(other), {
    code: 'ERR_NATWORK_LAB_RESULTS',
    message: /holds another matrix \(stackVersion 1\): choose another folder/,
  })
  await writeFile(file, 'my diary\n')
  await assert.rejects(runMatrix(options), { code: 'ERR_NATWORK_LAB_RESULTS', message: /not readable/ })
})

test('a failure has a reason: time-out, exit, the program’s own word, counters that say nothing came', async (t) => {
  const reasonOf = async (programs: Partial<Record<Role, string>>, more: Partial<MatrixOptions> = {}) => {
    const { options } = await fake(t, programs)
    const { runs } = await runMatrix({ ...options, pairs: pairs.slice(0, 1), ...more })
    assert.equal(runs[0]?.verdict, 'failed')
    return runs[0].reason
  }
  assert.equal(await reasonOf({ a: 'cat' }, { timeoutMs: 300 }), 'no answer within 0.3 s')
  assert.equal(await reasonOf({ a: 'exit 7' }), 'ended with exit code 7 without an answer')
  assert.equal(await reasonOf({ b: 'kill -9 $$' }), 'B: ended with SIGKILL without an answer')
  assert.equal(await reasonOf({ a: `echo '{"event":"failed","reason":"no route"}'; cat` }), 'no route')
  const silent = { createStage: fakeStage([], { sentByA: 0, receivedByB: 0, helperIn: 0, helperOut: 0 }) }
  assert.match((await reasonOf({ a: DONE }, silent)) ?? '', /did not cross the wires/)
})

test('a helper that does not get ready ends the matrix: one line with its own words', async (t) => {
  const { options, log } = await fake(t, { helper: 'echo "port 443 is taken" >&2; exit 1' })
  await assert.rejects(runMatrix(options), {
    code: 'ERR_NATWORK_LAB_ADAPTER',
    message: 'the helper of "fake" is not ready: ended with exit code 1 without an answer: port 443 is taken',
  })
  assert.deepEqual(log, ['create none symmetric', 'helper', 'dispose'])
})

test('a helper that was ready before is given a second chance at the end, and not a third', async (t) => {
  const failsIn = async (count: number): Promise<string[]> => {
    const folder = await mkdtemp(join(tmpdir(), 'natwork-matrix-'))
    t.after(() => rm(folder, { recursive: true, force: true }))
    // The first helper of all gets ready, so many after it do not.
    const helper = `n=$(ls ${folder} | wc -l); touch ${folder}/$n; [ $n = 0 ] || [ $n -gt ${count} ] || exit 1; ${READY}`
    const { options, log } = await fake(t, { helper, a: DONE })
    const { runs } = await runMatrix({ ...options, pairs: [...pairs, ['none', 'none']] })
    assert.equal(runs.length, 3)
    return log.filter((line) => line.startsWith('create'))
  }
  const created = ['create none symmetric', 'create symmetric none', 'create none none']
  assert.deepEqual(await failsIn(0), created)
  assert.deepEqual(await failsIn(1), [...created, 'create symmetric none'])
  await assert.rejects(failsIn(3), { code: 'ERR_NATWORK_LAB_ADAPTER' })
})

test('an abort ends programs and stages, and keeps what was measured', async (t) => {
  const { options, log } = await fake(t, { a: `test $NATWORK_TIMEOUT = 20000 && ${DONE}` })
  const stop = new AbortController()
  const stopped = runMatrix({
    ...options,
    runs: 50,
    parallel: 2,
    captures: true,
    signal: stop.signal,
    onRun: () => stop.abort(new Error('enough')),
  })
  await assert.rejects(stopped, { message: 'enough' })
  assert.equal(log.filter((line) => line === 'dispose').length, 2)
  const lines = (await readFile(join(options.folder, 'results.jsonl'), 'utf8')).trimEnd().split('\n')
  assert.ok(lines.length >= 2 && lines.length <= 3)
  assert.deepEqual(await readdir(join(options.folder, 'captures')), [])
})

test('captures stay only for runs that failed or whose program was wrong', async (t) => {
  const { options } = await fake(t, { a: DONE })
  const kept = await runMatrix({
    ...options,
    captures: true,
    pairs: pairs.slice(0, 1),
    createStage: fakeStage([], { sentByA: 3e5, receivedByB: 3e5, helperIn: 3e5, helperOut: 3e5 }),
  })
  assert.equal(kept.runs[0]?.verdict, 'relayed')
  assert.equal(kept.runs[0].claimed, 'direct')
  assert.deepEqual(Object.keys(kept.runs[0].captures), ['a', 'b', 'helper'])
  const file = join(options.folder, kept.runs[0].captures['b'] ?? '')
  assert.equal(await readFile(file, 'utf8'), 'pcap of b')

  const dropped = await runMatrix({ ...options, captures: true })
  assert.deepEqual(dropped.runs[1]?.captures, {})
  await assert.rejects(readFile(file.replace('none+symmetric', 'symmetric+none')), { code: 'ENOENT' })
})

async function fake(
  t: TestContext,
  programs: Partial<Record<Role, string>>,
): Promise<{ options: MatrixOptions; log: string[] }> {
  const folder = await mkdtemp(join(tmpdir(), 'natwork-matrix-'))
  t.after(() => rm(folder, { recursive: true }))
  const command = (role: Role): string[] => ['sh', '-c', programs[role] ?? READY]
  const adapter: Adapter = {
    name: 'fake',
    description: 'Shell scripts.',
    version: '1',
    commands: { helper: command('helper'), a: command('a'), b: command('b') },
  }
  const log: string[] = []
  const direct = { sentByA: 300_000, receivedByB: 300_000, helperIn: 3_000, helperOut: 3_000 }
  return {
    log,
    options: {
      adapter,
      pairs,
      runs: 1,
      timeoutMs: 20_000,
      parallel: 1,
      folder,
      captures: false,
      environment: {},
      createStage: fakeStage(log, direct),
    },
  }
}

/** `moved` is what the wires have carried between the first and the second look. */
function fakeStage(log: string[], moved: Awaited<ReturnType<Stage['traffic']>>) {
  return (a: string, b: string): Promise<Stage> => {
    log.push(`create ${a} ${b}`)
    let looks = 0
    return Promise.resolve({
      helperAddresses: ['192.0.2.10', '2001:db8:0:1::a'],
      exec: (role, [program = '', ...args], env) => {
        log.push(role)
        return spawn(program, args, { env })
      },
      traffic: () => {
        const times = looks++ // 0, moved, moved, 2 × moved …: differences of 0 between runs
        const factor = Math.ceil(times / 2)
        return Promise.resolve({
          sentByA: factor * moved.sentByA,
          receivedByB: factor * moved.receivedByB,
          helperIn: factor * moved.helperIn,
          helperOut: factor * moved.helperOut,
        })
      },
      conntrack: () => Promise.resolve({ 'a-home': 'udp 17 …' }),
      capture: async (role, file) => {
        await writeFile(file, `pcap of ${role}`)
        return { stop: () => Promise.resolve() }
      },
      reset: () => {
        log.push('reset')
        return Promise.resolve()
      },
      [Symbol.asyncDispose]: () => {
        log.push('dispose')
        return Promise.resolve()
      },
    })
  }
}
