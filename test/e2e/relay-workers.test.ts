// `natwork relay --workers`: several processes that are one relay to their clients. About 10 seconds.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { Probe } from '../../src/cli/relay/probe.ts'
import type { RelayStatus } from '../../src/cli/relay/admin.ts'
import { parseAddress, type SocketAddress } from '../../src/core/index.ts'
import { Attribute, Method } from '../../src/stun/index.ts'
import { EVEN_PORT_RESERVE, TransportProtocol, writeChannelData } from '../../src/turn/index.ts'
import { findProgram } from '../../scripts/system.mjs'
import { Home, root, run, start } from './natwork.ts'

const user = { username: 'alice', password: 'wonderland' }
const QUOTA = 40

async function client(
  t: TestContext,
  server: SocketAddress,
  transport: 'udp' | 'tcp' = 'udp',
): Promise<Probe> {
  const probe = await Probe.open(server, transport, user)
  t.after(() => {
    probe.abandon()
  })
  return probe
}

test('mistakes about workers: one line says what to write', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'relay.yaml')
  const cases: [string, string[], RegExp][] = [
    ['workers: 0', [], /relay\.yaml:3: workers: write a number of 1–64/],
    ['', ['--workers', 'all'], /--workers all: write a number of 1–64/],
    ['tcpRelaying: true', ['--workers', '2'], /relay\.yaml: `tcpRelaying` needs `workers: 1`/],
  ]
  for (const [line, flags, expected] of cases) {
    writeFileSync(file, `realm: x\nusers: { a: b }\n${line}\n`)
    const { code, stderr } = await run(t, home, ['relay', '--config', file, ...flags])
    assert.match(stderr, expected)
    assert.equal(stderr.trim().split('\n').length, 1, stderr)
    assert.equal(code, 2)
  }
})

test('where calls in bulk are refused, several workers are refused in words', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'relay.yaml')
  const library = join(home.path, 'faults.so')
  const source = join(root, 'test/unit/socket/fixtures/faults.c')
  execFileSync(findProgram('cc') ?? 'cc', ['-shared', '-fPIC', '-O1', '-o', library, source])
  writeFileSync(file, 'realm: x\nusers: { a: b }\nlisten: ["udp:127.0.0.1:0"]\nworkers: 2\nadmin: false\n')
  Object.assign(home.env, { LD_PRELOAD: library, NATWORK_FAULTS: 'no-batches' })
  const { code, stderr } = await run(t, home, ['relay', '--config', file])
  assert.match(stderr, /several workers need the native UDP driver \(Linux\): set `workers: 1`/)
  assert.equal(code, 2)
})

