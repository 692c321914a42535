import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import fc from 'fast-check'
import { exitCodeOf } from '../../../src/cli/exit-codes.ts'
import { createLogger } from '../../../src/cli/log.ts'
import { parseDuration, parseListenAddress, readHostPort, writeHostPort } from '../../../src/cli/names.ts'
import { createOutput, formatAge, formatBytes, styleOf, table } from '../../../src/cli/output.ts'
import { showProgress } from '../../../src/cli/progress.ts'
import { NatworkError, PeerError, SystemError, UsageError } from '../../../src/core/index.ts'

/** A stream that remembers; `colours` makes it a terminal. */
function sink(terminal?: { colours: boolean }) {
  const stream = new PassThrough() as unknown as NodeJS.WriteStream
  if (terminal !== undefined) {
    Object.assign(stream, { isTTY: true, hasColors: () => terminal.colours })
  }
  // Since Node 26 each read gives what one write brought.
  const text = (): string => {
    const parts: Buffer[] = []
    for (
      let part: Buffer | null;
      (part = (stream as unknown as PassThrough).read() as Buffer | null) !== null;
    )
      parts.push(part)
    return Buffer.concat(parts).toString()
  }
  return { stream, text }
}

test('results are text for people and one JSON value a line for programs', () => {
  for (const json of [false, true]) {
    const [stdout, stderr] = [sink(), sink()]
    const output = createOutput(json, { stdout: stdout.stream, stderr: stderr.stream })
    output.result({ a: 1 }, (style) => style.bold('one'))
    output.error(new PeerError('ERR_NATWORK_TIMEOUT', 'no answer'))
    assert.equal(stdout.text(), json ? '{"a":1}\n' : 'one\n')
    assert.equal(
      stderr.text(),
      json ? '{"error":{"code":"ERR_NATWORK_TIMEOUT","message":"no answer"}}\n' : 'natwork: no answer\n',
    )
  }
})

test('colours only on a terminal that wants them', () => {
  assert.equal(styleOf(sink().stream).red('x'), 'x')
  assert.equal(styleOf(sink({ colours: false }).stream).red('x'), 'x')
  assert.equal(styleOf(sink({ colours: true }).stream).red('x'), '\u001b[31mx\u001b[39m')
})

test('progress is shown on a terminal and nowhere else', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const terminal = sink({ colours: false })
  const end = showProgress(terminal.stream, () => ({ sent: 1_024, received: 0 }))
  t.mock.timers.tick(1_000)
  assert.match(terminal.text(), /↑ 1\.0 KiB {2}↓ 0 B {2}0 B\/s/)
  end()
  assert.equal(terminal.text(), '\r\u001b[K')
  const pipe = sink()
  showProgress(pipe.stream, () => ({ sent: 1, received: 1 }))()
  t.mock.timers.tick(1_000)
  assert.equal(pipe.text(), '')
})

test('the log takes the message first: JSON in a pipe, lines on a terminal', () => {
  const pipe = sink()
  createLogger('info', pipe.stream, false).info('hello', { peer: 'b' })
  const { msg, peer, level } = JSON.parse(pipe.text()) as Record<string, unknown>
  assert.deepEqual({ msg, peer, level }, { msg: 'hello', peer: 'b', level: 30 })
  const terminal = sink({ colours: false })
  const logger = createLogger('warn', terminal.stream, false)
  logger.info('not shown')
  logger.warn('shown', { port: 1315, why: 'because' })
  assert.match(terminal.text(), /^\d\d:\d\d:\d\d warn {2}shown port=1315 why=because\n$/)
})

test('every class of error has its exit code', () => {
  assert.equal(exitCodeOf(new Error('a bug')), 1)
  assert.equal(exitCodeOf(new UsageError('ERR_NATWORK_CONFIG', '')), 2)
  assert.equal(exitCodeOf(new SystemError('ERR_NATWORK_BIND', '')), 3)
  assert.equal(exitCodeOf(new NatworkError('ERR_NATWORK_NO_NODE', '')), 4)
  assert.equal(exitCodeOf(new PeerError('ERR_NATWORK_NODE_UNKNOWN', '')), 5)
  assert.equal(exitCodeOf(new PeerError('ERR_NATWORK_SERVICE_DENIED', '')), 6)
  assert.equal(exitCodeOf(new PeerError('ERR_NATWORK_IDENTITY', '')), 6)
})

test('addresses read back as they were written', () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain())
  fc.assert(
    fc.property(host, fc.nat(65_535), (name, port) => {
      assert.deepEqual(readHostPort(writeHostPort({ host: name, port })), { host: name, port })
    }),
  )
  for (const text of ['', ':80', 'a', 'a:', 'a:65536', 'a b:1', '[a]:1', '::1:80', 'http://a:80']) {
    assert.equal(readHostPort(text), undefined, text)
  }
})

test('where to listen, and how long', () => {
  assert.deepEqual(parseListenAddress('8080'), { host: '127.0.0.1', port: 8080 })
  assert.deepEqual(parseListenAddress('[::1]:0'), { host: '::1', port: 0 })
  assert.throws(() => parseListenAddress('70000'), { code: 'ERR_NATWORK_ARGUMENT', message: /write a port/ })
  assert.deepEqual(['90s', '30m', '12h', '7d'].map(parseDuration), [90, 1_800, 43_200, 604_800])
  for (const text of ['', '7', '0d', '-1d', '7w', '1.5h']) {
    assert.throws(() => parseDuration(text), { code: 'ERR_NATWORK_ARGUMENT' }, text)
  }
})

test('numbers for people', () => {
  assert.deepEqual([0, 1_023, 1_536, 5 * 1_073_741_824].map(formatBytes), [
    '0 B',
    '1023 B',
    '1.5 KiB',
    '5.0 GiB',
  ])
  assert.deepEqual([5.9, 65, 7_800, 90_000].map(formatAge), ['5s', '1m 5s', '2h 10m', '1d 1h'])
  assert.equal(
    table(styleOf(sink().stream), [
      ['A', 'B'],
      ['long', 'x'],
    ]),
    'A     B\nlong  x',
  )
})
