import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadAdapter } from '../../../src/lab/matrix/stacks.ts'
import { parseEvent, PAYLOAD, type DoneEvent } from '../../../src/lab/matrix/contract.ts'
import { choosePairs } from '../../../src/lab/matrix/pairs.ts'
import { cutMiddle } from '../../../src/lab/matrix/results.ts'
import { pairTopology, wireBytes } from '../../../src/lab/matrix/stage.ts'
import { decideVerdict, trafficSince } from '../../../src/lab/matrix/verdict.ts'
import { parseTopology } from '../../../src/lab/topology.ts'
import { kindNames } from '../../../src/sim/kinds.ts'

test('a line is an event only when it says all that the event needs', () => {
  assert.deepEqual(parseEvent('{"event":"ready"}'), { event: 'ready' })
  assert.deepEqual(parseEvent('{"event":"ready","info":{"key":[1,"x",null]}}'), {
    event: 'ready',
    info: { key: [1, 'x', null] },
  })
  assert.deepEqual(parseEvent('{"event":"path","path":"direct","ms":12.5}'), {
    event: 'path',
    path: 'direct',
    ms: 12.5,
  })
  assert.equal(parseEvent('{"event":"done","ms":1}')?.event, 'done')
  for (const line of [
    '',
    'listening on 443',
    '{"event":"ready"',
    '[]',
    '{"event":"done"}',
    '{"event":"done","ms":-1}',
    '{"event":"done","ms":"1"}',
    '{"event":"path","path":"magic","ms":1}',
    '{"event":"failed"}',
    `{"event":"failed","reason":"${'x'.repeat(2_000)}"}`,
    '{"event":"other"}',
  ]) {
    assert.equal(parseEvent(line), undefined, line)
  }
})

test('the counters decide, not the program', () => {
  const done: DoneEvent = { event: 'done', ms: 1, path: 'direct' }
  const moved = { sentByA: 300_000, receivedByB: 299_000, helperIn: 4_000, helperOut: 4_000 }
  assert.equal(decideVerdict(done, moved, PAYLOAD), 'direct')
  const through = { ...moved, helperIn: 290_000, helperOut: 291_000 }
  assert.equal(decideVerdict(done, through, PAYLOAD), 'relayed')
  // A helper that swallows without passing on is no relay.
  assert.equal(decideVerdict(done, { ...moved, helperIn: 290_000 }, PAYLOAD), 'direct')
  assert.equal(decideVerdict(done, { ...moved, receivedByB: 10_000 }, PAYLOAD), 'failed')
  assert.equal(decideVerdict(done, { ...moved, sentByA: 10_000 }, PAYLOAD), 'failed')
  assert.equal(decideVerdict(undefined, moved, PAYLOAD), 'failed')
  assert.deepEqual(trafficSince({ sentByA: 1, receivedByB: 2, helperIn: 3, helperOut: 4 }, moved), {
    sentByA: 299_999,
    receivedByB: 298_998,
    helperIn: 3_997,
    helperOut: 3_996,
  })
})

