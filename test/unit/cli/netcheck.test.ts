// 3 s. `natwork netcheck` against a server of our own on loopback: what it prints, and how it ends.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { test, type TestContext } from 'node:test'
import { run, type Process } from '../../../src/cli/program.ts'
import { formatAddress } from '../../../src/core/address.ts'
import { UdpEndpoint } from '../../../src/socket/index.ts'
import { StunService } from '../../../src/stun/index.ts'

/** The router of whoever runs the tests is not asked. */
const quiet = { NATWORK_PORT_MAPPING: 'false' }

async function netcheck(
  t: TestContext,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  const home = mkdtempSync(join(tmpdir(), 'natwork-netcheck-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const streams = { stdin: new PassThrough(), stdout, stderr }
  const env = { HOME: home, XDG_CONFIG_HOME: home, XDG_STATE_HOME: home, XDG_RUNTIME_DIR: home, ...quiet }
  const ignore = (): void => undefined
  const process = { env, ...streams, on: ignore, off: ignore, exit: ignore } as unknown as Process
  const code = await run(['netcheck', ...args], process)
  stdout.end()
  stderr.end()
  return { code, out: await text(stdout), err: await text(stderr) }
}

/** Two free UDP ports of both addresses; another program may be quicker, then the next two are tried. */
async function startServer(t: TestContext): Promise<string> {
  for (;;) {
    const ports = await Promise.all([0, 0].map((port) => UdpEndpoint.bind({ host: '127.0.0.1', port })))
    const [port, other] = ports.map(({ address }) => address.port)
    await Promise.all(ports.map((one) => one.close()))
    const options = { host: '127.0.0.1', port: port!, alternate: { host: '127.0.0.2', port: other! } }
    const service = await StunService.listen({ ...options, tcp: false }).catch((error: unknown) => {
      if ((error as { code?: string }).code !== 'ERR_NATWORK_SOCKET_IN_USE') throw error
      return undefined
    })
    if (service === undefined) continue
    t.after(() => service.close())
    return `stun:${formatAddress(service.udpAddresses[0]!)}`
  }
}

test('without a NAT: every verdict, for programs and for people', async (t) => {
  const server = await startServer(t)
  const { code, out, err } = await netcheck(t, server, '--json')
  assert.deepEqual([code, err], [0, ''])
  type Findings = Record<string, { value: unknown; observations: string[]; meaning: string }>
  const { ipv4: seen, ipv6, ...here } = JSON.parse(out) as Findings & { ipv4: Findings; ipv6: null }
  const words = ['udp', 'translation', 'mapping', 'filtering', 'ports', 'hairpin', 'mtu']
  assert.deepEqual(
    words.map((word) => seen[word]!.value),
    [true, 'none', 'endpoint-independent', 'endpoint-independent', 'preserving', 'none', 1500],
  )
  assert.equal(ipv6, null)
  assert.equal(seen['lifetime'], null)
  assert.equal(here['doubleNat']!.value, false)
  assert.equal(here['portMapping']!.meaning, 'not asked')
  for (const word of words) {
    assert.ok(seen[word]!.observations.length > 0 && seen[word]!.meaning.length > 0, word)
  }
  assert.match(String(seen['publicAddress']!.value), /^127\.0\.0\.1:\d+$/)

  const people = await netcheck(t, server)
  assert.equal(people.code, 0)
  assert.match(people.out, /packet size +1500 bytes +full Ethernet packets pass/)
  assert.match(people.out, /double NAT +no +at most one NAT/)
  assert.match(people.out, /mapping +endpoint-independent +one address for all/)
  assert.match(people.out, /127\.0\.0\.2:\d+ +127\.0\.0\.1:\d+ +[\d.]+ ms/)
})

test('a server that is not there: said, and the exit code for scripts', async (t) => {
  const silent = await UdpEndpoint.bind({ host: '127.0.0.1', port: 0 })
  t.after(() => silent.close())
  const { code, out, err } = await netcheck(t, `stun:${formatAddress(silent.address)}`)
  assert.equal(code, 5)
  assert.match(out, /UDP +blocked \(likely\)/)
  assert.match(err, /no STUN server answers/)
})

for (const [why, args, message] of [
  ['no server', [], /no STUN server to ask: write/],
  ['no URI', ['example.org'], /not a STUN URI: write stun:/],
  ['TLS', ['stuns:example.org'], /only stun: over UDP/],
  ['a lifetime too short', ['stun:127.0.0.1:1', '--lifetime', '1'], /--lifetime 1: give seconds, 5 to 3600/],
  ['no port', ['stun:127.0.0.1:1', '--port', 'x'], /port/],
] as const) {
  test(`a mistake on the command line: ${why}`, async (t) => {
    const { code, err } = await netcheck(t, ...args)
    assert.equal(code, 2)
    assert.match(err, message)
  })
}