test('several workers are one relay', async (t) => {
  const home = new Home(t)
  const file = join(home.path, 'relay.yaml')
  const settings = (users: string): string =>
    [
      'realm: example.org',
      'listen: ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]',
      'relay: { addresses: [127.0.0.1] }',
      'peers: { allow: [127.0.0.1] }',
      `users: ${users}`,
      `limits: { allocationsPerUser: ${QUOTA} }`,
      'admin: 127.0.0.1:0',
      'workers: 2',
      '',
    ].join('\n')
  writeFileSync(file, settings('{ alice: wonderland }'))
  const relay = start(t, home, ['relay', '--json', '--config', file])
  const [, listens = '', admin = ''] = await relay.sees(/"event":"up".*"listens":\[(.*?)\],"admin":"(.*?)"/)
  const [udp, tcp] = (JSON.parse(`[${listens}]`) as string[]).map(parseAddress)
  assert.ok(udp !== undefined && tcp !== undefined)
  assert.equal(tcp.port, udp.port, 'one number for clients')
  const status = async (): Promise<RelayStatus> =>
    (await (await fetch(`http://${admin}/status`)).json()) as RelayStatus

  // All of the quota and more, from sockets of their own.
  const probes: Probe[] = []
  const relayed: SocketAddress[] = []
  let refused = 0
  for (let n = 0; n < QUOTA + 8; n++) {
    const probe = await client(t, udp)
    const { code, view } = await probe.allocate()
    if (code === 486) refused++
    else {
      assert.equal(code, 0)
      probes.push(probe)
      relayed.push(view.xorAddress(Attribute.XorRelayedAddress) ?? udp)
    }
  }
  assert.equal(probes.length, QUOTA, 'the quota holds over all workers')
  assert.equal(refused, 8)
  const before = await status()
  assert.equal(before.allocationCount, QUOTA)
  assert.equal(before.workers.length, 2)
  assert.ok(
    before.workers.every(({ allocations }) => allocations > 0),
    'both are used',
  )
  const metrics = await (await fetch(`http://${admin}/metrics`)).text()
  assert.match(metrics, new RegExp(`^natwork_relay_allocations_made_total ${QUOTA}$`, 'm'))
  assert.match(metrics, /^natwork_relay_errors_total\{code="486"\} 8$/m)
  assert.match(metrics, /^natwork_relay_workers 2$/m)

  // Clients of different workers reach each other by their relayed addresses: at most one of these is on the first's.
  const workerOf = new Map(before.allocations.map((one) => [one.relayed[0], one.worker]))
  const at = relayed.findIndex((one) => workerOf.get(text(one)) !== workerOf.get(text(relayed[0]!)))
  const [one, other] = [probes[0]!, probes[at]!]
  assert.equal((await one.bind(0x4001, relayed[at]!)).code, 0)
  assert.equal((await other.bind(0x4001, relayed[0]!)).code, 0)
  const message = Buffer.alloc(4 + 5)
  writeChannelData(message, 0x4001, Buffer.from('hello'), false)
  const arrived = new Promise<Buffer>((resolve) => (other.onUnasked = resolve))
  one.send(message)
  assert.equal((await arrived).subarray(4, 9).toString(), 'hello')

  // What needs the same process again is not to be had.
  const even = await client(t, udp)
  const reserve = await even.request(Method.Allocate, (request) =>
    request
      .uint8(Attribute.RequestedTransport, TransportProtocol.Udp, true)
      .uint8(Attribute.EvenPort, EVEN_PORT_RESERVE),
  )
  assert.equal(reserve.code, 508)
  const mobile = await even.request(Method.Allocate, (request) =>
    request
      .uint8(Attribute.RequestedTransport, TransportProtocol.Udp, true)
      .bytes(Attribute.MobilityTicket, new Uint8Array(0)),
  )
  assert.equal(mobile.code, 405)

  // One dies: the clients of the other notice nothing, its own allocate again at the same address.
  const [victim] = before.workers
  process.kill(victim!.pid, 'SIGKILL')
  await relay.sees(/a worker ended: its clients have to allocate again/)
  await relay.sees(/a worker was started again/)
  const lost = victim!.allocations
  const codes = await Promise.all(probes.map(async (probe) => (await probe.request(Method.Refresh)).code))
  assert.equal(codes.filter((code) => code === 0).length, QUOTA - lost)
  assert.equal(codes.filter((code) => code === 437).length, lost)
  const again = await Promise.all(probes.filter((_, n) => codes[n] === 437).map((probe) => probe.allocate()))
  assert.ok(
    again.every(({ code }) => code === 0),
    'what the dead one had counts no more',
  )
  const after = await status()
  assert.equal(after.allocationCount, QUOTA)
  assert.equal(after.workers.find(({ number }) => number === victim!.number)?.allocations, lost)
  assert.equal(after.restarts, 1)

  // Both take the new settings; TCP connections go to both.
  writeFileSync(file, settings('{ alice: wonderland, bob: builder }'))
  relay.child.kill('SIGHUP')
  await relay.sees(/settings read again/)
  for (let n = 0; n < 6; n++) {
    const probe = await Probe.open(n < 2 ? tcp : udp, n < 2 ? 'tcp' : 'udp', {
      username: 'bob',
      password: 'builder',
    })
    assert.equal((await probe.allocate()).code, 0)
    await probe.close()
  }

  relay.child.kill('SIGTERM')
  await relay.sees(/"msg":"draining"/)
  const late = await client(t, udp)
  assert.equal((await late.allocate()).code, 508)
  await Promise.all(probes.map((probe) => probe.close()))
  assert.equal(await relay.ended, 0)
  assert.doesNotMatch(relay.stdout + relay.stderr, /wonderland|builder/, 'a secret in the log')
})

function text({ address, port }: SocketAddress): string {
  return `${address}:${port}`
}