test('bytes on the wire are those of every interface but loopback', () => {
  const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    9000      10    0    0    0     0          0         0     9000      10    0    0    0     0       0          0
  eth0: 1234567     100    0    0    0     0          0         0   765432     200    0    0    0     0       0          0
eth1:      10       1    0    0    0     0          0         0       20       2    0    0    0     0       0          0
`
  assert.deepEqual(wireBytes(table), { received: 1_234_577, sent: 765_452 })
})

test('every pair of kinds is a topology; kinds that are about sharing share', () => {
  for (const a of kindNames) {
    for (const b of kindNames) {
      parseTopology(pairTopology(a, b))
      parseTopology(pairTopology(a, b, { delay: 50, loss: 0.1 }))
    }
  }
  assert.deepEqual(pairTopology('none', 'dmz', { delay: 50, loss: 0.1 }), {
    hosts: { helper: { addresses: 4, path: { loss: 0.1 } } },
    sites: {
      a: { routers: ['none'], path: { loss: 0.1, delay: 50 } },
      b: { routers: ['dmz'], path: { loss: 0.1, delay: 50 } },
    },
  })
  assert.deepEqual(pairTopology('hairpin', 'hairpin').sites, { a: { routers: ['hairpin'], clients: 2 } })
  assert.deepEqual(pairTopology('hairpin', 'symmetric').sites, {
    a: { routers: ['hairpin'] },
    b: { routers: ['symmetric'] },
  })
  const carrier = pairTopology('same-cgn', 'same-cgn').sites['b']
  assert.ok(typeof carrier === 'object')
  assert.equal(carrier.behind, 'a')
  assert.equal(carrier.routers.length, 1)
})

test('an adapter file: commands beside it, one line for what is wrong', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'natwork-adapter-'))
  const write = async (value: unknown): Promise<string> => {
    const file = join(folder, 'mine.json')
    await writeFile(file, typeof value === 'string' ? value : JSON.stringify(value))
    return file
  }
  const mine = {
    name: 'mine',
    description: 'My program.',
    version: '3',
    helper: ['python3', './helper.py'],
    a: ['../bin/mine', '--call'],
    b: ['/usr/bin/mine', 'b'],
  }
  try {
    assert.deepEqual(await loadAdapter(await write(mine)), {
      name: 'mine',
      description: 'My program.',
      version: '3',
      commands: {
        helper: ['python3', join(folder, 'helper.py')],
        a: [join(folder, '../bin/mine'), '--call'],
        b: ['/usr/bin/mine', 'b'],
      },
    })
    const rejects = async (value: unknown, message: RegExp): Promise<void> => {
      await assert.rejects(loadAdapter(await write(value)), { code: 'ERR_NATWORK_LAB_ADAPTER', message })
    }
    await rejects('{', /mine\.json is not JSON$/)
    await rejects({ ...mine, name: '../../etc' }, /: name must be 1–40/)
    await rejects({ ...mine, b: [] }, /: b /)
    await rejects({ ...mine, c: ['x'] }, /Unrecognized key.*"c"/)
  } finally {
    await rm(folder, { recursive: true })
  }
  await assert.rejects(loadAdapter('nothing'), {
    code: 'ERR_NATWORK_LAB_ADAPTER',
    message: /there is no stack "nothing": there are .*hyperdht/,
  })
  await assert.rejects(loadAdapter('missing.json'), { message: /cannot read the adapter .*missing\.json$/ })
})

test('a long log keeps its beginning and its end', () => {
  const text = `${'a'.repeat(100)}${'b'.repeat(100)}`
  assert.equal(cutMiddle(text, 200), text)
  assert.equal(cutMiddle(text, 20), `${'a'.repeat(10)}\n… 180 characters …\n${'b'.repeat(10)}`)
})

test('pairs are chosen by kinds, by pairs, or are all there are', () => {
  assert.equal(choosePairs({}).length, kindNames.length ** 2)
  assert.deepEqual(choosePairs({ kinds: 'none, symmetric' }), [
    ['none', 'none'],
    ['none', 'symmetric'],
    ['symmetric', 'none'],
    ['symmetric', 'symmetric'],
  ])
  assert.deepEqual(choosePairs({ pairs: 'none+dmz,dmz+none,none+dmz' }), [
    ['none', 'dmz'],
    ['dmz', 'none'],
  ])
  assert.equal(choosePairs({ kinds: 'none', pairs: 'none+none,none+dmz' }).length, 2)
  const unknown = { code: 'ERR_NATWORK_LAB_UNKNOWN_KIND' }
  assert.throws(() => choosePairs({ kinds: 'cone' }), {
    ...unknown,
    message: /there is no router kind "cone"; there are: none,/,
  })
  assert.throws(() => choosePairs({ pairs: 'none' }), {
    ...unknown,
    message: '"none" is not a pair: write symmetric+full-cone',
  })
})
